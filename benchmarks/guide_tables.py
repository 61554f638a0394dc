"""Which claims of the guide hold here? The tables of docs/guide.md, from a run of the suites.

    pytest --llmperf --llmperf-suite --llmperf-json=suites.json
    python benchmarks/guide_tables.py suites.json [vllm.json …] [--write]

Each suite's claims with what became of them, and what was measured. Of several results, such as
one for each environment of one machine, a test counts as the last that ran it found it, and a skip
does not replace a result. `--write` puts them into docs/guide.md, between the two marks of each
suite; all of them, or the page would tell of several runs.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.measure import Measurement
from pytest_llmperf.report import words
from pytest_llmperf.report.claims import Holds, JudgedClaim, judged_claims
from pytest_llmperf.report.result import Comparison, JudgedTest, RunResult, read_json
from pytest_llmperf.report.sweep import sweep_lines
from pytest_llmperf.report.tradeoff import tradeoff_lines

DOCS = Path(__file__).parents[1] / "docs" / "guide.md"
HEAD = ("| claim | here | measured |", "|---|---|---|")
SERIES = ("test_a_level_says_what_f16_says", "test_so_many_threads", "test_so_many_sequences")
"""Tests whose variants, and whose knees, the guide shows."""
MOST = 6
"""Measurements of one claim that are told one by one."""
_TOLD = ("decode_tps", "prefill_tps", "ttft", "ram")


def main() -> None:
    """Read a result; print the tables, or write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    results = [read_json(each) for each in given.results]
    require_one_machine(results)
    tests = together(results)
    tables = {suite: list(table(own)) for suite, own in by_suite(tests).items()}
    tables["summary"] = [summary(tests, results[0])]
    shown = [each for each in tests if any(name in each.test for name in SERIES)]
    tables["tradeoff"] = ["```", *tradeoff_lines(shown), "", *sweep_lines(shown), "```"]
    if given.write:
        write(tables)
        return
    for name, lines in tables.items():
        print(f"\n{name}", *lines, sep="\n")


def require_one_machine(results: Sequence[RunResult]) -> None:
    """Raises SystemExit where the results are of several."""
    machines = dict.fromkeys(each.hardware.fingerprint for each in results)
    if len(machines) > 1:
        raise SystemExit(f"results of {len(machines)} machines: {', '.join(machines)}")


def together(results: Sequence[RunResult]) -> list[JudgedTest]:
    """Every test once, in the order of their files."""
    found: dict[str, JudgedTest] = {}
    for test in (each for result in results for each in result.tests):
        file, _, case = test.test.partition("::")
        name = f"{Path(file).name}::{case}"
        if name not in found or test.outcome != "skipped":
            found[name] = test
    return list(found.values())


def by_suite(tests: Sequence[JudgedTest]) -> dict[str, list[JudgedTest]]:
    """Those with a claim, by the name of their file."""
    found: dict[str, list[JudgedTest]] = {}
    for test in tests:
        if test.claim is not None:
            suite = Path(test.test.partition("::")[0]).stem.removeprefix("test_")
            found.setdefault(suite, []).append(test)
    return found


def summary(tests: Sequence[JudgedTest], result: RunResult) -> str:
    """How many claims hold, on which machine, and when."""
    claims = judged_claims(tests)
    counts = ", ".join(
        f"{sum(each.holds is kind for each in claims)} {kind}"
        for kind in Holds
        if any(each.holds is kind for each in claims)
    )
    return (
        f"{len(claims)} claims: {counts}. {result.created[:10]}, {words.machine(result.hardware)}."
    )


def table(tests: Sequence[JudgedTest]) -> Iterator[str]:
    """A row for each claim of a suite."""
    yield from HEAD
    for claim in judged_claims(tests):
        cells = (claim.text, _verdict(claim), "; ".join(_numbers(claim)) or "–")
        yield f"| {' | '.join(_cell(each) for each in cells)} |"


def _verdict(claim: JudgedClaim) -> str:
    held = f"**{claim.holds}**"
    return f"{held}: {claim.why}" if claim.why else held


def _numbers(claim: JudgedClaim) -> Iterator[str]:
    """What its tests recorded, compared and measured."""
    for test in claim.tests:
        case = f"{_case(test)}: " if _case(test) else ""
        told = [f"{name} {value}" for name, value in test.told.items()]
        told += [_compared(each) for each in test.comparisons]
        if not told:
            told = [_measured(each.measurement) for each in test.measurements[:MOST]]
        if told:
            yield case + ", ".join(told)


def _case(test: JudgedTest) -> str:
    found = re.search(r"\[(.*)\]$", test.test)
    return found[1] if found else ""


def _compared(found: Comparison) -> str:
    if found.ratio is None:
        return f"{found.label_a} against {found.label_b}: {found.invalid}"
    memory = "" if found.memory_ratio is None else f", memory × {found.memory_ratio:.2f}"
    interval = f"{found.low:.2f}–{found.high:.2f}, {found.pairs} pairs"
    return f"{BY_NAME[found.metric].label} × {found.ratio:.2f} ({interval}){memory}"


def _measured(seen: Measurement) -> str:
    output = [name for name in seen.metrics if BY_NAME[name].of_output]
    shown = output or [name for name in _TOLD if name in seen.metrics]
    name = "" if seen.name.isdecimal() else f"{seen.name} "
    return name + ", ".join(words.labelled(each, seen.metrics[each].median) for each in shown)


def _cell(text: str) -> str:
    """One line, and no path of the machine that ran it."""
    text = re.sub(r"/\S*/bin/python\S*", "python", text).replace(str(Path.home()), "~")
    return text.replace("|", "\\|").replace("\n", " ")


def write(tables: dict[str, list[str]]) -> None:
    """Between the marks of each. Raises SystemExit for one without, or that is left out."""
    text = DOCS.read_text(encoding="utf-8")
    left_out = set(re.findall(r"<!-- (\w+): begin -->", text)) - tables.keys()
    if left_out:
        raise SystemExit(f"not in these results: {', '.join(sorted(left_out))}")
    for name, lines in tables.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise SystemExit(f"{DOCS} has no marks of {name}")
        text = "".join((before, begin, "\n".join(lines), "\n", end, after))
    DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
