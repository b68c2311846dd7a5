#!/usr/bin/env bash
# Make the environment that every make target shares: $KD_VENV, by default .venv. Does nothing where it is up to date,
# that is where the stamp inside it names this checkout, these settings and this Python.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${KD_VENV:-.venv}
stamp=$venv/.kd-stamp

fail() {
    echo "environment: $*" >&2
    exit 2
}

suitable='import sys; sys.exit(sys.version_info < (3, 11))'
find_python() {
    local candidate
    for candidate in ${KD_PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        if "$candidate" -c "$suitable" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

wanted() {
    "$venv/bin/python" - <<'PY'
import hashlib, os, pathlib, sys

settings = b"".join(pathlib.Path(name).read_bytes() for name in ("setup.cfg", "pyproject.toml"))
print(hashlib.sha256(settings).hexdigest(), ".".join(map(str, sys.version_info[:3])), os.getcwd())
PY
}

make_venv() {
    local python
    python=$(find_python)
    [ -n "$python" ] || fail "needs Python 3.11 or later, found none (${KD_PYTHON:-python3} is missing or older); install one, or name it: KD_PYTHON=/path/to/python make demo"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python lacks the venv module; install it (on Debian and Ubuntu the package python3-venv)"
    "$python" -m venv --clear "$venv" || fail "$python could not make $venv; see the lines above"
}

update() {
    # A virtual environment whose Python has gone away is made again; any other folder of that name is left alone.
    if ! "$venv/bin/python" -c "$suitable" 2>/dev/null; then
        if [ -d "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
            fail "$venv exists and is no virtual environment; name another folder with KD_VENV"
        fi
        make_venv
    fi
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ]; then
        return
    fi

    echo "environment: installing into $venv (the first time it downloads torch, which is large)" >&2
    SECONDS=0
    rm -f "$stamp"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]' ||
        fail "pip could not install what setup.cfg asks for into $venv; see the lines above, then run this again"
    # The stamp comes last: an installation that was interrupted is taken up again.
    wanted >"$stamp"
    echo "environment: installed in $SECONDS s" >&2
}

mkdir -p "$(dirname "$venv")"
if command -v flock >/dev/null; then
    # Two targets that start at once must not install into one folder together. The lock is on the folder above.
    exec 9<"$(dirname "$venv")"
    flock 9
fi
update
