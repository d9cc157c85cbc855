#!/bin/bash
# Fuzzes every target for a while, two at a time, and says how it went and how much of the parsers was covered. `make fuzz`
# calls it; status 0 only where nothing was found.
#
#   FUZZ_SECONDS=120   how long each target runs
#   FUZZ_TARGETS=      which, by name; all without it
#
# Work lies in .build/fuzzing/TARGET: `corpus` (begins with Tests/Fuzz/Corpora, and is kept from run to run), `found` (inputs
# that ended the fuzzer) and `log`. To run one input again: .build/fuzz/release/vnvram-fuzz --target=TARGET FILE
set -uo pipefail
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/../.."

swift=${SWIFT:-swift}
python=${VNVRAM_PYTHON:-/usr/bin/python3}
seconds=${FUZZ_SECONDS:-120}
work=.build/fuzzing

# Swift's own crash reporter would take libFuzzer's and the sanitizer's place. Freed memory is watched for 16 MB and not 256,
# so that two fuzzers fit into a small machine.
export SWIFT_BACKTRACE=enable=no ASAN_OPTIONS=quarantine_size_mb=16

# The limits of each target: bytes of input, MiB in one allocation, MiB of memory in all. An image has 768 KiB at most
# here and may claim any size, a stream 64 KiB, a message 4 KiB: nothing that they say may make for more than a few MiB.
limits() {
  case $1 in
  image | sealed | anchor) echo "65536 4 768" ;;
  stream) echo "65536 4 768" ;;
  *) echo "8192 4 768" ;;
  esac
}

# All that a fuzzer is built from, in one number.
sources() { find Sources Tests/Fuzz Package.swift -type f ! -path '*/Corpora/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum; }

build() { # SCRATCH PRODUCT FLAG…
  local scratch=$1 product=$2 log=$work/build.log flags=() flag stamp
  # Built anew where anything has changed: optimised across packages, modules that an incremental build of Swift 6.3.1 took for
  # unchanged didn't fit the others any more, and the fuzzer ended before its first input.
  stamp=.build/$scratch.sources
  [ "$(cat "$stamp" 2>/dev/null)" = "$(sources)" ] || rm -rf ".build/${scratch:?}"
  mkdir -p .build
  sources >"$stamp"
  shift 2
  for flag in -enable-testing "$@"; do flags+=(-Xswiftc "$flag"); done
  if ! "$swift" build --package-path Tests/Fuzz --scratch-path ".build/$scratch" --configuration release --jobs 2 \
    "${flags[@]}" --product "$product" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
}

# number NAME FILE: libFuzzer's figure of that name, or 0.
number() {
  local found
  found=$(sed -nE "s/^stat::$1: *([0-9]+)$/\1/p" "$2" | tail -n 1)
  echo "${found:-0}"
}

# A busy machine can make any input take a second. One that doesn't when it is run again, three times, is no finding.
is_slow() { # TARGET FILE
  local run
  for run in 1 2 3; do
    timeout 30 .build/fuzz/release/vnvram-fuzz "--target=$1" -timeout=1 "$2" </dev/null >/dev/null 2>&1 && return 1
  done
  return 0
}

fuzz() { # TARGET
  local target=$1 folder=$work/$1 length allocation memory status runs=0 slow=0 found left artifact end
  read -r length allocation memory < <(limits "$target")
  end=$((SECONDS + seconds))
  while left=$((end - SECONDS)) && [ "$left" -gt 0 ]; do
    status=0
    # A fuzzer that hangs beyond all reason is ended.
    timeout --kill-after=5 $((left + 60)) .build/fuzz/release/vnvram-fuzz "--target=$target" \
      "-max_total_time=$left" -timeout=1 "-max_len=$length" "-malloc_limit_mb=$allocation" "-rss_limit_mb=$memory" \
      -print_final_stats=1 "-artifact_prefix=$folder/found/" "$folder/corpus" </dev/null >"$folder/log" 2>&1 || status=$?
    runs=$((runs + $(number number_of_executed_units "$folder/log")))
    [ "$status" -ne 0 ] || break
    artifact=$(find "$folder/found" -name 'timeout-*' | head -n 1)
    if [ -z "$artifact" ] || is_slow "$target" "$artifact"; then break; fi
    slow=$((slow + 1))
    rm "$artifact"
  done
  # `slow-unit-*` are inputs that took long for libFuzzer's taste and still ended in time.
  found=$(find "$folder/found" -type f -not -name 'slow-unit-*' | wc -l)
  if [ "$status" -ne 0 ] && [ "$found" -eq 0 ] && ! grep -q 'libFuzzer: timeout' "$folder/log"; then found=1; fi
  echo "$found" >"$folder/result"
  printf '%-8s %10d runs %7d a second %6d inputs %5d MB  %s%s\n' "$target" "$runs" $((runs / seconds)) \
    "$(find "$folder/corpus" -type f | wc -l)" "$(number peak_rss_mb "$folder/log")" \
    "$([ "$found" -eq 0 ] && echo clean || echo "$found FOUND, see $folder")" \
    "$([ "$slow" -eq 0 ] || echo " ($slow slow once, the machine being busy)")"
}

mkdir -p "$work"
echo "Building the fuzzers; the first time takes some minutes."
build fuzz vnvram-fuzz -sanitize=fuzzer,address -use-ld=lld
build fuzz-coverage vnvram-corpus -profile-generate -profile-coverage-mapping
corpus=.build/fuzz-coverage/release/vnvram-corpus
export LLVM_PROFILE_FILE=/dev/null
targets=${FUZZ_TARGETS:-$($corpus targets)}
for target in $targets; do
  [ -f "Tests/Fuzz/Corpora/$target.txt" ] || { echo "no target $target: $($corpus targets | tr '\n' ' ')" >&2; exit 2; }
  rm -rf "$work/$target/found" "$work/$target/result"
  mkdir -p "$work/$target/corpus" "$work/$target/found"
  $corpus unpack "Tests/Fuzz/Corpora/$target.txt" "$work/$target/corpus" || exit 1
done

echo "Fuzzing for $seconds s each, two at a time"
for target in $targets; do
  while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
  fuzz "$target" &
done
wait

profiles=()
failed=0
for target in $targets; do
  [ "$(cat "$work/$target/result")" = 0 ] || failed=1
  LLVM_PROFILE_FILE="$work/$target/profile" timeout 600 $corpus replay "$target" "$work/$target/corpus" || failed=1
  [ -f "$work/$target/profile" ] && profiles+=("$work/$target/profile")
done
"$python" Tests/Fuzz/coverage.py "$corpus" "${profiles[@]}" || failed=1
exit $failed
