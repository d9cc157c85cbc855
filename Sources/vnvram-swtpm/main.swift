// A TPM whose state lies in a vnvram image, with swtpm's command line and protocols. What it does is in VTPM (the
// server and libtpms) and in VNVRAM (the store); here they are put together.
import Glibc
import ProgramIO
import VTPM

// Before anything of this process is changed that it would inherit.
SwtpmInterface.runDivertedProgram(CommandLine.arguments)
Server.blockKeySignal()
ProcessSetup.run()
exit(Program.run(Array(CommandLine.arguments.dropFirst())).rawValue)
