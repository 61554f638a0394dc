"""Do the links of the pages lead somewhere, as files of the repository and on GitHub?

Those within docs/ are followed by MkDocs as well (test_site.py), which does not see the pages
beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from pymdownx.slugs import slugify

from tests.docs.blocks import PAGES, ROOT, parsed

_SLUG = slugify(case="lower")


def links_of(page: Path) -> Iterator[str]:
    """Where its links and pictures lead."""
    for token in parsed(page.read_text(encoding="utf-8")):
        for child in token.children or []:
            if child.type == "link_open":
                yield str(child.attrs["href"])
            elif child.type == "image":
                yield str(child.attrs["src"])


@cache
def anchors_of(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    tokens = parsed(page.read_text(encoding="utf-8"))
    titles = [
        "".join(child.content for child in after.children or [])
        for token, after in pairwise(tokens)
        if token.type == "heading_open"
    ]
    return {_SLUG(title, "-") for title in titles}


LINKS = [
    pytest.param(page, link, id=f"{page.name} {link}")
    for page in PAGES
    for link in sorted(set(links_of(page)))
    if not link.startswith(("https://", "http://"))
]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), f"{page.name}: there is no {path}"
    assert ROOT in target.parents, f"{page.name}: {path} lies outside"
    if anchor and target.suffix == ".md":
        assert anchor in anchors_of(target), f"{page.name}: {target.name} has no #{anchor}"


def test_there_are_links() -> None:
    assert len(LINKS) > 100
    assert "for-the-statistician" in anchors_of(ROOT / "docs" / "gate.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_addresses_are_https(page: Path) -> None:
    assert not [link for link in links_of(page) if link.startswith("http://")]
