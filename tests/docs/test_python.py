"""Does the Python that the pages show run?"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.blocks import BLOCKS, ROOT, Block

PYTHON = [block for block in BLOCKS if block.language == "python"]
NOT_RUN = 4
"""So many say why they are not run. One more is a decision: raise the number with it."""
FIXTURES = {"load_model", "measure", "compare", "hardware", "folder", "model"}
NEEDS_PYTEST = "import pytest\n"


def completed(block: Block) -> str:
    """A module: statements that use fixtures without a test around them get one."""
    tree = ast.parse(block.text)
    defined = (ast.FunctionDef, ast.ClassDef)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    stored = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    wanted = sorted(names & FIXTURES - stored)
    if not wanted or any(isinstance(node, defined) for node in tree.body):
        return NEEDS_PYTEST + block.text
    body = textwrap.indent(block.text, "    ")
    return f"{NEEDS_PYTEST}def test_lines({', '.join(wanted)}):\n{body}"


def module_of(block: Block) -> str:
    """A name for its file: ``test_guide_34``."""
    return f"test_{Path(block.page).stem}_{block.line}"


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_python_compiles(block: Block) -> None:
    compile(completed(block), block.name, "exec")


def test_what_is_not_run_says_why_and_does_not_grow() -> None:
    reasons = [block.what for block in BLOCKS if block.said == "not run"]
    assert all(len(reason.split()) > 3 for reason in reasons)
    assert len(reasons) == NOT_RUN, reasons


def test_python_runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a scripted engine; what is to be red is, all else is green."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    pytester.makeconftest("from tests.docs.stand_in import *")
    (pytester.path / "questions.txt").write_text("What is the time? " * 2000)
    modules = {module_of(each): each for each in PYTHON if each.said != "not run"}
    for name, block in modules.items():
        (pytester.path / f"{name}.py").write_text(completed(block))
    result = pytester.runpytest_subprocess("--llmperf", "--junit-xml=junit.xml")
    outcomes = outcomes_of(pytester.path / "junit.xml")
    wanted = {
        name: {"failure" if block.what == "red" else "passed"}
        for name, block in modules.items()
        if "def test_" in completed(block)
    }
    assert outcomes == wanted, result.stdout.str()


def outcomes_of(file: Path) -> dict[str, set[str]]:
    """What became of the tests of each module; of one that cannot be imported, ``error``."""
    outcomes: dict[str, set[str]] = {}
    for case in ElementTree.parse(file).iter("testcase"):
        red = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes.setdefault(case.attrib["classname"] or case.attrib["name"], set()).update(
            red or {"passed"}
        )
    return outcomes
