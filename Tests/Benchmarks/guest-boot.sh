#!/bin/bash
# How long a virtual machine takes from QEMU's start to its end, with vnvram-swtpm and with Debian's swtpm, alternating: it
# boots Debian's kernel, asks the TPM for random bytes and powers off. Prints the medians, the fastest, the 90th
# percentile, and the medians' ratio.
#
#   guest-boot.sh PROGRAMS [BOOTS]    the folder of vnvram and vnvram-swtpm; boots of each, 15 unless told otherwise
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=$(cd "${1:?usage: guest-boot.sh DIRECTORY-OF-THE-PROGRAMS [BOOTS]}" && pwd)
boots=${2:-15}
guest=$PWD/.build/guest
if [ ! -s "$guest/vmlinuz" ] || [ ! -s "$guest/initrd" ] || ! command -v qemu-system-x86_64 >/dev/null; then
  echo "guest boot: not measured; it needs qemu-system-x86 and Tools/prepare-guest.sh" >&2
  exit 0
fi
if [ "${VNVRAM_BOOT_SESSION:-}" != yes ]; then
  export VNVRAM_BOOT_SESSION=yes
  exec keyctl session - "$0" "$programs" "$boots" 2> >(grep -v '^Joined session keyring' >&2)
fi

folder=$(mktemp -d "${VNVRAM_BENCH_DIR:-$PWD/.build}/vnvram-boot.XXXXXX")
server=""
finish() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap finish EXIT
export VNVRAM_AUDIT_LOG=$folder/audit.jsonl
mkdir "$folder/swtpm"
"$programs/vnvram" key generate boot --keyring session >/dev/null
"$programs/vnvram" format "$folder/tpm.vnvram" --key boot --profile tpm2 >/dev/null

# boot NAME COMMAND...: one boot with that server; appends milliseconds to the file NAME.
boot() {
  local name=$1 socket=$folder/socket began ended
  shift
  rm -f "$socket"
  "$@" --ctrl "type=unixio,path=$socket" 2>>"$folder/log" &
  server=$!
  until grep -q "00010000 .* $socket\$" /proc/net/unix; do
    kill -0 "$server"
    sleep 0.01
  done
  began=$(date +%s%N)
  timeout 120 qemu-system-x86_64 -accel tcg -M q35 -m 256 -nodefaults -no-user-config -display none \
    -kernel "$guest/vmlinuz" -initrd "$guest/initrd" \
    -append "tsc=reliable no_timer_check lpj=1000000 cryptomgr.notests mitigations=off vnvram.measure" \
    -chardev "socket,id=socket,path=$socket" -tpmdev emulator,id=tpm,chardev=socket -device tpm-crb,tpmdev=tpm
  ended=$(date +%s%N)
  wait "$server" || true
  server=""
  echo $(((ended - began) / 1000000)) >>"$folder/$name"
}

# percentile NAME P
percentile() { sort -n "$folder/$1" | sed -n "$((($(wc -l <"$folder/$1") - 1) * $2 / 100 + 1))p"; }

# The first boot of each makes the TPM's state and isn't counted.
for ((n = 0; n <= boots; n++)); do
  boot vnvram-swtpm "$programs/vnvram-swtpm" socket --tpm2 --tpmstate "backend-uri=vnvram://$folder/tpm.vnvram"
  boot debian-swtpm swtpm socket --tpm2 --tpmstate "dir=$folder/swtpm"
  if [ "$n" -eq 0 ]; then rm "$folder/vnvram-swtpm" "$folder/debian-swtpm"; fi
done
for name in vnvram-swtpm debian-swtpm; do
  printf 'guest boot, %s: median %d ms, fastest %d ms, 90th percentile %d ms, %d boots\n' \
    "$name" "$(percentile $name 50)" "$(percentile $name 0)" "$(percentile $name 90)" "$boots"
done
awk -v ours="$(percentile vnvram-swtpm 50)" -v theirs="$(percentile debian-swtpm 50)" \
  'BEGIN { printf "guest boot, ratio: %.2f\n", ours / theirs }'
