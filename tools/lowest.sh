#!/usr/bin/env bash
# Runs the tests with the oldest versions that pyproject.toml allows, in an environment of their own.
#   FOLDER=...  the folder of the environment (default: a temporary folder, removed at the end)
#   PYTHON=...  the Python to use (default: python3.11, the oldest supported version)
# Arguments are passed to pytest. PyTorch is the CPU build, as in tools/install.sh; packages that only the default build needs
# are excluded.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${FOLDER:-$(mktemp -d)}
if [ -z "${FOLDER:-}" ]; then trap 'rm -rf "$folder"' EXIT; fi
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check uv
uv() { "$folder/bin/python" -m uv "$@"; }
uv pip compile --quiet --no-header --no-annotate --resolution lowest-direct --python-version 3.11 --extra dev \
    pyproject.toml --output-file "$folder/lowest.txt"
torch=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' "$folder/lowest.txt")
grep -vE '^(torch=|triton|nvidia-|cuda-)' "$folder/lowest.txt" >"$folder/others.txt"
pip() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@"; }
if ! pip "torch==$torch+cpu" 2>/dev/null &&
    ! uv pip install --quiet --python "$folder/bin/python" --torch-backend cpu --no-deps "torch==$torch" 2>/dev/null; then
    echo "The CPU build of PyTorch $torch is not to be had here: all but PyTorch is tested, with the one of the lock." >&2
    pip --requirement locks/torch-cpu.txt
fi
uv pip install --quiet --python "$folder/bin/python" --no-deps --requirement "$folder/others.txt"
uv pip install --quiet --python "$folder/bin/python" --no-deps --editable .
"$folder/bin/python" -m pytest -n 2 --dist loadscope "$@"
