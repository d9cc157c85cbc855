#!/bin/bash
# Runs the benchmarks, with an idle vnvram-swtpm to be measured. `make bench` builds them and calls this with the
# programs' folder.
# VNVRAM_BENCH_DIR chooses the file system; the default is below .build, since /tmp may be in memory.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(cd "${1:?usage: run.sh DIRECTORY-OF-THE-PROGRAMS}" && pwd)

if [ "${VNVRAM_BENCH_SESSION:-}" != yes ]; then
  export VNVRAM_BENCH_SESSION=yes
  exec keyctl session - "$0" "$bin" 2> >(grep -v '^Joined session keyring' >&2)
fi

work=$(mktemp -d "${VNVRAM_BENCH_DIR:-.build}/vnvram-bench.XXXXXX")
server=""
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

export VNVRAM_AUDIT_LOG=$work/audit.jsonl
"$bin/vnvram" key generate bench-server --keyring session >/dev/null
"$bin/vnvram" format "$work/tpm.img" --key bench-server --profile tpm2 >/dev/null
"$bin/vnvram-swtpm" socket --tpm2 --tpmstate "backend-uri=vnvram://$work/tpm.img" \
  --server "type=unixio,path=$work/tpm" --ctrl "type=unixio,path=$work/tpm.ctrl" --flags not-need-init,startup-clear &
server=$!
until [ -S "$work/tpm" ]; do sleep 0.05; done
TPM2TOOLS_TCTI="swtpm:path=$work/tpm" tpm2_getrandom --hex 8 >/dev/null
"$bin/vnvram-bench" "$work" "$server"
