"""Do the first steps come to what the page shows, with the real engine?"""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import BLOCKS, Block

PAGE = "docs/quickstart.md"

pytestmark = pytest.mark.engine


def block(said: str, what: str) -> Block:
    (found,) = (each for each in BLOCKS if (each.page, each.said, each.what) == (PAGE, said, what))
    return found


def shape(line: str) -> str:
    """A pattern of a line whose numbers are another machine's."""
    return re.sub(r"\d[\d.,]*", "*", line.replace("[", "[[]"))


def test_the_red_test_says_what_the_page_shows(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_speed=block("run", "red").text)
    result = pytester.runpytest_subprocess("--llmperf")
    result.assert_outcomes(failed=1)
    heading, broken, measured, engine, machine, state, *_ = block(
        "printed", "red"
    ).text.splitlines()
    result.stdout.fnmatch_lines(
        [heading, *map(shape, (broken, measured, engine)), f"{machine[:12]}*", f"{state[:8]}*"],
        consecutive=True,
    )


def test_the_green_test_is_green_and_recorded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_speed=block("run", "green").text)
    result = pytester.runpytest_subprocess("--llmperf", "--llmperf-record")
    result.assert_outcomes(passed=1)
    assert list(pytester.path.glob("baselines/*/test_speed.py.jsonl"))
    pytester.runpytest_subprocess().assert_outcomes(skipped=1)
