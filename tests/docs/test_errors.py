"""Does the code still say what the page of errors quotes?

A message of the code is a text with holes, ``…``; so is a quotation. The quoted pieces have to
stand in one message of the code, in their order.
"""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.blocks import BLOCKS, ROOT

PAGE = "docs/faq.md"
QUOTED = [block for block in BLOCKS if block.page == PAGE and block.language == "text"]
HOLE = "…"


def template(node: ast.expr) -> str | None:
    """The text of a string, a hole in the place of what is put into it; None: it is no string."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or HOLE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = template(node.left), template(node.right)
        return "".join(side or HOLE for side in sides) if any(sides) else None
    return None


@cache
def messages() -> frozenset[str]:
    """Every string of the package that is no docstring; spaces of any width are one."""
    found: set[str] = set()
    for path in sorted((ROOT / "pytest_llmperf").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        told = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        nodes = (node for node in ast.walk(tree) if isinstance(node, ast.expr))
        found |= {template(node) or "" for node in nodes if node not in told}
    return frozenset(" ".join(each.split()) for each in found)


def said_by_the_code(quotation: str) -> bool:
    """Whether one message holds the pieces between the quotation's holes, in their order."""
    pieces = [piece for piece in " ".join(quotation.split()).split(HOLE) if piece.strip()]
    wanted = re.compile(".*?".join(map(re.escape, pieces)))
    return any(wanted.search(message) for message in messages())


@pytest.mark.parametrize("quotation", [block.text for block in QUOTED])
def test_the_code_still_says_it(quotation: str) -> None:
    assert said_by_the_code(quotation)


def test_the_page_quotes_many() -> None:
    assert len(QUOTED) > 30


@pytest.mark.parametrize(
    "quotation",
    [
        "backend … is not instaled: …",
        "unknown keyword …, perhaps you mean …?",
        "What can go wrong with a worker, in words for the person whose test it was?",
    ],
)
def test_what_nobody_says_is_found(quotation: str) -> None:
    assert not said_by_the_code(quotation)
