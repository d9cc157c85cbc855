#!/bin/bash
# How much of Sources the tests run, by line and region, of each module and file. The programs count too where tests start them
# as children: what is built with profiling writes its own file when it ends (not when it is killed), and all are merged.
# `make coverage` calls it.
#
#   COVERAGE_FILTER   which tests: all of them where nothing is said
set -euo pipefail
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.."

swift=${SWIFT:-swift}
# Not optimised, where the slowest simulations take many minutes: they are left out, and repeat what others run once. So the
# table says too little of error paths that only they reach.
scratch=.build/coverage
flags=(--scratch-path "$scratch")
skipped=(--skip 'everyBit|everyCut|AtEveryPlace|aFailureAtEvery|maintenanceKeepsUp|AnchorPowerCut|layoutChanges')
"$swift" build "${flags[@]}" --build-tests --enable-code-coverage
bin=$("$swift" build "${flags[@]}" --show-bin-path)

profiles=$PWD/$scratch/profiles
rm -rf "$profiles"
mkdir -p "$profiles"
# Without --enable-code-coverage for the run, which would put them elsewhere and merge them by itself, without the programs.
export LLVM_PROFILE_FILE="$profiles/%p-%m.profraw"
log=.build/test-logs/coverage.log
mkdir -p .build/test-logs
status=0
"$swift" test "${flags[@]}" --skip-build --disable-xctest "${skipped[@]}" \
  ${COVERAGE_FILTER:+--filter "$COVERAGE_FILTER"} >"$log" 2>&1 || status=$?
grep -E '^✘|^. Test run with' "$log" || true
[ "$status" -eq 0 ] || echo "Not all tests passed; see $log. What they ran is counted." >&2

# The toolchain's own: profiles are of its compiler's version.
tools=$(dirname "$(readlink -f "$(command -v "$swift")")")
[ -x "$tools/llvm-cov" ] || { echo "There is no llvm-cov beside $swift." >&2; exit 1; }
# Files of children that were killed may be empty.
find "$profiles" -name '*.profraw' -size +0 >"$scratch/profiles.txt"
"$tools/llvm-profdata" merge --sparse --failure-mode=all --input-files="$scratch/profiles.txt" --output "$scratch/all.profdata" 2>>"$log"
objects=()
for program in vnvram vnvram-swtpm VTPMTestServer; do
  if [ -x "$bin/$program" ]; then objects+=(--object "$bin/$program"); fi
done
"$tools/llvm-cov" export --summary-only --instr-profile "$scratch/all.profdata" "$bin/vnvramPackageTests.xctest" "${objects[@]}" \
  >"$scratch/summary.json" 2>>"$log"
exec "${VNVRAM_PYTHON:-/usr/bin/python3}" Tools/coverage.py "$scratch/summary.json" "$PWD" 90 SecureVolume BlobStore Crypto Keyring VNVRAM
