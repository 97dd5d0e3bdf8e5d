#!/usr/bin/env bash
# Installs PyTorch for the given Python, in the version of locks/torch.txt and the right build for the machine.
#   NVIDIA GPU or macOS: the default build (CUDA on Linux).
#   Linux without a GPU: the CPU build, from any index where pip finds one of the files in locks/torch-cpu.txt. Otherwise
#     uv installs the build from PyTorch's own index, which has its own hashes; the lock has none for it.
# TORCH_BACKEND=cpu or cu126, cu128, … overrides this; other builds than cpu also come from PyTorch's index.
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
