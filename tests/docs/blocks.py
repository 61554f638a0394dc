"""Which code do the pages show, and what do they say of it?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
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
_SHELLS = {"sh", "bash", "shell"}
_FILLED_IN = re.compile(r"\$\{\{.*?\}\}")
_OURS = re.compile(r"(exec |[A-Z_]+=\S+ )*(\S+/)?pytest(-llmperf)?\b")
_STEP = re.compile(r"^ *sh '(.*)'$", re.MULTILINE)


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
    """Of all pages, each with its block."""
    return ((block, line) for block in BLOCKS for line in commands_of(block))


def commands_of(block: Block) -> Iterator[str]:
    """Each command line that it shows, without its prompt, in one line.

    Of jobs, in YAML or for Jenkins, only ours: what stands around them is a shell's.
    """
    if block.language == "console":
        yield from (line[2:] for line in _lines(block.text) if line.startswith("$ "))
    elif block.language in _SHELLS:
        yield from (line for line in _lines(block.text) if line[0] != "#")
    elif block.language in {"yaml", "yml"}:
        for text in _scripts(yaml.safe_load(block.text)):
            yield from filter(_OURS.match, _lines(_FILLED_IN.sub("X", text)))
    elif block.language == "groovy":
        yield from filter(_OURS.match, steps_of(block.text))


def steps_of(pipeline: str) -> list[str]:
    """What the ``sh`` steps of a pipeline of Jenkins run."""
    return _STEP.findall(pipeline)


def _lines(text: str) -> list[str]:
    """Those that go on are joined; empty ones are none."""
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]


def _scripts(settings: object) -> Iterator[str]:
    """What the jobs of a file of settings run: GitHub's ``run``, GitLab's ``script``."""
    if isinstance(settings, list):
        for each in settings:
            yield from _scripts(each)
    elif isinstance(settings, dict):
        for name, value in settings.items():
            if name in {"run", "script", "before_script", "after_script"}:
                yield from map(str, value if isinstance(value, list) else [value])
            else:
                yield from _scripts(value)
