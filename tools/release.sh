#!/usr/bin/env bash
# Builds the sdist, builds the wheel from it, installs the wheel in a fresh environment and runs it there. Both files
# remain in dist/; nothing is uploaded. The dependencies are those of the wheel, at the versions in locks/.
#   PYTHON=...  the Python of the fresh environment (default: python3)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
build() { "$root/.venv/bin/python" -m hatchling build --directory "$root/dist" --target "$1"; }

if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
    echo "Note: there are changes that are not committed, and they are part of what is built." >&2
fi
version=$(.venv/bin/python -m hatchling version)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -f dist/unmem-"$version"*
build sdist
tar -xzf "dist/unmem-$version.tar.gz" -C "$work"
(cd "$work/unmem-$version" && build wheel)

echo "Installing the wheel in a fresh environment (a few minutes) ..."
"${PYTHON:-python3}" -m venv "$work/env"
tools/torch.sh "$work/env/bin/python"
sed -n 's/^\([A-Za-z0-9][^ ]*==[^\\]*\).*/\1/p' locks/dev.txt >"$work/versions.txt"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$work/versions.txt" \
    "dist/unmem-$version-py3-none-any.whl"
"$work/env/bin/python" -m pip check

cd "$work" # away from the sources, so that only what is installed is found
"$work/env/bin/unmem" --help >/dev/null
[ "$("$work/env/bin/unmem" --version)" = "$version" ]
"$work/env/bin/python" -c 'import unmem; print(len([getattr(unmem, name) for name in unmem.__all__]), "public names")'
"$work/env/bin/unmem" demo --out demo
[ -s demo/report.html ]
echo "dist/unmem-$version.tar.gz and dist/unmem-$version-py3-none-any.whl are built, and the wheel runs."
