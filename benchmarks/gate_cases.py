"""Which sessions are simulated, and what is promised of each?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from gate_noise import (
    BAD_DAY,
    DAYS_OF_5,
    DAYS_OF_10,
    HEAVY,
    JUMPING,
    JUMPING_OFTEN,
    METRICS,
    NEIGHBOUR,
    NOISY,
    SINGLE,
    TESTS,
    TYPICAL,
    UNSEEN_NEIGHBOUR,
    VERY_NOISY,
    Noise,
)
from gate_shares import Counts
from paired import Target

from pytest_llmperf.gate import Verdict


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions of one kind."""

    name: str
    noise: Noise
    history: int = 20
    """Sessions before the one that is judged; 0: a seed instead, five processes of one go."""
    machine: float = 0.0
    """What its machine has lost."""
    loss: float = 0.0
    """What the build has lost, in all tests alike."""
    recorded: int = 0
    """Sessions of that loss that were recorded already, and not accepted."""
    at_mde: bool = False
    """Each pair loses what is stated as the smallest loss that would be found."""
    repeats: int = 600
    """In the whole form."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of one session."""

    red: int
    inconclusive: int
    """Pairs."""
    looked_again: int
    """Tests of which either metric wanted a second look."""
    suite: Verdict
    mde: float
    """The median of those stated."""
    rivals: dict[str, int]
    """Red pairs by each."""


def any_red(seen: Outcome) -> Counts:
    """Whether the session has a red pair."""
    return int(seen.red > 0), 1


def red(seen: Outcome) -> Counts:
    """Red pairs."""
    return seen.red, TESTS * METRICS


def again(seen: Outcome) -> Counts:
    """Tests measured a second time."""
    return seen.looked_again, TESTS


def suite(seen: Outcome) -> Counts:
    """Whether the suite shift is red."""
    return int(seen.suite is Verdict.REGRESSED), 1


def unsure(seen: Outcome) -> Counts:
    """Pairs that cannot be told: no false alarm, and no help either."""
    return seen.inconclusive, TESTS * METRICS


def suite_unsure(seen: Outcome) -> Counts:
    """Whether the suite shift cannot be told."""
    return int(seen.suite is Verdict.INCONCLUSIVE), 1


class Row(msgspec.Struct, frozen=True):
    """One promise."""

    what: str
    case: Case
    count: Callable[[Outcome], Counts]
    target: Target = Target()


typical = Case(name="typical", noise=TYPICAL, repeats=3000)
noisy = Case(name="noisy", noise=NOISY, repeats=2000)
single = Case(name="single tests", noise=SINGLE, repeats=6000)
bad_day = Case(name="bad day, typical", noise=TYPICAL, machine=BAD_DAY)
bad_noisy = Case(name="bad day, noisy", noise=NOISY, machine=BAD_DAY)
heavy = Case(name="heavy tails, drift", noise=HEAVY)
twice = Case(name="twice the noise", noise=TYPICAL.scaled(2))
very_noisy = Case(name="very noisy", noise=VERY_NOISY)
jumping = Case(name="two speeds, 1 in 10", noise=JUMPING, repeats=400)
jumping_often = Case(name="two speeds, 3 in 10", noise=JUMPING_OFTEN, repeats=400)
neighbour = Case(name="neighbour", noise=NEIGHBOUR, repeats=300)
unseen = Case(name="neighbour, unseen", noise=UNSEEN_NEIGHBOUR, repeats=300)
neighbour_10 = Case(name="10 % slower, neighbour", noise=NEIGHBOUR, loss=0.10, repeats=300)
unseen_10 = Case(name="10 % slower, unseen", noise=UNSEEN_NEIGHBOUR, loss=0.10, repeats=300)
typical_10 = Case(name="typical, 10", noise=TYPICAL, history=10, repeats=2400)
noisy_10 = Case(name="noisy, 10", noise=NOISY, history=10, repeats=2400)
single_10 = Case(name="single tests, 10", noise=SINGLE, history=10, repeats=2400)
lost_3 = Case(name="3 % slower, typical", noise=TYPICAL, loss=0.03)
lost_5 = Case(name="5 % slower, typical", noise=TYPICAL, loss=0.05, repeats=400)
stayed_5 = Case(name="5 % slower, 5 times", noise=TYPICAL, loss=0.05, recorded=5, repeats=200)
stayed_20 = Case(name="5 % slower, 20 times", noise=TYPICAL, loss=0.05, recorded=20, repeats=200)
suite_stayed = Case(name="3 % slower, 10 times", noise=TYPICAL, loss=0.03, recorded=10, repeats=200)
lost_10 = Case(name="10 % slower, typical", noise=TYPICAL, loss=0.10, repeats=400)
noisy_lost_10 = Case(name="10 % slower, noisy", noise=NOISY, loss=0.10, repeats=400)
very_noisy_lost_10 = Case(name="10 % slower, very noisy", noise=VERY_NOISY, loss=0.10, repeats=400)
mde = Case(name="at the MDE, typical", noise=TYPICAL, at_mde=True, repeats=400)
mde_noisy = Case(name="at the MDE, noisy", noise=NOISY, at_mde=True, repeats=400)
mde_single = Case(name="at the MDE, single tests", noise=SINGLE, at_mde=True, repeats=400)
seeds = tuple(
    Case(name=f"{'35 %, ' * bool(loss)}a seed, {name}", noise=noise, history=0, loss=loss,
         repeats=200)
    for loss in (0.0, 0.35)
    for name, noise in (
        ("typical", TYPICAL), ("very noisy", VERY_NOISY), ("days of 5 %", DAYS_OF_5),
        ("days of 10 %", DAYS_OF_10),
    )
)  # fmt: skip
UNCHANGED = (
    typical, noisy, single, bad_day, bad_noisy, heavy, twice, very_noisy, typical_10, noisy_10,
    single_10,
)  # fmt: skip
SLOWER = (lost_5, lost_10, noisy_lost_10)
CASES = (
    *UNCHANGED, lost_3, *SLOWER, very_noisy_lost_10, mde, mde_noisy, mde_single, jumping,
    jumping_often, stayed_5, stayed_20, suite_stayed, neighbour, unseen, neighbour_10, unseen_10,
    *seeds,
)  # fmt: skip

PROMISES = {
    "false alarm in a session": (
        Row("typical", typical, any_red, Target(most=1)),
        Row("noisy", noisy, any_red, Target(most=3)),
        Row("single tests' days of 1 %", single, any_red, Target(most=3)),
        Row("bad machine day, typical", bad_day, any_red, Target(most=10)),
        Row("bad machine day, noisy", bad_noisy, any_red, Target(most=10)),
        Row("heavy tails, drift", heavy, any_red),
        Row("twice the typical noise", twice, any_red),
        Row("very noisy", very_noisy, any_red),
        Row("a neighbour, cores tried", neighbour, any_red),
        Row("a neighbour, not tried", unseen, any_red),
        Row("10 sessions, typical", typical_10, any_red, Target(most=4)),
        Row("10 sessions, noisy", noisy_10, any_red, Target(most=4)),
        Row("10 sessions, single tests", single_10, any_red, Target(most=4)),
    ),
    "false alarm in a pair": (
        Row("10 % slower 1 in 10 times", jumping, red),
        Row("10 % slower 3 in 10 times", jumping_often, red),
        *(Row(case.name, case, red) for case in seeds if not case.loss),
    ),
    "loss found in a pair": (
        Row("3 %, typical", lost_3, red),
        Row("5 %, typical", lost_5, red, Target(least=85)),
        Row("5 %, recorded 5 times", stayed_5, red, Target(least=85)),
        Row("5 %, recorded 20 times", stayed_20, red, Target(least=85)),
        Row("10 %, typical", lost_10, red, Target(least=95)),
        Row("10 %, noisy", noisy_lost_10, red, Target(least=55)),
        Row("10 %, very noisy", very_noisy_lost_10, red),
        Row("10 %, neighbour, tried", neighbour_10, red),
        Row("10 %, neighbour, not tried", unseen_10, red),
        *(Row(case.name, case, red) for case in seeds if case.loss),
        Row("its MDE, {mde}, typical", mde, red),
        Row("its MDE, {mde}, noisy", mde_noisy, red),
        Row("its MDE, {mde}, single", mde_single, red),
    ),
    "test measured again": (
        Row("typical", typical, again, Target(most=12)),
        Row("noisy", noisy, again, Target(most=12)),
        Row("single tests' days of 1 %", single, again, Target(most=12)),
    ),
    "suite shift is red": (
        Row("3 % slower, typical", lost_3, suite, Target(least=90)),
        Row("3 %, recorded 10 times", suite_stayed, suite, Target(least=90)),
        *(Row(case.name, case, suite) for case in UNCHANGED[:8]),
    ),
}
