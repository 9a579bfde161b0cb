#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: the tests that need one, then the benchmarks, then their rows
# with provenance in bench/results/. Nothing is timed unless the tests pass.
#
#     bash scripts/gpu.sh                  all of it, about half an hour
#     bash scripts/gpu.sh --tests          the tests alone
#     bash scripts/gpu.sh --bench          the benchmarks, after a short check
#     bash scripts/gpu.sh --quick          fewer steps, sizes and rounds, no sanitizer: some minutes
#     bash scripts/gpu.sh --out DIR        rows to DIR instead of $OUT, bench/results if unset
#
# Installs nothing. PYTHON names the interpreter (default python3); it needs torch with CUDA, triton
# and what a run needs. nequip is timed beside Duetto where it can be imported; wheels unpacked into
# a folder on PYTHONPATH will do. Exit code 2: this machine cannot; 1: a test or a check failed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"
tests=yes bench=yes quick= out="${OUT:-$root/bench/results}"

refuse() {
    printf 'gpu.sh: %s\n' "$*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
    --tests) bench= ;;
    --bench) tests= ;;
    --quick) quick=yes ;;
    --out)
        [ $# -ge 2 ] || refuse "--out needs a folder"
        out="$2"
        shift
        ;;
    -h | --help)
        sed -n '2,13p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
        exit 0
        ;;
    *) refuse "unknown option $1 (see --help)" ;;
    esac
    shift
done
[ -n "$tests$bench" ] || refuse "--tests and --bench exclude each other; leave both out for both"

command -v "$python" >/dev/null 2>&1 || refuse "no $python; name an interpreter: PYTHON=... bash scripts/gpu.sh"
cd "$root"
unset TRITON_INTERPRET

# All that is missing is named at once, before anything runs.
"$python" - <<'CHECK' || exit 2
import importlib.util
import sys


def refuse(line):
    print(f"gpu.sh: {line}", file=sys.stderr)
    sys.exit(2)


needed = ("torch", "triton", "numpy", "numba", "ase", "vesin", "safetensors", "pydantic", "yaml",
          "tqdm", "scipy", "matplotlib", "pytest", "pytest_benchmark")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    refuse(f"{sys.executable} lacks {', '.join(missing)}; install them or put them on PYTHONPATH")
if sys.version_info < (3, 11):
    refuse(f"Python {sys.version.split()[0]} is too old; 3.11 or newer is needed")
import torch

if not torch.cuda.is_available():
    built = torch.version.cuda and f"built for CUDA {torch.version.cuda}" or "built without CUDA"
    refuse(f"no NVIDIA GPU: torch {torch.__version__} ({built}) sees no CUDA device")
major, minor = torch.cuda.get_device_capability()
if major < 8:
    refuse(f"{torch.cuda.get_device_name()} has compute capability {major}.{minor}; 8.0 is needed")
CHECK

# The folders carry other names than the package; where it is not installed, links stand in.
links=
if ! "$python" -c 'import duetto' >/dev/null 2>&1; then
    links="$(mktemp -d)"
    trap 'rm -rf "$links"' EXIT
    mkdir "$links/duetto"
    ln -s "$root"/engine/* "$links/duetto/"
    ln -s "$root/kernels" "$links/duetto/kernels"
fi
export PYTHONPATH="${links:+$links:}$root${PYTHONPATH:+:$PYTHONPATH}"
"$python" -c 'import duetto.potential.mixture, duetto.measure.bench.rows' ||
    refuse "the package cannot be imported, see above"

"$python" - <<'ABOUT'
import torch, triton
from importlib.util import find_spec
print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}, "
      f"nequip {'found' if find_spec('nequip') and find_spec('allegro') else 'not found'}")
ABOUT

run_pytest() {
    "$python" -m pytest -p no:cacheprovider -q -rs "$@"
}

# Compiling takes most of the tests' time, and one core: several tests at once, where pytest can.
workers=()
if "$python" -c 'import xdist' 2>/dev/null; then
    cores="$(nproc)"
    workers=(--numprocesses "$((cores < 8 ? cores : 8))")
fi

correct=(tests/gpu/test_forces.py tests/gpu/test_repeats.py)
if [ -n "$tests" ]; then
    [ -z "$quick" ] || export DUETTO_NVE_STEPS=1000
    run_pytest ${workers[@]+"${workers[@]}"} "${correct[@]}" || exit 1
    # The kernels' own tests run compiled here, on the same inputs as in the interpreter elsewhere.
    # Their compilation for chips that need not be here has been tested there.
    run_pytest ${workers[@]+"${workers[@]}"} tests/kernels/triton tests/engine/potential/test_triton.py tests/engine/md/test_device_dynamics.py -m "not gpu" \
        --ignore tests/kernels/triton/test_expert_offline.py \
        --ignore tests/kernels/triton/test_offline.py || exit 1
    run_pytest -s tests/gpu/test_dynamics.py || exit 1
    # Whatever else needs a GPU, so that no file is left out because nobody named it here.
    others=()
    for file in tests/gpu/test_*.py; do
        case " ${correct[*]} tests/gpu/test_dynamics.py tests/gpu/test_sanitizer.py " in
        *" $file "*) ;;
        *) others+=("$file") ;;
        esac
    done
    [ ${#others[@]} -eq 0 ] || run_pytest "${others[@]}" || exit 1
    [ -n "$quick" ] || run_pytest tests/gpu/test_sanitizer.py || exit 1
else
    run_pytest ${workers[@]+"${workers[@]}"} "${correct[@]}" || exit 1
fi
[ -n "$bench" ] || exit 0

mkdir -p "$out"
name="$("$python" -c 'import re, torch; print(re.sub(r"\W+", "_", torch.cuda.get_device_name()).lower())')"
sizes=(500 4000 32000 256000 1000000) engine_sizes=(500 2000 10000) rounds=7
pair_sizes=(4000 256000)
[ -z "$quick" ] || { sizes=(500 32000) engine_sizes=(500) rounds=3 pair_sizes=(32000); }

"$python" scripts/gpu_benchmark.py --out "$out/steps_$name.csv" \
    --atoms "${sizes[@]}" --rounds "$rounds"
"$python" scripts/gpu_benchmark.py --out "$out/steps_$name.csv" --system ptco \
    --pair examples/ptco/ptco.duetto --atoms "${pair_sizes[@]}" --rounds "$rounds"
# Mixture, full HF, full LF and, where it is installed, nequip eager and compiled; each is checked
# against the others before it is timed.
"$python" -c 'import sys; from duetto.cli.main import main; sys.exit(main())' bench \
    --device cuda --backend triton --system pt --lf-architecture lf32 \
    --atoms "${engine_sizes[@]}" --nequip-max-atoms 10000 --rounds "$rounds" \
    --csv "$out/engines_$name.csv"
echo "rows are in $out/steps_$name.csv and $out/engines_$name.csv"
