# shellcheck shell=bash
# shellcheck disable=SC2034 # Variables are for the scripts that source this.
# What the scripts of this directory share. It is sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
name=$(basename "$0")
# Where results go: one directory a script, written over by its next run.
out=$target/perf/$name
# No run takes longer, and no recording is larger.
seconds_max=${PELTON_PERF_SECONDS:-120}
recording_max=256M

say() { echo "perf/$name: $*" >&2; }

fail() {
  say "$*"
  exit 1
}

# The comment at the head of the script is its help.
usage() {
  sed -n '2,/^set /{/^# \{0,1\}/s///p}' "$0"
  exit "$1"
}

# need TOOL HOW-TO-GET-IT
need() {
  command -v "$1" >/dev/null || fail "$1 is missing: $2"
}

need_perf() {
  need perf "apt-get install linux-perf (Debian), linux-tools-generic (Ubuntu), perf (Fedora)"
  perf stat -e task-clock true >/dev/null 2>&1 ||
    fail "the kernel refuses perf events; as root: sysctl kernel.perf_event_paranoid=1"
}

# Whether the machine (or its hypervisor) lets perf count what the CPU does.
has_counters() {
  ! perf stat -x, -e instructions,cycles true 2>&1 | grep -q '<not \(supported\|counted\)>'
}

cargo_profiling() {
  # Segments that lie in the file as in memory, so that an address of perf's is one of addr2line's. And in a target
  # directory of its own: other flags would build everything anew here and there.
  local flags="-C force-frame-pointers=yes -C link-arg=-Wl,-z,separate-loadable-segments"
  RUSTFLAGS="${RUSTFLAGS:-} $flags" CARGO_TARGET_DIR="$target/profiling" \
    cargo "$@" --manifest-path "$root/Cargo.toml" --profile profiling
}

# Sets `command` to what is to be run, and builds it: `pelton ...` is the program, `pelton-bench ...` its measurements,
# `bench NAME ...` a bench, anything
# else is run as it stands. `shown` is the same in the user's words.
prepare() {
  case ${1:-} in
  '') usage 1 ;;
  -h | --help) usage 0 ;;
  esac
  shown="$*"
  case $1 in
  pelton)
    shift
    say "building the program with frame pointers and symbols"
    cargo_profiling build -q -p pelton-cli --bin pelton
    command=("$target/profiling/profiling/pelton" "$@")
    ;;
  pelton-bench)
    shift
    say "building the measurements with frame pointers and symbols"
    cargo_profiling build -q -p pelton-bench --bin pelton-bench
    command=("$target/profiling/profiling/pelton-bench" "$@")
    ;;
  bench)
    [ $# -ge 2 ] || fail "which bench? $(basename -s .rs "$root"/benches/*.rs "$root"/crates/*/benches/*.rs | sort -u | paste -sd ' ')"
    local bench=$2 package=pelton-bench
    [ ! -f "$root/benches/$bench.rs" ] || package=pelton
    shift 2
    say "building the bench '$bench' with frame pointers and symbols"
    local binary
    binary=$(cargo_profiling bench -q --no-run -p "$package" --bench "$bench" --message-format=json |
      sed -n "/\"kind\":\[\"bench\"\]/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p")
    [ -x "$binary" ] || fail "the bench '$bench' was not built"
    command=("$binary" --bench "$@")
    ;;
  *)
    command -v "$1" >/dev/null || fail "'$1' is neither a program here, nor 'pelton', 'pelton-bench' or 'bench'"
    command=("$@")
    ;;
  esac
  mkdir -p "$out"
}

# Runs something for `seconds_max` at most; an interrupt lets perf write what it has.
bounded() {
  local code=0
  timeout --foreground --signal=INT --kill-after=10 "$seconds_max" "$@" || code=$?
  if [ "$code" -eq 124 ]; then
    say "stopped after $seconds_max s (PELTON_PERF_SECONDS); what follows is about the run so far"
    return 0
  fi
  return "$code"
}

# Runs `command`, and calls a function with its process id five times a second, until it ends.
watch() {
  # Without the redirection it would find nothing to read, being in the background.
  "${command[@]}" <&0 >"$out/output.txt" 2>"$out/errors.txt" &
  local pid=$! code=0 stopped=
  SECONDS=0
  while kill -0 "$pid" 2>/dev/null; do
    "$1" "$pid"
    if [ -z "$stopped" ] && [ "$SECONDS" -ge "$seconds_max" ]; then
      say "stopped after $seconds_max s (PELTON_PERF_SECONDS); what follows is about the run so far"
      stopped=yes
      kill "$pid" 2>/dev/null || true
    fi
    sleep 0.2
  done
  wait "$pid" || code=$?
  if [ "$code" -ne 0 ] && [ -z "$stopped" ]; then
    tail -5 "$out/errors.txt" >&2
    fail "the run ended with $code"
  fi
}

# What the reader is told: where to look, and what it would mean.
guide() {
  echo
  echo "What to look for:"
  sed 's/^/  /'
}
