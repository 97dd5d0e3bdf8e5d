#!/usr/bin/env bash
# Installs PyTorch for the Python that is given, in the version of locks/torch.txt and the build that fits the machine.
#   NVIDIA GPU or macOS: the default build (CUDA on Linux).
#   Linux without a GPU: the CPU build, from wherever pip finds one of the files in locks/torch-cpu.txt. Where there is
#     none, uv takes the build for this Python from PyTorch's own index, which has hashes of its own; the lock has none.
# TORCH_BACKEND=cpu or cu126, cu128, … decides it by hand; other builds than cpu come from PyTorch's index as well.
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."

pip() { "$python" -m pip --disable-pip-version-check "$@"; }
# --no-deps: the locks are complete, and what they do not name is not installed.
locked() { pip install --quiet --no-deps --require-hashes --requirement "locks/$1.txt"; }

torch=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' locks/torch.txt)
backend=${TORCH_BACKEND:-}
if [ -z "$backend" ] && [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then
    backend=cpu
fi
installed=$("$python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || echo none)
if [ "${installed%%+*}" = "$torch" ]; then
    : # kept, whichever build it is
elif [ -z "$backend" ]; then
    locked torch
elif [ "$backend" != cpu ] || ! locked torch-cpu 2>/dev/null; then
    echo "PyTorch $torch ($backend) comes from PyTorch's own index: the lock has no hash of a file for this machine." >&2
    pip install --quiet uv
    "$python" -m uv pip install --quiet --python "$python" --torch-backend "$backend" "torch==$torch"
fi
