# Read by the scripts beside it, all POSIX sh. Runs in the repository's top directory.

set -eu
cd "$(dirname "$0")/.."
ROOT=$(pwd)
VENV=${VENV:-.venv}
COGNU_CACHE=${COGNU_CACHE:-$ROOT/.cache}
# The C compiler keeps what it built here; its first compilation is the slow one.
ZIG_GLOBAL_CACHE_DIR=${ZIG_GLOBAL_CACHE_DIR:-$COGNU_CACHE/zig}
ZIG_LOCAL_CACHE_DIR=${ZIG_LOCAL_CACHE_DIR:-$COGNU_CACHE/zig}
export VENV COGNU_CACHE ZIG_GLOBAL_CACHE_DIR ZIG_LOCAL_CACHE_DIR

# die WHAT REMEDY: end with a message that says what to do.
die() {
    echo "$1" >&2
    echo "  $2" >&2
    exit 1
}

now() { date +%s; }
