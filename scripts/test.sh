#!/usr/bin/env bash
# Style, types and tests, in an environment of its own. With arguments only the tests, as pytest
# takes them:
#
#     bash scripts/test.sh -k neighbor
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_duetto test
cd "$root"
if [ $# -eq 0 ]; then
    "$venv/bin/ruff" check .
    "$venv/bin/ruff" format --check .
    bash scripts/typecheck.sh
fi
# One worker per core, each with one thread.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$venv/bin/python" -m pytest --numprocesses auto --dist worksteal "$@"
