#!/bin/bash
# Runs the benchmarks; `make bench` builds them and calls this.
#
#   run.sh PROGRAMS [store|server]    the folder of the programs, vnvram-bench among them; both parts unless told otherwise
#
# VNVRAM_BENCH_DIR chooses the file system; the default is below .build, since /tmp may be in memory.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(cd "${1:?usage: run.sh DIRECTORY-OF-THE-PROGRAMS [store|server]}" && pwd)
part=${2:-}

# The keys go into a session of their own, and end with it.
if [ "${VNVRAM_BENCH_SESSION:-}" != yes ]; then
  export VNVRAM_BENCH_SESSION=yes
  exec keyctl session - "$0" "$bin" $part 2> >(grep -v '^Joined session keyring' >&2)
fi

work=$(mktemp -d "${VNVRAM_BENCH_DIR:-$PWD/.build}/vnvram-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export VNVRAM_AUDIT_LOG=$work/audit.jsonl
if [ "$part" != server ]; then
  gcc -std=gnu11 -O2 -o "$work/peers" Tests/Benchmarks/peers.c -lsqlite3 -llmdb
  "$bin/vnvram-bench" "$work" "$bin" store
  lines=$(cat Sources/SecureVolume/*.swift | wc -l)
  echo "lines of Sources/SecureVolume: $lines, before format 2: 4529 (asked: no more)"
fi
if [ "$part" != store ]; then
  echo "TPM servers, as the scheduler places them:"
  "$bin/vnvram-bench" "$work" "$bin" server
  # Between processors a command costs more time to wake who waits than to run.
  echo "TPM servers and their client, all on one processor:"
  rm -rf "${work:?}"/*
  taskset --cpu-list 0 "$bin/vnvram-bench" "$work" "$bin" server
fi
