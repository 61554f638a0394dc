"""Does the guide tell of the claims that the suites make, of all and of no others?"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
MARKER = "pytest.mark.claim"


def claims_of(path: Path) -> set[str]:
    """The texts of a suite's markers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.Call) and ast.unparse(each.func) == MARKER
    ]
    return {str(ast.literal_eval(each.args[0])) for each in calls}


def told_of(name: str, guide: str) -> set[str]:
    """The first cells of a suite's table."""
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", guide, re.DOTALL)
    assert found is not None, f"no table of {name}"
    rows = found[1].splitlines()[2:]
    return {re.split(r"(?<!\\) \| ", row.removeprefix("| "))[0] for row in rows}


def test_every_claim_of_a_suite_is_in_the_guide_and_no_other() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "suites").glob("test_*.py")):
        name = path.stem.removeprefix("test_")
        if name != "smoke":
            assert told_of(name, guide) == claims_of(path), name
