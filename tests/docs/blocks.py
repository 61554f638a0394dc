"""Which code do the pages show, and what do they say of it?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
_COMMENT = re.compile(r"<!-- (run|printed|not run): (.+?) -->\s*$")
_SHELLS = {"console", "sh", "bash", "shell"}


@dataclass(frozen=True)
class Block:
    """Code between fences. A comment on the line before it may say what becomes of it."""

    page: str
    line: int
    language: str
    text: str
    said: str = ""
    """``run``, ``printed`` or ``not run``; empty: nothing is said."""
    what: str = ""
    """What is run or printed, by its name; why it is not run."""

    @property
    def name(self) -> str:
        """As a test is called: ``docs/gate.md:12``."""
        return f"{self.page}:{self.line}"


def parsed(text: str) -> list[Token]:
    """As GitHub reads Markdown."""
    return MarkdownIt("commonmark").enable("table").parse(text)


def blocks_of(page: Path) -> Iterator[Block]:
    """In the order in which they stand."""
    before: Token | None = None
    for token in parsed(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            comment = _COMMENT.search(before.content) if before is not None else None
            said, what = comment.groups() if comment else ("", "")
            line = token.map[0] + 1 if token.map else 0
            name = page.relative_to(ROOT).as_posix()
            yield Block(name, line, token.info.split(" ")[0], token.content, said, what)
        before = token if token.type == "html_block" else None


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
"""Of all pages."""


def commands() -> Iterator[tuple[Block, str]]:
    """Each command line that a page shows, without its prompt, in one line."""
    for block in BLOCKS:
        if block.language not in _SHELLS:
            continue
        whole = block.text.replace("\\\n", " ")
        prompted = [line[2:] for line in whole.splitlines() if line.startswith("$ ")]
        lines = prompted if block.language == "console" else whole.splitlines()
        yield from ((block, line) for line in lines if line.strip() and line.lstrip()[0] != "#")
