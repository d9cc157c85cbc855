/// What `--help` prints. The manual page, man/vnvram-swtpm.8, has the same at more length.
enum Help {
  static let text = """
    vnvram-swtpm: a TPM whose state is sealed in a vnvram image, with swtpm's command line

    Usage: vnvram-swtpm socket [OPTIONS]

    The TPM and its state, as in swtpm:
      --tpm2             A TPM 2.0. Without it, a TPM 1.2.
      --tpmstate dir=FOLDER[,mode=0600][,lock][,fsync][,backup]
      --tpmstate backend-uri=dir://FOLDER
                         The image is FOLDER/tpm2-00.permall, or tpm-00.permall for a TPM 1.2. With --key or
                         --keyring-key it is made on first use, with this mode, where there never was one. lock, fsync
                         and backup always hold.
      --tpmstate backend-uri=file://PATH
                         The image is this file or block device; with --make-on-first-use it is made there.
      --tpmstate backend-uri=vnvram://IMAGE
                         This image; `vnvram format IMAGE --key NAME --profile tpm2` (or tpm1.2) makes one.
      --key file=FILE|fd=N[,format=hex|binary][,mode=aes-cbc|aes-256-cbc][,remove]
      --key pwdfile=FILE|pwdfd=N[,kdf=pbkdf2|sha512][,mode=aes-cbc|aes-256-cbc][,remove]
                         A key or a password that opens the image, instead of keys of the kernel's. It takes the place
                         of --keyring-key in a file of options. States leave and come under it over the control channel,
                         where they aren't asked for in clear.
      --flags [not-need-init][,startup-clear|startup-state|startup-deactivated|startup-none][,disable-auto-shutdown]
                         not-need-init: power on without waiting for INIT; startup-…: and send TPM2_Startup;
                         disable-auto-shutdown: don't send the TPM2_Shutdown that a killed guest didn't send.
      --profile name=NAME|profile={JSON}|file=FILE|fd=N[,remove-disabled=check|fips-host]
                         The profile of a TPM 2.0: "null", which is what libtpms 0.9 has; another one is refused.
      --locality [reject-locality-4][,allow-set-locality]
                         reject-locality-4: nobody gets it; allow-set-locality: obey the kernel's command to set it.

    Where clients come in, as in swtpm:
      --server [type=tcp,]port=PORT[,bindaddr=ADDRESS[,ifname=NAME]][,disconnect]
      --server type=unixio,path=PATH[,mode=0600][,uid=USER][,gid=GROUP][,disconnect]
      --server fd=N      TPM commands: on TCP (127.0.0.1 unless told otherwise), a Unix socket, or from one client that
                         is connected already; with it the server ends. disconnect: hang up after each response.
      -p, --port PORT    As --server type=tcp,port=PORT,disconnect.
      -f, --fd N         As --server fd=N.
      --ctrl type=tcp,port=PORT… | type=unixio,path=PATH… | type=unixio,fd=N | type=unixio,clientfd=N[,terminate]
                         The control channel: QEMU, swtpm_ioctl. fd=N listens already, clientfd=N is a client;
                         terminate: end when the last client hangs up. N may be 0, 1 or 2, as inetd and systemd
                         (StandardInput=socket) have it: messages don't go there then. Of what lies where a Unix socket
                         is to be, a dead server's socket and an empty file of one's own are replaced; anything else
                         stays, and ends the server.
      -t, --terminate    End when the last client of the data channel hangs up.

    Migration, as in swtpm:
      --migration-key …  As --key. Encrypts the state when it is handed out to migrate. Without it, it goes in clear.
      --migration [release-lock-outgoing][,incoming]
                         release-lock-outgoing: let others have the image when the state has gone out; incoming: take
                         the image only when it is needed, since another server still has it; where a folder has none,
                         one is made for the state that comes, and removed if none does.

    The process, as in swtpm:
      -d, --daemon       Go on in the background. Ends with 0 once the server serves, else with its status and message.
      --pid file=FILE|fd=N
                         Write the process number there once the sockets listen: the monitor's, whose child is the TPM's
                         own process. SIGTERM to the monitor ends both. A FILE is removed in the end.
      --log file=FILE|fd=N[,level=N][,prefix=PREFIX][,truncate]
                         Messages go there, and to standard error until the server serves; file=- for none at all.
                         Every level has the same: no message ever shows a TPM's commands or a secret.
      --seccomp action=kill|log|none
                         What to do on a system call that a TPM server doesn't need: end (the default), log it, or allow
                         all.
      -r, --runas USER   Go on as USER once image and sockets are open; for root only. Keys are looked for in USER's
                         keyrings and in the session's, and the record of uses is USER's to write: by default
                         /var/log/vnvram/USER/audit.jsonl, whose folder is made.

    systemd: a unit of Type=notify hears READY=1, STATUS= with the keys that are waited for, STOPPING=1, and with
    --daemon MAINPID= (NOTIFY_SOCKET). Sockets of a socket unit (LISTEN_FDS) become the channels that no option names:
    FileDescriptorName=ctrl is --ctrl, server is --server; of others the first is --ctrl and the second --server.

    Instead of serving, as in swtpm:
      --print-capabilities
                         JSON: what of swtpm's this program has.
      --print-states     JSON: which states --tpmstate has. An image that no key here opens counts as a state; swtpm's
                         own state is an error.
      --print-info FLAGS JSON: what the TPM is; 1 its specification, 2 its maker, 4 its key sizes, 8 its algorithms,
                         0x10 its commands, 0x20 its profile, 0x40 the profiles that there are, 0x80 its attributes, or
                         a sum.
      --print-profiles   JSON: the profiles that there are, as --print-info 0x40.
      -h, --help; -v, --version

    Ours:
      --keyring-key NAME The only kernel key that opens the image, and that one which is made here is sealed for. %u in
                         it stands for the UUID in the image's path: libvirt's folders have one; %n for the name of the
                         state's folder, or of the file or device.
      --make-on-first-use[=yes|no]
                         Make an image in a PATH of backend-uri=file:// that is all zeros, empty, or not there. Once for
                         each path and device: a marker on this host (`vnvram marker`) keeps it from happening again.
                         The default is no.
      --fail-on-encrypted-drive[=yes|no]
                         What to do when no key of the image is in the keyring. yes (the default): say which are missing
                         and refuse INIT, or, with not-need-init, end with status 3. no: power the TPM on when a key
                         comes. SIGUSR1 has the server look for keys at once.
      --upcall[=yes|no]  Whether a key that is in no keyring is asked for: the kernel runs /sbin/request-key, whose
                         rules name programs that may have it (Keys/README.md). The default is yes.
      --key-timeout SECONDS
                         How long to wait for a key, where it is waited for; after that end with status 13. The default
                         is for ever.
      --on-key-loss lock|keep
                         What to do when the key is revoked, expires, is taken away or changed while the TPM runs. lock
                         (the default): drop all keys; commands that may store something are answered with
                         TPM_RC_NV_UNAVAILABLE until a key is back. keep: go on.
      --audit FILE|none  Where uses of keys are recorded (see vnvram format --help). The file and the folder that it
                         lies in must be nobody else's to write. none: nowhere, which the log says.
      --require-audit    Refuse (status 15) where uses of keys would be recorded nowhere.
      --anchor ANCHOR    What remembers how far the image had come, so that an older copy of it is refused with status
                         7: a file or directory; tpm:INDEX,FILE[,tcti=CONFIGURATION]; generation:N; none. The default is
                         VNVRAM_ANCHOR. `vnvram format --anchor` makes it.

    Of swtpm's interfaces there is socket alone, and no chardev or cuse, which make a device of the host: where this
    program has swtpm's name (make install-as-swtpm), they run the swtpm that was put aside as swtpm.distrib. Of
    swtpm's, refused: -R, --chroot (the server confines itself; --runas); --pcap (a TPM's commands hold secrets). States
    that swtpm made are not served as they are, wherever they lie: `vnvram import-swtpm` brings them over.

    Options for every server of a host, which no manager of virtual machines need know of: \(OptionsFile.standardPath),
    or the file that VNVRAM_SWTPM_OPTIONS names (none: no file). One a line, as above, of --keyring-key,
    --make-on-first-use, --fail-on-encrypted-drive, --upcall, --key-timeout, --on-key-loss, --anchor, --audit,
    --require-audit, --seccomp; # begins a comment. The command line has the last word, but where a line begins with the
    word always ("always --audit FILE"): then another value there is refused with status 15, and naming another file
    doesn't help, where it is the standard one's. The file must be root's or the user's own, and nobody else's to write.

    Example:
      vnvram key generate vm7
      vnvram format vm7.vnvram --key vm7 --profile tpm2
      vnvram-swtpm socket --tpm2 --tpmstate backend-uri=vnvram://vm7.vnvram \\
        --server type=tcp,port=2321 --ctrl type=tcp,port=2322 --flags not-need-init,startup-clear &
      tpm2_getrandom -T swtpm:host=127.0.0.1,port=2321 --hex 8

    For QEMU, with socket and PID file in a folder below which no image lies:
      mkdir -m 700 vm7.run
      vnvram-swtpm socket --tpm2 --tpmstate backend-uri=vnvram://vm7.vnvram --daemon --terminate \\
        --ctrl type=unixio,path=vm7.run/tpm.sock --log file=vm7.log --pid file=vm7.run/pid
      qemu-system-x86_64 -chardev socket,id=tpm,path=vm7.run/tpm.sock -tpmdev emulator,id=tpm,chardev=tpm \\
        -device tpm-crb,tpmdev=tpm

    As libvirt runs it:
      vnvram-swtpm socket --ctrl type=unixio,path=PATH,mode=0600 --tpmstate dir=FOLDER,mode=0600 --log file=FILE \\
        --terminate --tpm2 [--key pwdfd=N,mode=aes-256-cbc --migration-key pwdfd=N,mode=aes-256-cbc]

    The exit statuses are those of vnvram: 0 done, 2 usage, 3 key missing, 4 wrong key, 5 key unusable, 6 not authentic,
    7 rolled back, 8 not an image, 9 in use, 10 no space, 11 input/output, 12 audit, 13 timed out, 14 no entry for a
    TPM's state, 15 refused: not encrypted, a file of options that others may write to, or that doesn't allow it.

    """
}
