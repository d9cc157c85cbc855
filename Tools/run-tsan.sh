#!/bin/bash
# The API's tests under the thread sanitizer, several times over, since a race shows in some runs and not in others. Says what
# each run found; status 0 only where none found anything. `make tsan` calls it.
#
#   TSAN_RUNS     how often, 20 where nothing is said
#   TSAN_FILTER   which tests; where nothing is said those in which threads meet, without schedules: there one runs at a time
set -uo pipefail
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.."

swift=${SWIFT:-swift}
runs=${TSAN_RUNS:-20}
meeting='ProtocolFault|BlockedCompletion|ThreadOrder|GroupCommit|Queue|Callback|Untold|LastReference|Generation|Closed'
filter=${TSAN_FILTER:-"VNVRAMTests\.($meeting|FailedCommit|NoThread)Tests"}
logs=.build/test-logs
mkdir -p "$logs"

# A build of its own: everything is instrumented. Not optimised: inlined arrays then look as if they raced, since the
# sanitizer doesn't see their reference counts.
flags=(--sanitize=thread --scratch-path .build/tsan)
export VNVRAM_TEST_TARGETS=VNVRAMTests
export VNVRAM_TSAN_ROUNDS=${VNVRAM_TSAN_ROUNDS:-3}
"$swift" build "${flags[@]}" --build-tests || exit 1

export TSAN_OPTIONS="exitcode=66"
bad=0
for run in $(seq "$runs"); do
  log=$logs/tsan-$run.log status=0
  "$swift" test "${flags[@]}" --skip-build --disable-xctest --filter "$filter" >"$log" 2>&1 || status=$?
  reports=$(grep -c '^SUMMARY: ThreadSanitizer' "$log")
  tests=$(sed -nE 's/^. Test run with ([0-9]+) tests? .* (passed|failed) after ([0-9.]+) seconds.*/\1 tests \2 in \3 s/p' "$log" | tail -n 1)
  echo "run $run of $runs: ${tests:-ended without a result}, $reports reports"
  if [ "$status" -ne 0 ] || [ "$reports" -ne 0 ] || [ -z "$tests" ]; then
    bad=$((bad + 1))
    grep '^SUMMARY: ThreadSanitizer\|^✘' "$log" | sort | uniq -c
  fi
done
echo "thread sanitizer: $runs runs, $bad with reports or failures"
[ "$bad" -eq 0 ]
