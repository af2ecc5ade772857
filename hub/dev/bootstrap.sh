#!/bin/sh
# Get what this machine lacks; do nothing, and say nothing, where all is there.
#
#   bootstrap.sh environment   the Python environment in .venv, exactly as locked
#   bootstrap.sh services      RabbitMQ and PostgreSQL, where neither is installed nor given by TRUC_*_URL
#
# Packages are installed only as root or where sudo asks for no password; otherwise one line says what to install.

set -eu
cd "$(dirname "$0")/../.."
mkdir -p .truc

say() {
    printf '%s\n' "$*" >&2
}

# logged <name> <command...>: its output goes to .truc/<name>.log; the end is shown when the command fails.
logged() {
    log=".truc/$1.log"
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        say "This failed; all of its output is in $log."
        return 1
    fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

# A package starts its system service when it is installed, unless this file forbids it. We need the programs only.
policy=/usr/sbin/policy-rc.d

forbid_service_start() {
    if [ -e "$policy" ]; then return; fi
    trap 'as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}

install_packages() {
    if ! may_install; then
        say "Please install: $*   (on Debian and Ubuntu: sudo apt-get install $*)"
        return 1
    fi
    say "Installing $* ..."
    forbid_service_start
    logged apt-update as_root apt-get update
    logged apt-install as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
}

own_uv() {
    if [ ! -x .truc/uv/bin/uv ]; then
        if ! command -v python3 >/dev/null; then
            say "Please install Python 3.11 or newer, with venv (on Debian and Ubuntu: python3 and python3-venv)."
            return 1
        fi
        python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
        say "Getting uv ..."
        logged uv-install sh -c 'python3 -m venv --clear .truc/uv && .truc/uv/bin/pip install uv'
    fi
    echo .truc/uv/bin/uv
}

environment() {
    uv=$(command -v uv || own_uv)
    # A distribution builds its Python by a profile of its use. One from elsewhere may not be: what is written in Python alone
    # takes a quarter longer then.
    if [ -z "${UV_PYTHON:-}" ] && /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        export UV_PYTHON=/usr/bin/python3
    fi
    say "Making the Python environment ..."
    logged uv-sync "$uv" sync --frozen --compile-bytecode
}

services() {
    lacking=$(.venv/bin/python -m hub.dev missing)
    if [ -n "$lacking" ]; then
        # shellcheck disable=SC2086  # One word for each package.
        install_packages $lacking
    fi
}

case "${1-}" in
    environment | services) "$1" ;;
    *)
        say "usage: bootstrap.sh environment | services"
        exit 2
        ;;
esac
