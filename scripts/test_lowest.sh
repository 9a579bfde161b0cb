#!/usr/bin/env bash
# A telling part of the tests with the lowest versions that pyproject.toml declares, torch aside,
# which comes from .venv as it is: its wheels are as large as everything else together.
#
#     bash scripts/test_lowest.sh
#
# What does not work raises the bound. The environment, .venv-lowest, is made once for each
# pyproject.toml; its packages go before those of .venv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_duetto test
cd "$root"
lowest="$root/.venv-lowest" stamp="$(checksum)"
if [ "$(cat "$lowest/.duetto-lowest" 2>/dev/null)" != "$stamp" ]; then
    "$venv/bin/python" -m venv --clear "$lowest"
    mapfile -t bounds < <("$venv/bin/python" - <<'BOUNDS'
import re
import tomllib

declared = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]
for line in declared:
    name, bound = re.match(r"([\w.-]+)>=([\d.]+)", line).groups()
    if name != "torch":
        print(f"{name}=={bound}")
BOUNDS
    )
    echo "Installing ${bounds[*]} into .venv-lowest" >&2
    "$lowest/bin/python" -m pip install --disable-pip-version-check --quiet "${bounds[@]}"
    # As a site folder, so that the editable installation in .venv is found, too.
    site='import sysconfig; print(sysconfig.get_paths()["purelib"])'
    echo "import site; site.addsitedir('$("$venv/bin/python" -c "$site")')" \
        >"$("$lowest/bin/python" -c "$site")/zz-venv.pth"
    echo "$stamp" >"$lowest/.duetto-lowest"
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" NUMBA_CACHE_DIR="$lowest/machine-code"
# Numba's compiler, pydantic's messages, ASE's readers, pair files, pictures, a whole run.
exec "$lowest/bin/python" -m pytest -p no:cacheprovider --numprocesses auto --dist worksteal \
    tests/kernels/cpu/test_radial.py \
    tests/kernels/cpu/test_compiling.py tests/engine/potential/test_neighbors.py \
    tests/engine/experts/test_pair.py tests/engine/run/test_config.py tests/engine/atoms \
    tests/engine/report tests/engine/cli/test_quick_refusals.py tests/engine/md/test_baths.py "$@"
