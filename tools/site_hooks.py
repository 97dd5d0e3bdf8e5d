"""MkDocs hooks: pages from the root of the repository, with links that work in both places.

README.md and similar files are shown on the pages of the repository and on the site. Their links are rewritten for the
site. A linked file that is not a page, such as a script, is copied to the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
# File in the repository -> page of the site.
ROOT_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
SOURCES = {page: source for source, page in ROOT_PAGES.items()}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(?=[)#])")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")  # as on the repository's own pages
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for file in list(files.documentation_pages()):
        for target in linked_files(source_of(file.src_uri), Path(str(file.abs_src_path)).read_text(encoding="utf-8")):
            place = place_of(target)
            if files.get_file_from_path(place) is None and (ROOT / target).is_file():
                files.append(File.generated(config, place, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **kwargs: Any) -> str:
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # its section has no other page, and the demo's output is wide
    return rewritten(source_of(page.file.src_uri), markdown)


def rewritten(source: str, text: str) -> str:
    """The text of a file of the repository, with links that hold on the site."""
    folder = posixpath.dirname(place_of(source))

    def on_site(match: re.Match[str]) -> str:
        target = resolved(source, match[1])
        return posixpath.relpath(place_of(target), folder or ".") if (ROOT / target).is_file() else match[1]

    return LINK.sub(on_site, text)


def linked_files(source: str, text: str) -> list[str]:
    return [resolved(source, link) for link in LINK.findall(text)]


def resolved(source: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def source_of(page: str) -> str:
    """Page of the site -> file in the repository."""
    return SOURCES.get(page, f"docs/{page}")


def place_of(source: str) -> str:
    """File in the repository -> its place on the site."""
    return ROOT_PAGES.get(source, source.removeprefix("docs/"))
