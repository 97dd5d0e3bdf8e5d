"""The documentation: complete, with links that hold, and with nothing that is loaded from elsewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import unmem as um

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
ENTRY = re.compile(r"^::: unmem\.(\w+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]*)\)")
# Small rooms share a page.
PAGE_OF_ROOM = {"recipe": "training", "tracking": "training", "requests": "unlearning", "tables": "evaluation"}


@pytest.fixture(scope="module")
def check_site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_site", ROOT / "tools" / "check_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_lists_every_public_name_on_the_page_of_its_room(check_site: ModuleType) -> None:
    listed = {path.stem: ENTRY.findall(path.read_text()) for path in (DOCS / "api").glob("*.md")}
    names = [name for name in um.__all__ if name != "__version__"]
    assert check_site.public_names() == names
    assert sorted(name for those in listed.values() for name in those) == sorted(names)
    for room, those in um._ROOMS.items():
        page = room.removeprefix("unmem.")
        assert set(those) <= set(listed[PAGE_OF_ROOM.get(page, page)])


def test_the_navigation_names_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    for path in DOCS.rglob("*.md"):
        assert re.search(rf"[ :]{re.escape(path.relative_to(DOCS).as_posix())}$", text, re.MULTILINE), path


def anchors(path: Path) -> set[str]:
    """As the repository's own pages make them from headings."""
    headings = re.findall(r"^#+ +(.*)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_of_the_repository_hold(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


GOOD = '<link rel="stylesheet" href="a.css"><a href="https://example.org">out</a><a href="api/d.html#unmem.load">in</a>'


@pytest.mark.parametrize(
    ("page", "style", "fault"),
    [
        (GOOD, "p { background: url(data:image/png;base64,AA) }", None),
        (GOOD + '<script src="https://cdn.example.org/x.js"></script>', "", "loads https://cdn.example.org/x.js"),
        (GOOD + '<link rel="preconnect" href="https://fonts.example.org">', "", "loads https://fonts.example.org"),
        (GOOD + '<img src="//example.org/x.png">', "", "loads //example.org/x.png"),
        (GOOD + "<style>@import 'https://example.org/x.css'</style>", "", "loads https://example.org/x.css"),
        (GOOD, "@import url(https://example.org/x.css);", "loads https://example.org/x.css"),
        (GOOD + '<a href="gone.html">x</a>', "", "gone.html leads to no file"),
        (GOOD + '<a href="../index.html">x</a>', "", "../index.html leads to no file"),
        (GOOD + '<a href="api/d.html#unmem.fit">x</a>', "", "api/d.html#unmem.fit leads to no anchor"),
    ],
)
def test_the_check_of_the_site_finds(
    check_site: ModuleType, tmp_path: Path, page: str, style: str, fault: str | None
) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "a.css").write_text(style)
    (tmp_path / "api" / "d.html").write_text('<h2 id="unmem.load">load</h2>')
    found = check_site.faults(tmp_path, ["load"])
    assert len(found) == (fault is not None), found
    assert fault is None or fault in found[0]
    assert check_site.faults(tmp_path, ["load", "fit"])[-1] == "api: fit has no entry"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"] == um.__name__
    assert citation["version"] == um.__version__
    assert citation["license"] == "Apache-2.0"
