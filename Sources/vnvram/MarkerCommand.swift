import ArgumentParser

/// `vnvram marker`: what this host remembers of the files and devices in which vnvram-swtpm made an image.
struct MarkerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "marker", abstract: "What this host remembers of images that vnvram-swtpm made in devices.",
    discussion: """
      With --make-on-first-use vnvram-swtpm makes an image in a blank file or device (--tpmstate backend-uri=file://PATH), and \
      this host remembers that in a marker, by path and device: should it be blank again, no new TPM is made in it. Another host \
      knows nothing of it. Markers are in VNVRAM_MARKERS, by default /var/lib/vnvram/made for root, or vnvram/made in \
      XDG_STATE_HOME or ~/.local/state.
      """,
    subcommands: [MarkerListCommand.self, MarkerForgetCommand.self])
}
