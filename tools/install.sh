#!/usr/bin/env bash
# Creates .venv and installs unmem in it, with the right PyTorch build for the machine (see tools/torch.sh). All packages are
# pinned and verified by the hashes in locks/ (see tools/lock.py).
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "unmem needs Python 3.11 or newer, and $python is $("$python" --version 2>&1). Name another with PYTHON=..." >&2
    exit 1
}
echo "Installing unmem into .venv (once; a few minutes) ..."
"$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
# --no-deps: the lock is complete, and what it does not name is not installed.
pip install --quiet --no-deps --require-hashes --requirement locks/dev.txt
tools/torch.sh .venv/bin/python
pip install --quiet --no-deps --no-build-isolation --editable .
