#!/bin/bash
# The demonstration: a real TPM 2.0 whose state lies in an encrypted image. Each step says what it does and shows what
# came of it; the first thing that is not as it should be ends it with status 1. `make demo` builds and runs it.
#
# It needs no configuration and leaves nothing behind: the key lives in a session keyring of its own that ends with this
# script, everything else in one temporary directory, and the server is ended by its process number.
set -euo pipefail

# The directory with vnvram and vnvram-swtpm.
bin=$(cd "${1:?usage: demo.sh DIRECTORY-OF-THE-PROGRAMS}" && pwd)

# Once more from the start, in a session keyring of our own: there may be no login session, and nobody's keys are touched.
if [ "${VNVRAM_DEMO_SESSION:-}" != yes ]; then
  if ! keyctl session - true >/dev/null 2>&1; then
    echo "demo: the kernel's keyrings can't be used here; a container may forbid keyctl(2)" >&2
    exit 1
  fi
  export VNVRAM_DEMO_SESSION=yes
  exec keyctl session - "$0" "$bin" 2> >(grep -v '^Joined session keyring' >&2)
fi

started=$SECONDS
work=$(mktemp -d "${TMPDIR:-/tmp}/vnvram-demo.XXXXXX")
server=""

cleanup() {
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then kill -KILL "$server" && wait "$server" 2>/dev/null; fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

export PATH="$bin:$PATH"
export VNVRAM_AUDIT_LOG="$work/audit.jsonl"
export TPM2TOOLS_TCTI="swtpm:path=$work/tpm"
export TSS2_LOG=all+NONE
cd "$work"

image=vm.img
secret="The launch code is 0000-OPEN-SESAME."

# --- How it is told

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold="" dim="" green="" red="" plain=""; fi
number=0

step() {
  number=$((number + 1))
  printf '\n%s%d. %s%s\n' "$bold" "$number" "$1" "$plain"
}

# Shows a command as one could type it.
show() {
  local word line=""
  for word in "$@"; do
    word=${word//$work\//}
    case $word in *[!A-Za-z0-9_./:=,@%+-]*) word="'$word'" ;; esac
    line="$line $word"
  done
  printf '   %s$%s%s' "$dim" "$line" "$plain"
}

# Shows a command and what it prints; the caller looks at its status. Nothing here takes a minute.
run() {
  show "$@"
  echo
  local status=0
  timeout 60 "$@" >output 2>&1 || status=$?
  sed "s|$work/||g; s/^/     /" output
  # What a TPM holds need not end with a newline.
  if [ -s output ] && [ -n "$(tail -c 1 output)" ]; then echo; fi
  return "$status"
}

proven() { printf '   %s✓ %s%s\n' "$green" "$1" "$plain"; }

fail() {
  printf '   %s✗ %s%s\n' "$red" "$1" "$plain" >&2
  if [ -s server.log ]; then sed 's/^/     server: /' server.log >&2; fi
  exit 1
}

must() { run "$@" || fail "that should have worked, and ended with status $?"; }

# must_end STATUS COMMAND...: the status that the documentation promises.
must_end() {
  local wanted=$1 status=0
  shift
  run "$@" || status=$?
  [ "$status" -eq "$wanted" ] || fail "that should have ended with status $wanted, and ended with $status"
}

# --- The TPM

server_command=(vnvram-swtpm socket --tpm2 --tpmstate "backend-uri=vnvram://$work/$image"
  --server "type=unixio,path=$work/tpm" --ctrl "type=unixio,path=$work/tpm.ctrl" --flags not-need-init,startup-clear)

# Starts the server in the background and waits until it listens.
start_tpm() {
  show "${server_command[@]}" "$@"
  echo " &"
  rm -f tpm tpm.ctrl
  "${server_command[@]}" "$@" >server.log 2>&1 &
  server=$!
  local patience=200
  until [ -S tpm ] || ! kill -0 "$server" 2>/dev/null || [ "$patience" -eq 0 ]; do
    sleep 0.05
    patience=$((patience - 1))
  done
  [ -S tpm ] || fail "the server did not start"
}

# Ends the server with a signal and waits for it.
end_tpm() {
  local status=0
  kill "-$1" "$server"
  wait "$server" 2>/dev/null || status=$?
  server=""
  case $1 in
  TERM) [ "$status" -eq 0 ] || fail "the server ended with status $status" ;;
  esac
}

# Waits until the server has said something.
await_log() {
  local patience=200
  until grep -q "$1" server.log; do
    [ "$patience" -gt 0 ] || fail "the server never said \"$1\""
    sleep 0.05
    patience=$((patience - 1))
  done
}

read_secret() {
  must tpm2_nvread 0x1500016 -C o -s "${#secret}"
  [ "$(cat output)" = "$secret" ] || fail "that is not what was written"
}

sign_and_verify() {
  printf 'signed at %s' "$SECONDS" >message
  must tpm2_sign -c 0x81000001 -g sha256 -s ecdsa -f plain -o signature message
  must openssl dgst -sha256 -verify public.pem -signature signature message
}

# flip OFFSET: turns the lowest bit of one byte of the image.
flip() {
  python3 - "$image" "$1" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as image:
    image.seek(int(sys.argv[2]))
    byte = image.read(1)[0]
    image.seek(-1, 1)
    image.write(bytes([byte ^ 1]))
    print(f"     byte {sys.argv[2]}: {byte:#04x} is now {byte ^ 1:#04x}")
PYTHON
}

# search STATE: how much of the decrypted state, in pieces of 16 bytes, and of the secret lies in the image.
search() {
  python3 - "$1" "$image" "$secret" <<'PYTHON'
import sys
state, image, secret = open(sys.argv[1], "rb").read(), open(sys.argv[2], "rb").read(), sys.argv[3].encode()
pieces = {state[i:i + 16] for i in range(len(state) - 15)}
pieces = {piece for piece in pieces if len(set(piece)) > 4}  # runs of zeros prove nothing
blocks = {image[i:i + 16] for i in range(len(image) - 15)}
found = len(pieces & blocks)
print(f"     in the decrypted state: the secret {state.count(secret)} time(s), {len(pieces)} different pieces of 16 bytes")
print(f"     in the image's {len(image)} bytes: the secret {image.count(secret)} times, {found} of those pieces")
sys.exit(0 if state.count(secret) > 0 and len(pieces) > 100 and image.count(secret) == 0 and found == 0 else 1)
PYTHON
}

# --- The story

echo "A TPM 2.0 in an encrypted image, with its key in the kernel's keyring. Everything is in $work."

step "A fresh key goes into the kernel's keyring; an image for a TPM 2.0 is formatted with it."
must vnvram key generate demo --keyring session
must vnvram size --profile tpm2
size=$(cat output)
must vnvram format "$image" --key demo --profile tpm2
[ "$(stat --format %s "$image")" -eq "$size" ] || fail "the image has another size"
must vnvram info "$image"
# The operator's own copy, for later. In earnest it would be in a safe place: Keys/README.md.
show keyctl pipe %user:vnvram:demo
echo " >key"
keyctl pipe %user:vnvram:demo >key
python3 -c 'import sys; sys.exit(open("key", "rb").read() in open(sys.argv[1], "rb").read())' "$image" ||
  fail "the key lies in the image"
proven "the image has just the size that was announced, and its key's bytes are not in it"

step "A TPM starts in it. A secret goes into its NV memory, and a key is made and kept."
start_tpm
printf '%s' "$secret" >secret
must tpm2_nvdefine 0x1500016 -C o -s "${#secret}" -a "ownerread|ownerwrite"
must tpm2_nvwrite 0x1500016 -C o -i secret
must tpm2_createprimary -Q -C o -G ecc -c primary.ctx \
  -a "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
must tpm2_evictcontrol -C o -c primary.ctx 0x81000001
must tpm2_readpublic -Q -c 0x81000001 -f pem -o public.pem
read_secret
proven "the secret is in the TPM, and public.pem is its key's public half"

step "The server is killed, as if the power had gone."
end_tpm KILL
must vnvram status "$image"
must vnvram ls "$image"
proven "the image opens, without repair"

step "Neither the secret nor the TPM's state is found in the image's bytes."
must vnvram get "$image" permall -o state
search state || fail "something of it lies in the image"
rm -f state secret
proven "not one 16-byte piece of the state is in the image, its journal included"

step "The key is taken out of the keyring. The TPM refuses to start, and says which key is missing."
must vnvram key unlink demo --keyring session
must_end 3 vnvram status "$image"
must_end 3 "${server_command[@]}" --fail-on-encrypted-drive=yes
grep -q demo output || fail "the message doesn't name the key"
proven "status 3: a key is missing; never a new, empty TPM"

step "Told to wait for it, the TPM starts and holds what is asked of it."
start_tpm --fail-on-encrypted-drive=no
await_log demo
sed "s|$work/||g; s/^/     server: /" server.log
tpm2_nvread 0x1500016 -C o -s "${#secret}" -o early 2>early.log &
reader=$!
sleep 0.5
kill -0 "$reader" 2>/dev/null || fail "the TPM answered without its key: $(cat early.log)"
proven "tpm2_nvread, process $reader, is waiting for its answer"

step "The key comes back. The TPM starts by itself, and the waiting command is answered."
must vnvram key load demo --file key --keyring session
wait "$reader" || fail "the command that waited failed: $(cat early.log)"
[ "$(cat early)" = "$secret" ] || fail "that is not what was written"
proven "process $reader was answered: $(cat early)"
read_secret
sign_and_verify
proven "the key in the TPM still signs, and the public half from before verifies it"

step "The TPM is switched off. One bit of the image is flipped behind its back, and it is noticed."
end_tpm TERM
must vnvram check "$image"
# In the TPM's permanent state, whose content starts with the second sector.
place=$(vnvram info "$image" --json | python3 -c '
import json, sys
info = json.load(sys.stdin)
print(info["image_size"] - info["volume_size"] + info["block_size"] + 1234)')
flip "$place"
must_end 6 vnvram check "$image"
grep -q "sector" output || fail "the place isn't named"
must_end 6 "${server_command[@]}"
proven "status 6: not authentic, with the place; the TPM doesn't start on it"

step "The bit is put back, and all is well."
flip "$place"
must vnvram check "$image"
start_tpm
read_secret
sign_and_verify
end_tpm TERM
proven "the same TPM, the same secret, the same key"

step "Every use of the key was recorded, before it was used."
python3 - audit.jsonl <<'PYTHON'
import collections, json, sys
records = [json.loads(line) for line in open(sys.argv[1])]
for (event, status), count in sorted(collections.Counter((r["event"], r["status"]) for r in records).items()):
    print(f"     {count:4}  {event}" + ("" if status == "done" else f" ({status})"))
PYTHON
printf '   %s$ tail -n 1 audit.jsonl%s\n' "$dim" "$plain"
tail -n 1 audit.jsonl | sed 's/^/     /'
proven "$(wc -l <audit.jsonl) records, one JSON object a line"

printf '\n%sAll %d steps went as they should, in %d s.%s\n' "$bold" "$number" "$((SECONDS - started))" "$plain"
