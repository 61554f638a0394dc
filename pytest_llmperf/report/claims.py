"""Which claims hold on this machine, which do not, and which could not be tried here?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pytest_llmperf.gate.verdict import Verdict
from pytest_llmperf.report.result import JudgedTest


class Holds(StrEnum):
    """What the tests of one claim say of it."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    """Its tests assert what is true instead, and passed."""
    NOT_CONFIRMED = "not confirmed"
    """A test of it failed."""
    UNDECIDED = "undecided"
    """What was measured does not tell."""
    NOT_TESTABLE = "not testable here"


_OPEN = {Verdict.INCONCLUSIVE}


@dataclass(frozen=True)
class JudgedClaim:
    """One claim, and what became of it."""

    text: str
    holds: Holds
    why: str
    """What is true instead, what failed, or what is missing; empty where all of it is confirmed."""
    tests: tuple[JudgedTest, ...]


def judged_claims(tests: Sequence[JudgedTest]) -> list[JudgedClaim]:
    """Every claim that a test of this run makes, in their order."""
    texts = dict.fromkeys(each.claim.text for each in tests if each.claim is not None)
    return [
        _judged(text, tuple(each for each in tests if each.claim and each.claim.text == text))
        for text in texts
    ]


def _judged(text: str, tests: tuple[JudgedTest, ...]) -> JudgedClaim:
    """A failure weighs more than a pass, and that more than a skip."""
    failed = [each for each in tests if each.outcome in {"failed", "error"}]
    passed = [each for each in tests if each.outcome == "passed"]
    instead = next((each.claim.instead for each in tests if each.claim and each.claim.instead), "")
    if failed:
        return JudgedClaim(text, Holds.NOT_CONFIRMED, failed[0].reason or "", tests)
    if any(each.verdict in _OPEN for each in passed):
        return JudgedClaim(text, Holds.UNDECIDED, "what was measured does not tell", tests)
    missing = "; ".join(dict.fromkeys(each.reason or "" for each in tests if each not in passed))
    if not passed:
        return JudgedClaim(text, Holds.NOT_TESTABLE, missing, tests)
    untried = f"{len(passed)} of {len(tests)} cases, for the others: {missing}" if missing else ""
    holds = Holds.REFUTED if instead else Holds.CONFIRMED
    return JudgedClaim(text, holds, "; ".join(filter(None, (instead, untried))), tests)


def claim_lines(tests: Sequence[JudgedTest]) -> Iterator[str]:
    """How many claims hold, and each that does not; none without claims."""
    claims = judged_claims(tests)
    if not claims:
        return
    counts = {kind: sum(each.holds is kind for each in claims) for kind in Holds}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    yield f"claims of the guide: {told}"
    for each in claims:
        if each.holds in {Holds.REFUTED, Holds.NOT_CONFIRMED, Holds.UNDECIDED}:
            yield f"  {each.holds}: {each.text}"
            yield f"    {each.why}"
