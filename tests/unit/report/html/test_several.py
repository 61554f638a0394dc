"""Is every measurement that stands beside others told apart from them?"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.html.model import Group
from pytest_llmperf.report.html.several import chapters
from pytest_llmperf.report.merged import merge
from pytest_llmperf.report.result import JudgedTest
from tests.unit.report.many_results import a_measurement, a_test
from tests.unit.report.test_result import run_result

ALIKE = "x" * 80


def a_run_of(backend: str, name: str = "", speed: float = 50, **options: str) -> JudgedTest:
    chance = random.Random(1)
    seen = a_measurement(chance, "synthetic:llama-160m", backend, "Q8_0", speed)
    seen = msgspec.structs.replace(seen, requested=options)
    nodeid = f"t.py::test_{backend}{name}{speed:.0f}"
    return a_test(chance, nodeid, seen, Verdict.PASSED, sessions=1)


def group_of(title: str, root: Path, *tests: JudgedTest, machines: int = 1) -> Group:
    here = msgspec.structs.replace(run_result(root), tests=list(tests))
    results = {
        f"{number}.json": msgspec.structs.replace(
            here, hardware=msgspec.structs.replace(here.hardware, fingerprint=f"{number}")
        )
        for number in range(machines)
    }
    (chapter,) = (each for each in chapters(merge(results)) if each.title == title)
    return chapter.groups[0]


def test_engines_with_other_options_are_other_arms(tmp_path: Path) -> None:
    group = group_of(
        "Engines",
        tmp_path,
        a_run_of("llama-cpp", speed=50, n_threads="1"),
        a_run_of("llama-cpp", speed=90, n_threads="2"),
        a_run_of("transformers", speed=40),
    )
    first, second, third = (row[1].text for row in group.table.rows)
    assert first.startswith("llama-cpp ")
    assert second.startswith("llama-cpp ")
    assert first.endswith(" n_threads=1")
    assert second.endswith(" n_threads=2")
    assert third.startswith("transformers ")


def test_tests_whose_long_names_end_alike_have_rows_of_their_own(tmp_path: Path) -> None:
    tests = [a_run_of(f"engine{number}", name=ALIKE) for number in range(3)]
    group = group_of("Machines", tmp_path, *tests, machines=2)
    names = {str(row["name"]) for row in group.figures[0].data["points"]}
    assert len(names) == 3
    assert [name[:10] for name in sorted(names)] == ["1 test_eng", "2 test_eng", "3 test_eng"]
    assert [row[0].text[:2] for row in group.table.rows] == ["1 ", "1 ", "2 ", "2 ", "3 ", "3 "]
