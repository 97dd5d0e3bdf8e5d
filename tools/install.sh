#!/usr/bin/env bash
# Makes .venv and installs unmem in it, with the PyTorch build that fits the machine.
#   NVIDIA GPU or macOS: the default build (CUDA on Linux).
#   Linux without a GPU: the CPU build, from wherever pip finds one, else by uv, which knows where PyTorch keeps them.
# TORCH_BACKEND=cpu or cu126, cu128, … decides it by hand.
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

torch=$(sed -n 's/^torch==//p' constraints.txt)
backend=${TORCH_BACKEND:-}
if [ -z "$backend" ] && [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then
    backend=cpu
fi
installed=$(.venv/bin/python -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || echo none)
if [ -n "$backend" ] && [ "${installed%%+*}" != "$torch" ]; then
    # A version with a local label, such as 2.13.0+cpu, exists only where that very build is offered.
    if ! pip install --quiet "torch==$torch+$backend" 2>/dev/null; then
        pip install --quiet uv
        .venv/bin/python -m uv pip install --quiet --torch-backend "$backend" "torch==$torch"
    fi
fi
pip install --quiet --constraint constraints.txt --editable '.[dev]'
