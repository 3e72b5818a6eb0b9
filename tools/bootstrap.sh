#!/bin/sh
# Makes the virtual environment $1 and installs mlc with everything its tests need into it.
set -eu

venv=$1
log=$(mktemp)

die() {
    printf 'mlc: error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '  hint: %s\n' "$2" >&2
    exit 1
}

# A Python 3.11 or 3.12 that runs: version managers leave names behind that do not.
usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

find_python() {
    for name in ${PYTHON:-} python3.12 python3.11 python3 python; do
        if command -v "$name" >/dev/null 2>&1 && usable "$name"; then
            command -v "$name"
            return
        fi
    done
    for path in /usr/local/bin/python3.1[12] /opt/python*/bin/python3.1[12] /opt/*/bin/python3.1[12] "$HOME"/.pyenv/versions/3.1[12]*/bin/python3 \
        "$HOME"/.local/share/uv/python/cpython-3.1[12]*/bin/python3 "$HOME"/*conda3/bin/python3; do
        if [ -x "$path" ] && usable "$path"; then
            echo "$path"
            return
        fi
    done
    return 1
}

# Runs a step quietly; its output is shown only if it fails.
step() {
    text=$1
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        die "$text failed; the whole output is in $log" "${hint:-}"
    fi
}

if ! [ -x "$venv/bin/python" ] || ! usable "$venv/bin/python"; then
    python=$(find_python) || die "Python 3.11 or 3.12 is needed and neither is on PATH (found: $(python3 --version 2>&1 || echo none))" \
        "install one, or name it: make demo PYTHON=/path/to/python3.12"
    hint="on Debian and Ubuntu the venv module is a package of its own: apt install python3-venv"
    echo "making $venv with $("$python" --version)"
    step "python -m venv" "$python" -m venv --clear "$venv"
fi

echo "installing mlc and its tools into $venv (a few minutes the first time)"
hint="check the network and pip's settings (pip config list), then run make again"
step "pip install" "$venv/bin/python" -m pip install -q --disable-pip-version-check -e ".[test]"
rm -f "$log"
