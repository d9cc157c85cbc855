#!/bin/bash
# Is the model checker one, and the explorer of schedules? Builds the store with faults in it that are compiled out of every
# other build (Sources/SecureVolume/Mutant.swift, Sources/VNVRAM/ShellMutant.swift), runs the checker on each of the first
# and the explorer on each of the second, and says how long it took to notice and how to see it again.
# Status 0 only where each was caught within the time, and its line reproduces it.
#
#   Tests/Soak/mutants.sh [MUTANT…]      MUTANT_SECONDS=60 SEED=1
set -uo pipefail
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/../.."

swift=${SWIFT:-swift}
seconds=${MUTANT_SECONDS:-60}
seed=${SEED:-1}
folder=.build/mutants

echo "Building with the mutants; the first time takes a minute or two."
"$swift" build --configuration release --scratch-path "$folder" -Xswiftc -DVNVRAM_MUTANTS --product vnvram-soak || exit 1
soak=$folder/release/vnvram-soak
mapfile -t ofOrder < <("$soak" --schedules --mutant list)
mutants=("$@")
[ ${#mutants[@]} -gt 0 ] || mapfile -t mutants < <("$soak" --mutant list; "$soak" --schedules --mutant list)
[ ${#mutants[@]} -gt 0 ] || exit 1

missed=0
for mutant in "${mutants[@]}"; do
  mode=()
  for other in "${ofOrder[@]}"; do [ "$other" != "$mutant" ] || mode=(--schedules); done
  started=$(date +%s%N)
  output=$("$soak" "${mode[@]}" --mutant "$mutant" --seconds "$seconds" --seed "$seed" 2>&1)
  status=$?
  took=$((($(date +%s%N) - started) / 100000000))
  again=$(sed -n 's/^reproduce with: vnvram-soak //p' <<<"$output")
  if [ "$status" -ne 1 ] || [ -z "$again" ]; then
    missed=$((missed + 1))
    echo "NOT CAUGHT  $mutant in $seconds s (status $status)"
    continue
  fi
  # The line has no word that a shell would change.
  # shellcheck disable=SC2086
  "$soak" $again >/dev/null 2>&1
  if [ $? -ne 1 ]; then
    missed=$((missed + 1))
    echo "NOT REPRODUCED  $mutant: vnvram-soak $again"
    continue
  fi
  printf 'caught in %d.%d s, %s  %s\n  %s\n  vnvram-soak %s\n' "$((took / 10))" "$((took % 10))" \
    "$(sed -n 's/^\(states\|schedules\)  *\([0-9]*\)[ ,].*/\2 \1/p' <<<"$output")" "$mutant" \
    "$(sed -n 's/^FAILED: //p' <<<"$output" | cut -c1-160)" "$again"
done
echo "${#mutants[@]} mutants, $missed not caught"
[ "$missed" -eq 0 ]
