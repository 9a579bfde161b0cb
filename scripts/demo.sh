#!/usr/bin/env bash
# The main job on the shipped example, in an environment of its own. Arguments are `duetto demo`'s:
#
#     bash scripts/demo.sh --out DIR
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_duetto core
exec "$venv/bin/duetto" demo "$@"
