import Glibc
import Primitives

/// Resident memory of a `vnvram-swtpm` that has started its TPM and answers nobody. The script beside the Makefile's `bench`
/// starts it and passes its process number.
func benchmarkServer(process: Int, _ table: inout Table) {
  guard let file = unsafe fopen("/proc/\(process)/status", "r") else { return }
  defer { unsafe fclose(file) }
  var line = [CChar](repeating: 0, count: 256)
  while unsafe fgets(&line, 256, file) != nil {
    let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    guard text.hasPrefix("VmRSS:") else { continue }
    let kilobytes = Int(text.filter(\.isNumber)) ?? 0
    table.add(
      "resident memory of an idle vnvram-swtpm, MB", Table.number(Double(kilobytes) * 1024 / 1e6), "", nil, "≤ 12")
  }
}
