# Read by the scripts beside it, all POSIX sh. Runs in the repository's top directory.

set -eu
cd "$(dirname "$0")/.."
ROOT=$(pwd)
VENV=${VENV:-.venv}
export VENV

# die WHAT REMEDY: end with a message that says what to do.
die() {
    echo "$1" >&2
    echo "  $2" >&2
    exit 1
}

now() { date +%s; }
