"""Is the site whole: every page in its place, as GitHub shows it, with nothing to fetch?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.blocks import PAGES, ROOT

WRITTEN = [page for page in PAGES if page.parent.name == "docs"]
GENERATED = {"api.md", "commands.md"}
"""Much of these is made while the site is built."""
COUNTED = {"h1", "h2", "h3", "h4", "table", "tr", "li", "pre", "img"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def build(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Strictly. Not ``--quiet``: MkDocs then counts no warning."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once: a link, an anchor or a page that is lost fails it."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[x](nowhere.md)", "'nowhere.md', but the target is not found"),
        ("[x](#nothing)", "no such anchor"),
        ("[x](other.md#nothing)", "does not contain an anchor '#nothing'"),
        ("[x](/index.md)", "absolute link '/index.md'"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(text: str, words: str, tmp_path: Path) -> None:
    """By our settings, of a site of two pages."""
    pages = tmp_path / "docs"
    pages.mkdir()
    (pages / "index.md").write_text(f"# Page\n\n{text}\n")
    (pages / "other.md").write_text("# Other\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: []\nplugins: []\n"
        "nav: [index.md, other.md]\n"
    )
    built = build(config, tmp_path / "site")
    assert built.returncode == 1
    assert words in built.stderr


class Article(HTMLParser):
    """The elements of a page's own text, without what the theme puts around it."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "article":
            self._inside = True
        elif self._inside and tag in COUNTED:
            self.elements[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "article"


def elements(html: str, *, whole: bool = False) -> Counter[str]:
    """Of a page of the site; or of a ``whole`` text without a theme."""
    reader = Article()
    reader.feed(f"<article>{html}</article>" if whole else html)
    return reader.elements


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_the_site_shows_what_github_shows(site: Path, page: Path) -> None:
    """MkDocs reads Markdown in another way: a list without an empty line before it is none."""
    if page.name in GENERATED:
        return
    theirs = MarkdownIt("commonmark").enable("table").render(page.read_text(encoding="utf-8"))
    ours = (site / f"{page.stem}.html").read_text(encoding="utf-8")
    assert elements(ours) == elements(theirs, whole=True)


def test_every_page_has_its_place(site: Path) -> None:
    """MkDocs fails for one that has none; this is to say which line is missing where."""
    told = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    written = {page.name for page in WRITTEN}
    assert written - told == set(), "give them a line under nav: in mkdocs.yml"
    assert told - written == {"contributing.md", "changelog.md"}


def test_nothing_is_fetched(site: Path) -> None:
    """Scripts, styles, pictures and fonts are files of the site; links may lead elsewhere."""
    pattern = re.compile(
        r"""<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//|<link(?=[^>]*rel="(?!canonical))[^>]*"""
        r"""\shref="(?:https?:)?//|url\(["']?(?:https?:)?//|@import ["'](?:https?:)?//"""
    )
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(files) > 20
    assert [path.name for path in files if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_the_search_knows_the_pages_and_lies_beside_them(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index")
    assert all(f"{page.stem}.html" in index for page in WRITTEN)


def test_the_helps_are_asked_of_the_commands(site: Path) -> None:
    page = (site / "commands.html").read_text(encoding="utf-8")
    assert "<!-- help:" not in page
    assert "usage: pytest-llmperf plan" in page
    assert "--no-flash-attention" in page


def test_the_reference_is_made_from_the_docstrings(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    for name in ("LoadModel", "Measurement", "PerfLimits", "Engine", "BackendContract"):
        assert re.search(rf'id="pytest_llmperf\.[\w.]*\.{name}"', page), name
    assert "Decode every sequence of" in page
    assert ":func:" not in page
    assert ":class:" not in page


def test_a_file_that_a_page_links_to_is_a_page(site: Path) -> None:
    shown = (site / "repository" / "suites" / "test_threads.py.html").read_text(encoding="utf-8")
    assert "pytest.mark.claim" in re.sub(r"<[^>]+>", "", shown)


def result_titles(dom: str) -> Iterator[str]:
    yield from re.findall(r'md-search-result__meta">\s*([^<]*?)\s*<', dom)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_search_finds_from_the_disk(site: Path) -> None:
    assert CHROMIUM is not None
    address = f"{(site / 'index.html').as_uri()}?q=underpowered"
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    shown = subprocess.run(
        [CHROMIUM, *words, "--dump-dom", address], capture_output=True, text=True, check=True
    )
    (found,) = result_titles(shown.stdout)
    assert int(found.split()[0]) >= 2, found
