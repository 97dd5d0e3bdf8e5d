"""A run of a few files, for the harness."""

from __future__ import annotations

from pathlib import Path

from unmem.store import RunFolder


def publish(out: str, mark: str, force: bool) -> None:
    """A run with files of its own, and with files in folders."""

    def write(folder: Path) -> None:
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / f"{mark}.txt").write_text(mark)
        (folder / "config.json").write_text(mark)

    with RunFolder(out, force=force) as folder:
        folder.json("result.json", {"mark": mark})
        folder.text("config.yaml", mark)
        folder.text(f"retrained-{len(mark)}.safetensors", mark)
        folder.file("unlearned", write)
