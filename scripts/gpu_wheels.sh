#!/usr/bin/env bash
# Wheels of what a machine with a GPU lacks, to be carried there and given to gpu.sh --wheels.
#
#     bash scripts/gpu_wheels.sh                      into .wheels, for Python 3.12
#     bash scripts/gpu_wheels.sh --python 3.13 DIR    into DIR, for another Python
#     bash scripts/gpu_wheels.sh --all DIR            for a machine with torch, triton and numpy only
#     bash scripts/gpu_wheels.sh DIR NAME...          these packages alone
#
# By default ase, vesin, pydantic and what pydantic needs, in the versions of
# requirements/constraints.txt: 5 MB. PYTHON names the interpreter whose pip downloads.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}" version=3.12 folder= names=()
short=(ase vesin pydantic pydantic-core annotated-types typing-extensions typing-inspection)
rest=(scipy matplotlib contourpy cycler fonttools kiwisolver packaging pillow pyparsing
    python-dateutil six numba llvmlite safetensors pyyaml tqdm pytest pluggy iniconfig pygments
    pytest-benchmark py-cpuinfo)

refuse() {
    printf 'gpu_wheels.sh: %s\n' "$*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case "$1" in
    --python)
        [ $# -ge 2 ] || refuse "--python needs a version such as 3.12"
        version="$2"
        shift
        ;;
    --all) names=("${short[@]}" "${rest[@]}") ;;
    -h | --help)
        sed -n '2,11p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
        exit 0
        ;;
    -*) refuse "unknown option $1 (see --help)" ;;
    *) if [ -z "$folder" ]; then folder="$1"; else names+=("$1"); fi ;;
    esac
    shift
done
[ ${#names[@]} -gt 0 ] || names=("${short[@]}")
folder="${folder:-$root/.wheels}"
command -v "$python" >/dev/null 2>&1 || refuse "no $python; name an interpreter: PYTHON=..."

# Names in one spelling, with the versions that were tested together.
pinned=()
while read -r requirement; do pinned+=("$requirement"); done < <("$python" - "${names[@]}" <<PIN
import re, sys
spelt = lambda name: re.sub(r"[-_.]+", "-", name).lower()
lines = open("$root/requirements/constraints.txt").read().split()
versions = dict((spelt(n), v) for n, _, v in (line.partition("==") for line in lines) if v)
for name in sys.argv[1:]:
    version = versions.get(spelt(name.partition("==")[0]))
    print(name if version is None or "==" in name else f"{name}=={version}")
PIN
)
mkdir -p "$folder"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "$version" --implementation cp --abi "cp${version/./}" --abi abi3 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux_2_5_x86_64 --platform manylinux1_x86_64 --platform any \
    --dest "$folder" "${pinned[@]}" || refuse "pip could not download them all, see above"
du -ch "$folder"/*.whl | sed "s|$folder/||"
