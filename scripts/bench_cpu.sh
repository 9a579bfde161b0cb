#!/usr/bin/env bash
# The recorded round of CPU benchmarks: rows, profile, operations, plots. About a quarter of an hour
# on two cores that do nothing else, and ten minutes more the first time, for nequip's compilations.
#
#     bash scripts/bench_cpu.sh                # append to bench/results/cpu.csv, redraw the plots
#     bash scripts/bench_cpu.sh --baseline     # and make this run the baseline of the operations
#     QUICK=1 bash scripts/bench_cpu.sh        # the same on tiny structures and without nequip's
#                                              # compiled models, into a folder of its own
#
# VENV names an environment that has duetto with the extras train and test; by default .venv is made.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ -n "${VENV:-}" ]; then venv="$VENV"; else install_duetto test; fi
cd "$root"
results="$root/bench/results" images="$root/docs/images" page="$root/docs/benchmarks.md"
outputs="$root/outputs" # large, and of no use to others
small=500 middle=8000 sizes="1000 4000 16000 64000" huge=256000 rounds=7 few=5
own="full_hf full_lf mixture" eager=nequip_eager compiled=nequip_aoti
if [ -n "${QUICK:-}" ]; then
    results="$(mktemp -d)" && images="$results" && outputs="$results" && page="$results/benchmarks.md"
    cp "$root/docs/benchmarks.md" "$page"
    small=60 middle=200 sizes="100 200" huge=400 rounds=2 few=2 compiled=nequip_eager eager=
fi
mkdir -p "$results" "$images" "$outputs"
rows="$results/cpu.csv"

bench() { # ENGINES OPTIONS…: each call appends its rows; nequip is run on the smallest structure
    echo "== duetto bench $*" >&2
    local engines="$1" && shift
    # shellcheck disable=SC2086
    "$venv/bin/duetto" bench --rounds "$rounds" --nequip-max-atoms "$((small * 6 / 5))" \
        --csv "$rows" --engines $engines "$@"
}

compare() { # malloc keeping freed memory, which is nequip's best, and as it is installed
    for allocator in keep system; do
        rounds="$few" bench "$@" --atoms "$small" --allocator "$allocator"
    done
}

# Full HF beside nequip: both calculators, parity on and off, two cutoffs, two structures, two
# precisions; then the same for the small expert.
compare "full_hf $eager $compiled" --interfaces model ase
compare "full_hf $eager $compiled" --architecture hf64_no_parity
compare "full_hf $eager $compiled" --r-max 6.0
compare "full_hf $eager $compiled" --system ptco
bench "full_hf $eager $compiled" --atoms "$small" --dtype float64
for options in "" "--r-max 6.0" "--system ptco" "--dtype float64"; do
    # shellcheck disable=SC2086
    compare "full_hf $eager $compiled" --architecture lf16 --lf-architecture none $options
done
# How close the mixture comes to its ideal, by the share of complex atoms and by size.
bench "$own $eager $compiled" --atoms "$small" "$middle" --complex-fraction 0.02 0.05 0.1 0.2 0.5
# shellcheck disable=SC2086
bench "$own $eager $compiled" --atoms "$small" $sizes
rounds=2 bench "$own" --atoms "$huge" --memory
# One thread beside all of them.
bench "$own $eager $compiled" --atoms "$small" "$middle" --threads 1

"$venv/bin/duetto" bench --profile --atoms "$middle" --blend 4 --threads 1 \
    --plot "$images/profile.png" --trace "$outputs/profile_trace.json" > "$results/profile.txt"
"$venv/bin/duetto" bench --profile --atoms "$middle" --blend 4 --threads 1 --json \
    > "$results/profile.json"

"$venv/bin/python" -m pytest bench/test_operations.py bench/test_step.py -q --benchmark-enable \
    --benchmark-json="$outputs/operations.json" --benchmark-columns=min,median
"$venv/bin/python" scripts/plot_benchmarks.py --rows "$rows" --images "$images" --page "$page"
echo "rows in $rows, pictures in $images" >&2
if [ "${1:-}" = --baseline ]; then
    "$venv/bin/python" scripts/compare_benchmarks.py "$outputs/operations.json" --update
else
    "$venv/bin/python" scripts/compare_benchmarks.py "$outputs/operations.json"
fi
