#!/bin/bash
# Runs every test there is, says how each part went, and ends with one line: `N passed, N failed, N skipped`. Status 0 only where
# all passed. `make test` and CI call it; the packages it needs are there then.
set -uo pipefail
# Counting reads lines with characters beyond ASCII.
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.."

swift=${SWIFT:-swift}
python=${VNVRAM_PYTHON:=/usr/bin/python3}
export VNVRAM_PYTHON
# Optimised, since the simulations are many times faster so, and with what @testable needs. Twice the same flags, or
# everything would be built twice.
flags=(--configuration release -Xswiftc -enable-testing)
logs=.build/test-logs
mkdir -p "$logs"

passed=0
failed=0
skipped=0
started=$SECONDS

heading() { printf '\n== %s\n' "$1"; }

# count PASSED FAILED: of one part.
count() {
  passed=$((passed + $1))
  failed=$((failed + $2))
}

finish() {
  printf '\nin %d s\n%d passed, %d failed, %d skipped\n' "$((SECONDS - started))" "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
}

heading "Format of the code"
if swift-format lint --strict --recursive Sources Tests Package.swift; then
  count 1 0
  echo "as it should be"
else
  count 0 1
fi

heading "Building everything; the first time takes two minutes"
if ! "$swift" build "${flags[@]}" --build-tests; then
  count 0 1
  echo "The build failed; no test was run." >&2
  finish
fi
bin=$("$swift" build "${flags[@]}" --show-bin-path)

# number PATTERN FILE: the number that the pattern's group matches in the file's last such line, or 0.
number() {
  local found
  found=$(sed -nE "s/$1/\1/p" "$2" | tail -n 1)
  echo "${found:-0}"
}

# python_tests NAME DIRECTORY: the unittest modules of one directory.
python_tests() {
  heading "$1"
  local log=$logs/$(basename "$2").log status=0 total bad
  VNVRAM_BIN=$bin "$python" -B -m unittest discover --verbose --start-directory "$2" --top-level-directory "$2" \
    >"$log" 2>&1 || status=$?
  if [ "$status" -ne 0 ]; then cat "$log"; else tail -n 3 "$log"; fi
  total=$(number '^Ran ([0-9]+) tests? in .*' "$log")
  bad=$(($(number '^FAILED .*failures=([0-9]+).*' "$log") + $(number '^FAILED .*errors=([0-9]+).*' "$log")))
  # Ended otherwise, or found no test: that counts as one that failed.
  if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$total" -eq 0 ]; }; then bad=1 total=$((total + 1)); fi
  skipped=$((skipped + $(number '^[A-Z]+ .*skipped=([0-9]+).*' "$log")))
  count $((total - bad)) "$bad"
}

swift_tests() {
  heading "Swift"
  local log=$logs/swift.log status=0 total bad skips
  # What passes says so in the log; here only suites, figures and failures are shown. XCTest has no tests.
  "$swift" test "${flags[@]}" --skip-build --disable-xctest 2>&1 | tee "$log" |
    grep --line-buffered -vE '^(◇|↳|✔ Test |\[0/1\]|\s*$)'
  status=${PIPESTATUS[0]}
  total=$(number '^. Test run with ([0-9]+) tests? .*' "$log")
  bad=$(grep -cE '^✘ Test .* failed after ' "$log")
  # The run counts them too; each is shown above with its reason.
  skips=$(grep -cE '^➜ Test .* skipped' "$log")
  skipped=$((skipped + skips))
  if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$total" -eq 0 ]; }; then bad=1 total=$((total + 1)); fi
  count $((total - bad - skips)) "$bad"
}

python_tests "The independent reader of images" Tests/IndependentReader
python_tests "Keys in memory" Tests/MemoryScan
grep -ho 'memory scan, .*' "$logs/MemoryScan.log"
python_tests "Installing" Tests/Installation
python_tests "What the documents say, and the demonstration" Tests/Documents
swift_tests
finish
