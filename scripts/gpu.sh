#!/usr/bin/env bash
# A round on a machine with an NVIDIA GPU, most telling first: forces of the kernels that are timed
# against float64 numbers, graphs against single launches, multiple time steps against those of the
# CPU, timings, and then the tests.
#
#     bash scripts/gpu.sh                    all of it, in at most --limit seconds
#     bash scripts/gpu.sh --only forces,steps    these phases (see --dry-run)
#     bash scripts/gpu.sh --quick            fewer steps, sizes and rounds, no sanitizer
#     bash scripts/gpu.sh --limit 300        seconds for all phases, default 570
#     bash scripts/gpu.sh --wheels DIR       packages that this machine lacks (gpu_wheels.sh)
#     bash scripts/gpu.sh --kernels FILE     kernels compiled before; default OUT/kernels.tar.gz
#     bash scripts/gpu.sh --out DIR          results, default $OUT, bench/results if unset
#     bash scripts/gpu.sh --dry-run          phases, limits, files and compile times; needs no GPU
#
# No phase gates another: each has a limit of its own, and what fails is told at the end. Rows are
# written as they are measured, and the compiled kernels are left in OUT/kernels.tar.gz for the next
# round. Installs nothing. PYTHON names the interpreter (default python3). nequip is timed beside
# Duetto where it can be imported. Exit code 2: this machine cannot; 1: a phase failed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"
only= quick= dry= limit=570 wheels= kernels= out="${OUT:-$root/bench/results}"

refuse() {
    printf 'gpu.sh: %s\n' "$*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
    --only | --limit | --wheels | --kernels | --out)
        [ $# -ge 2 ] || refuse "$1 needs a value (see --help)"
        case "$1" in
        --only) only=",$2," ;;
        --limit) limit="$2" ;;
        --wheels) wheels="$2" ;;
        --kernels) kernels="$2" ;;
        --out) out="$2" ;;
        esac
        shift
        ;;
    --quick) quick=yes ;;
    --dry-run) dry=yes ;;
    -h | --help)
        sed -n '2,18p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
        exit 0
        ;;
    *) refuse "unknown option $1 (see --help)" ;;
    esac
    shift
done
case "$limit" in '' | *[!0-9]*) refuse "--limit $limit: needs a number of seconds" ;; esac
[ -z "$wheels" ] || [ -d "$wheels" ] || refuse "--wheels $wheels: no such folder"
[ -z "$kernels" ] || [ -f "$kernels" ] || refuse "--kernels $kernels: no such file"
command -v "$python" >/dev/null 2>&1 || refuse "no $python; name an interpreter: PYTHON=... bash scripts/gpu.sh"
cd "$root"
unset TRITON_INTERPRET
deadline=$((SECONDS + limit))
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# What is carried lies before what is here; the folders carry other names than the package.
mkdir -p "$work/links/duetto" "$work/site"
for wheel in ${wheels:+"$wheels"/*.whl}; do
    "$python" -m zipfile -e "$wheel" "$work/site" || refuse "$wheel: cannot be unpacked"
done
ln -s "$root"/engine/* "$work/links/duetto/"
ln -s "$root/kernels" "$work/links/duetto/kernels"
export PYTHONPATH="$work/links:$root:$root/scripts:$work/site${PYTHONPATH:+:$PYTHONPATH}"
export TRITON_CACHE_DIR="$work/triton" XDG_CACHE_HOME="$work/cache" PYTHONUNBUFFERED=1
export TRITON_STORE_BINARY_ONLY=1

# All that is missing is named at once, before anything runs. A dry run goes on without it.
lacking=
"$python" - "$dry" <<'CHECK' || lacking=yes
import importlib.util
import sys


def refuse(line):
    print(f"gpu.sh: {line}", file=sys.stderr)
    sys.exit(2)


needed = ("torch", "triton", "numpy", "numba", "ase", "vesin", "safetensors", "scipy", "pydantic",
          "yaml", "tqdm")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    refuse(f"{sys.executable} lacks {', '.join(missing)}; carry wheels of them (gpu_wheels.sh, "
           "--wheels), or put them on PYTHONPATH")
if sys.version_info < (3, 11):
    refuse(f"Python {sys.version.split()[0]} is too old; 3.11 or newer is needed")
if sys.argv[1]:
    sys.exit()
import torch

if not torch.cuda.is_available():
    built = torch.version.cuda and f"built for CUDA {torch.version.cuda}" or "built without CUDA"
    refuse(f"no NVIDIA GPU: torch {torch.__version__} ({built}) sees no CUDA device")
major, minor = torch.cuda.get_device_capability()
if major < 8:
    refuse(f"{torch.cuda.get_device_name()} has compute capability {major}.{minor}; 8.0 is needed")
CHECK
[ -z "$lacking" ] || [ -n "$dry" ] || exit 2

results=()
failed=

# phase NAME SECONDS COMMAND...: run it, or in a dry run say so.
phase() {
    local name="$1" seconds="$2" left status=0 began="$SECONDS"
    shift 2
    case "${only:-,$name,}" in *",$name,"* | *",${name%%:*},"*) ;; *) return 0 ;; esac
    if [ -n "$dry" ]; then
        printf '%-26s %4s s  %s\n' "$name" "$seconds" "${*//"$work"\//}"
        return 0
    fi
    left=$((deadline - SECONDS))
    [ "$seconds" -le "$left" ] || seconds="$left"
    if [ "$seconds" -lt 5 ]; then
        results+=("$(printf '%-26s not reached' "$name")") failed=yes
        return 0
    fi
    printf '\n== %s, at most %s s\n' "$name" "$seconds"
    timeout --kill-after=5 "$seconds" "$@" || status=$?
    case "$status" in
    0) status=ok ;;
    124 | 137) status="out of its $seconds s" failed=yes ;;
    *) status="FAILED ($status)" failed=yes ;;
    esac
    results+=("$(printf '%-26s %s, %s s' "$name" "$status" $((SECONDS - began)))")
}

tests() { # tests NAME SECONDS ARGUMENTS...: some of pytest's
    local name="$1" seconds="$2"
    shift 2
    phase "tests:$name" "$seconds" "$python" -m pytest -p no:cacheprovider -q -rs "$@"
}

[ -n "$dry" ] || mkdir -p "$out"
kernels="${kernels:-$out/kernels.tar.gz}"
name=gpu
if [ -z "$dry" ]; then
    "$python" - <<'ABOUT'
import torch, triton
from importlib.util import find_spec
print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}, "
      f"nequip {'found' if find_spec('nequip') and find_spec('allegro') else 'not found'}")
ABOUT
    name="$("$python" -c 'import re, torch; print(re.sub(r"\W+", "_", torch.cuda.get_device_name()).lower())')"
    [ ! -f "$kernels" ] || "$python" scripts/kernel_cache.py unpack "$kernels" "$TRITON_CACHE_DIR" ||
        echo "the kernels in $kernels cannot be used"
fi

sizes=(500 4000 32000 256000 1000000) engine_sizes=(500 2000 10000) rounds=5
pair_sizes=(4000 256000)
if [ -n "$quick" ]; then
    sizes=(500 32000) engine_sizes=(500) rounds=3 pair_sizes=(32000)
    export DUETTO_NVE_STEPS=1000
fi
# Compiling takes most of the tests' time, and one core: several tests at once, where pytest can.
workers=()
if "$python" -c 'import xdist' 2>/dev/null; then
    cores="$(nproc)"
    workers=(--numprocesses "$((cores < 8 ? cores : 8))")
fi

phase compile 240 "$python" scripts/gpu_compile.py
phase forces 60 "$python" scripts/gpu_check.py forces --out "$out/checks_$name.txt"
phase graphs 60 "$python" scripts/gpu_check.py graphs --out "$out/checks_$name.txt"
phase split 90 "$python" scripts/gpu_check.py split --out "$out/checks_$name.txt"
phase steps 150 "$python" scripts/gpu_benchmark.py --out "$out/steps_$name.csv" \
    --atoms "${sizes[@]}" --rounds "$rounds"
phase steps:ptco 60 "$python" scripts/gpu_benchmark.py --out "$out/steps_$name.csv" \
    --system ptco --pair examples/ptco/ptco.duetto --atoms "${pair_sizes[@]}" --rounds "$rounds"
phase steps:time 60 "$python" scripts/gpu_benchmark.py --out "$out/steps_$name.csv" \
    --system ptco --pair examples/ptco/ptco_time_linear.duetto --atoms "${pair_sizes[@]}" \
    --complex-fraction 0.1 1.0 --every 3 --rounds "$rounds"
[ -n "$dry" ] || "$python" scripts/kernel_cache.py pack "$TRITON_CACHE_DIR" "$out/kernels.tar.gz"
# Mixture, full HF, full LF and, where it is installed, nequip eager and compiled; each is checked
# against the others before it is timed.
phase engines 100 "$python" -c 'import sys; from duetto.cli.main import main; sys.exit(main())' \
    bench --device cuda --backend triton --system pt --lf-architecture lf32 \
    --atoms "${engine_sizes[@]}" --nequip-max-atoms 10000 --rounds "$rounds" \
    --csv "$out/engines_$name.csv"
for file in tests/gpu/test_*.py; do
    case "$file" in
    *sanitizer*) ;;
    *dynamics*) tests "$file" 150 -s "$file" ;;
    *) tests "$file" 90 ${workers[@]+"${workers[@]}"} "$file" ;;
    esac
done
# The kernels' own tests run compiled here, on the same inputs as in the interpreter elsewhere. What
# is compiled for chips that need not be here has been tested there.
tests kernels 150 ${workers[@]+"${workers[@]}"} -m "not gpu" tests/kernels/triton \
    tests/engine/potential/test_triton.py tests/engine/potential/test_triton_linear.py \
    tests/engine/md/test_device_dynamics.py tests/engine/md/test_split_on_device.py \
    --ignore-glob '*offline*' --ignore-glob '*absent_chip*' --ignore-glob '*machine_order*'
[ -n "$quick" ] || tests tests/gpu/test_sanitizer.py 150 tests/gpu/test_sanitizer.py

if [ -n "$dry" ]; then
    echo "$limit s for all of them"
    [ -z "$lacking" ] || exit 2
    exec "$python" scripts/gpu_compile.py --dry-run
fi
"$python" scripts/kernel_cache.py pack "$TRITON_CACHE_DIR" "$out/kernels.tar.gz"
printf '\n'
printf '%s\n' "${results[@]}" | tee "$out/phases_$name.txt"
[ -z "$failed" ]
