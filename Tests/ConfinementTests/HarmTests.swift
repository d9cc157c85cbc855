import Foundation
import TestSupport
import Testing

@testable import Confinement

/// What a process that was taken over could do to others: every call that would harm, made from inside.
@Suite struct HarmTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let role: String
    let hasLandlock: Bool
    let user: String

    var testDescription: String { "\(role), \(hasLandlock ? "" : "no ")landlock, \(user == "-" ? "own user" : user)" }
    var isRoot: Bool { user == "-" && geteuid() == 0 }
    /// Where the column of its role is.
    var column: Int { role == "worker" ? 1 : 2 }

    static let all: [Case] = ["worker", "monitor"].flatMap { role in
      (Landlock.version == nil ? [false] : [true, false]).flatMap { hasLandlock in
        (geteuid() == 0 ? ["-", "nobody"] : ["-"]).map { Case(role: role, hasLandlock: hasLandlock, user: $0) }
      }
    }

    /// What a call comes to that SECURITY.md promises this of. EACCES is landlock's answer, and the filter's, as ENOSYS
    /// is.
    func isKept(_ promise: String, _ outcome: String) -> Bool {
      let isRefused = ["killed", "error \(EACCES)", "error \(ENOSYS)"].contains(outcome)
      return switch promise {
      case "no": isRefused
      case "yes": outcome == "done"
      case "without landlock": hasLandlock ? isRefused : outcome == "done"
      case "as root, without landlock": !hasLandlock && isRoot ? outcome == "done" : isRefused
      default: false
      }
    }
  }

  /// Calls that not all architectures have.
  private static let ofSomeArchitectures: Set = ["fork", "modify_ldt", "iopl"]

  @Test(arguments: Case.all) func asPromised(_ trial: Case) throws {
    let table = try SecurityTable("| what it would do | worker | monitor |")
    let outcomes = try Probe().harm(trial.role, landlock: trial.hasLandlock, user: trial.user)
    var listed: Set<String> = []
    for row in table.rows {
      for name in SecurityTable.names(row[3]) {
        #expect(listed.insert(name).inserted, "\(name) is in two rows")
        guard let outcome = outcomes[name] else {
          #expect(Self.ofSomeArchitectures.contains(name), "\(name) was not tried")
          continue
        }
        let promise = row[trial.column]
        #expect(trial.isKept(promise, outcome), "\(name): promised is \"\(promise)\", and it was \"\(outcome)\"")
      }
    }
    #expect(Set(outcomes.keys).subtracting(listed).isEmpty, "these are not in SECURITY.md")
  }
}
