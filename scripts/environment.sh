# Sourced by the other scripts, not run: makes .venv and installs Duetto into it, once.
#
#     install_duetto core      what a run needs
#     install_duetto test      that, the tests' tools and nequip
#
# A second call finds a stamp with the checksum of all that decides on the installation, and is
# done. PYTHON names the interpreter to use; pip's own settings and variables apply.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
constraints="$root/requirements/constraints.txt"

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_usable "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or newer with venv and ensurepip"
        echo "$PYTHON"
        return
    fi
    local candidate
    # The versions in requirements/constraints.txt were tested with 3.11.
    for candidate in python3.11 python3.12 python3.13 python3.14 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 && is_usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer with venv and ensurepip found; install one (on Debian also" \
        "python3-venv), or name it: PYTHON=/path/to/python3 bash scripts/..."
}

checksum() {
    {
        echo "$root"
        cat "$root/pyproject.toml" "$constraints"
    } | cksum | tr ' ' '-'
}

make_venv() {
    [ -x "$venv/bin/python" ] && is_usable "$venv/bin/python" && return
    local python
    python="$(find_python)" || exit 1
    echo "Making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear "$venv" || fail "$python could not make a virtual environment in $venv"
}

install_duetto() {
    local profile="$1" requirement="$root" stamp log
    stamp="$(checksum)" || fail "cannot read pyproject.toml or requirements/constraints.txt in $root"
    make_venv
    # The tests' environment serves a run, too.
    if [ "$(cat "$venv/.duetto-$profile" 2>/dev/null)" = "$stamp" ] ||
        [ "$(cat "$venv/.duetto-test" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    [ "$profile" = test ] && requirement="$root[test,train]"
    log="$venv/install.log"
    rm -f "$venv/.duetto-core" "$venv/.duetto-test"
    echo "Installing Duetto into .venv: once, some minutes (details: .venv/install.log)" >&2
    if ! "$venv/bin/python" -m pip install --disable-pip-version-check \
        --constraint "$constraints" --editable "$requirement" >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        fail "the installation failed, see above and $log; the next call tries again"
    fi
    echo "$stamp" >"$venv/.duetto-$profile"
}
