// The command line. Everything is in the files beside this one, a file a subcommand.
import Glibc

exit(Program.run(Array(CommandLine.arguments.dropFirst())))
