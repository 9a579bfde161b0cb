#!/usr/bin/env bash
# mypy over the package as it is imported. The folders engine/ and kernels/ are called duetto and
# duetto.kernels only once installed, so mypy gets a tree of links with those names.
#
#     bash scripts/typecheck.sh [duetto.md]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install_duetto test
tree="$(mktemp -d)"
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/duetto"
for part in "$root"/engine/*; do
    ln -s "$part" "$tree/duetto/"
done
ln -s "$root/kernels" "$tree/duetto/kernels"
cd "$tree"
MYPYPATH="$tree" "$venv/bin/mypy" --config-file "$root/pyproject.toml" \
    --cache-dir "$root/.mypy_cache" --python-executable "$venv/bin/python" -p "${1:-duetto}"
