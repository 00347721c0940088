#!/usr/bin/env bash
# Makes the virtual environment .venv and installs the project in it.
# Called by the Makefile as `bash tools/setup.sh PYTHON`; run it from the repository root.
#
# The stamp .venv/.stamp is written last, so a set-up that was cut short is not
# taken for a finished one. It holds the folder's path: the scripts in a virtual
# environment do not survive a move, so after a move it is made again.
set -euo pipefail
# Without this, stopping uv with Ctrl-C would look like a failure and start pip.
trap 'exit 130' INT
trap 'exit 143' TERM

PYTHON="${1:-python3}"
VENV=.venv
STAMP="$VENV/.stamp"
VPY="$VENV/bin/python"

say() { printf '%s\n' "$*"; }
stop() { printf 'set-up: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
works() { [ -x "$VPY" ] && new_enough "$VPY"; }
venv_by_python() { REPLY="$("$PYTHON" -m venv "$VENV" 2>&1)" && works; }

# The Debian package that completes this Python: python3 -> python3-venv,
# python3.12 -> python3.12-venv.
PACKAGE="$(basename "$PYTHON")-venv"

make_venv() {
    has "$PYTHON" || stop "no '$PYTHON' found; install Python 3.11 or later, or name one: make PYTHON=python3.12"
    new_enough "$PYTHON" || stop "Python 3.11 or later is needed and '$PYTHON' is $("$PYTHON" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo 'not a working Python'); name a newer one: make PYTHON=python3.12"

    say "set-up: making $VENV with $("$PYTHON" --version)"
    rm -rf "$VENV"
    venv_by_python && return
    # What a failed attempt leaves is half a folder.
    rm -rf "$VENV"
    # Debian and Ubuntu ship Python without ensurepip. Anything else, a full disk
    # for one, is not cured by a package.
    case "$REPLY" in
        *ensurepip* | *"No module named venv"*) ;;
        *) stop "'$PYTHON -m venv $VENV' failed: $REPLY" ;;
    esac

    if [ "$(id -u)" = 0 ] && has apt-get; then
        say "set-up: this Python cannot make virtual environments; installing $PACKAGE"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$PACKAGE"; } >/dev/null || true
        venv_by_python && return
        rm -rf "$VENV"
    fi
    if has virtualenv; then
        virtualenv --quiet --python "$PYTHON" "$VENV" && works && return
        rm -rf "$VENV"
    fi
    if has uv; then
        uv venv --quiet --seed --python "$PYTHON" "$VENV" && works && return
        rm -rf "$VENV"
    fi
    stop "'$PYTHON' cannot make a virtual environment; run: sudo apt install $PACKAGE"
}

# Says how to call uv, and installs it into the virtual environment where it is missing.
find_uv() {
    if [ -x "$VENV/bin/uv" ]; then
        UV="$VENV/bin/uv"
    elif "$VPY" -m pip install --quiet uv >/dev/null 2>&1; then
        UV="$VENV/bin/uv"
    elif has uv; then
        UV=uv
    else
        return 1
    fi
}

install_with_uv() {
    find_uv || return 1
    "$UV" pip install --python "$VPY" -c constraints.txt -e '.[dev]'
}

install_with_pip() {
    "$VPY" -m pip --version >/dev/null 2>&1 || "$VPY" -m ensurepip >/dev/null 2>&1 || return 1
    "$VPY" -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
}

[ -f pyproject.toml ] || stop "run this from the root of the repository"
if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" != "$PWD" ]; then
    say "set-up: this folder was moved or copied; making $VENV again"
    rm -rf "$VENV"
fi
rm -f "$STAMP"

works || make_venv

say "set-up: installing the packages (several GB with the CUDA build of torch; UV_TORCH_BACKEND=cpu takes a smaller one)"
# uv takes a fraction of pip's time; pip is there for where uv does not run.
if ! install_with_uv; then
    say "set-up: uv did not manage; trying pip, which takes some minutes"
    install_with_pip || stop "the packages could not be installed; the lines above say why"
fi

printf '%s\n' "$PWD" >"$STAMP.tmp"
mv "$STAMP.tmp" "$STAMP"
say "set-up: done"
