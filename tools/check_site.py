"""Checks the built documentation site: `python tools/check_site.py [FOLDER]`.

- Every link within the site leads to an existing file and anchor.
- No page, style sheet or picture loads anything from another host. Links to other hosts are allowed.
- Every public name of the package has its entry in the API reference.
"""

from __future__ import annotations

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
LOADING_LINKS = {"dns-prefetch", "icon", "manifest", "modulepreload", "preconnect", "prefetch", "preload", "stylesheet"}
LOADING = {"src", "srcset", "data", "poster", "xlink:href"}  # attributes that load, whatever the element
IN_STYLE = re.compile(r"""(?:@import\s*(?:url\()?|url\()\s*["']?([^"')\s]+)""")
ELSEWHERE = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)


class Content(HTMLParser):
    """The anchors of a page, what it links to and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.loads += [value for name, value in found.items() if name in LOADING and tag != "a"]
        self.loads += IN_STYLE.findall(found.get("style", ""))
        if "href" in found:
            loading = tag in ("image", "use") or set(found.get("rel", "").split()) & LOADING_LINKS
            (self.loads if tag != "a" and loading else self.links).append(found["href"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._in_style = False

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads += IN_STYLE.findall(data)


def faults(site: Path, names: list[str]) -> list[str]:
    """What is wrong with a site, a line each."""
    pages = {path: Content(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site}: no page is there"]
    loads = {path: page.loads for path, page in pages.items()}
    loads |= {path: Content(path.read_text(encoding="utf-8")).loads for path in site.rglob("*.svg")}
    loads |= {path: IN_STYLE.findall(path.read_text(encoding="utf-8")) for path in site.rglob("*.css")}
    found = [
        f"{path.relative_to(site)}: loads {link} from another host"
        for path, links in loads.items()
        for link in links
        if ELSEWHERE.match(link)
    ]
    for path, page in pages.items():
        for link in page.links + page.loads:
            fault = broken(link, path, site, pages)
            found += [f"{path.relative_to(site)}: {link} {fault}"] if fault else []
    entries = set[str]().union(*(page.anchors for path, page in pages.items() if path.parent == site / "api"))
    return found + [f"api: {name} has no entry" for name in names if f"unmem.{name}" not in entries]


def broken(link: str, path: Path, site: Path, pages: dict[Path, Content]) -> str:
    """What is wrong with a link of a page, or nothing."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    start = site if parts.path.startswith("/") else path.parent
    target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site) or not target.is_file():
        return "leads to no file of the site"
    anchor = unquote(parts.fragment)
    return "leads to no anchor" if anchor and target in pages and anchor not in pages[target].anchors else ""


def public_names() -> list[str]:
    """`unmem.__all__`, without an import of the package."""
    tree = ast.parse((ROOT / "src" / "unmem" / "__init__.py").read_text(encoding="utf-8"))
    [value] = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return [name for name in ast.literal_eval(value) if name != "__version__"]


if __name__ == "__main__":
    site = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site").resolve()
    lines = faults(site, public_names())
    sys.exit("\n".join(lines) if lines else 0)
