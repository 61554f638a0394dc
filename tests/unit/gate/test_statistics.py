"""Do the gate's estimates equal what pencil and paper give, and do they bear odd pasts?"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
import pytest

from pytest_llmperf.gate import Cohort, SessionSummary
from pytest_llmperf.gate.past import adjusted, counted
from pytest_llmperf.gate.slope import probe_slope
from pytest_llmperf.gate.statistics import (
    SEED_NOISE,
    adjusted_mean,
    cohort_of,
    estimate,
    session_variance,
    t_quantile,
)
from tests.unit.gate.histories import (
    CENTRE,
    PROBE,
    QUIET,
    RAMP,
    SHARP,
    changed,
    coupled,
    history,
    invocation,
    level,
    noisy,
    swinging,
)


def probe_weight(past: Sequence[SessionSummary]) -> float:
    return probe_slope(past).weight


NO_NOISE = Cohort(noise=0.0)
QUADRATIC = (2, -1, -2, -1, 2)
"""Has no part of RAMP in it, sums to nothing, and its squares to 14."""


@pytest.mark.parametrize(
    ("share", "freedom", "printed"),
    [(0.975, 10, 2.228139), (0.995, 13, 3.012276), (0.90, 27, 1.313703), (0.80, 13, 0.870152)],
)
def test_t_quantiles_are_those_of_printed_tables(
    share: float, freedom: int, printed: float
) -> None:
    assert t_quantile(share, freedom) == pytest.approx(printed, abs=1e-6)
    assert t_quantile(1 - share, freedom) == pytest.approx(-printed, abs=1e-6)


def test_noise_of_a_lone_pair() -> None:
    """10 sessions of ±1 %: σ² = (4 · 0.025² + 10 · 0.01²) / (4 + 9) = 0.0035/13, so σ = 1.6408 %;
    error = σ·√(1 + 1.57/10) = 1.6408 % · 1.075639 = 1.7649 %.
    """
    noise = estimate(swinging(10, 0.01))
    assert noise.centre == pytest.approx(CENTRE)
    assert noise.sigma == pytest.approx(0.0164083, abs=1e-7)
    assert noise.error == pytest.approx(0.0176494, abs=1e-7)
    assert noise.freedom == 13
    assert noise.sessions == 10
    assert noise.probe_weight == 0


def test_noise_of_a_pair_among_others() -> None:
    """The same with s₀ = 2 % of weight 8: σ² = (8 · 0.02² + 0.001)/(8 + 9) = 0.0042/17."""
    noise = estimate(swinging(10, 0.01), Cohort(noise=0.02, pairs=30))
    assert noise.sigma == pytest.approx(0.0157181, abs=1e-7)
    assert noise.freedom == 17


def test_other_pairs_never_make_a_pair_surer_than_half_a_percent() -> None:
    """20 equal sessions: σ² = 8 · 0.005²/(8 + 19), however quiet the others are."""
    assert estimate(level(20), NO_NOISE).sigma == pytest.approx(math.sqrt(0.0002 / 27))


def test_a_cohort_too_small_to_know_its_noise_teaches_nothing() -> None:
    assert estimate(swinging(10, 0.01), Cohort(pairs=30)) == estimate(swinging(10, 0.01))


def test_one_session_is_all_prior() -> None:
    """σ = 2.5 % from 4 degrees of freedom; error = σ·√2.57 = 4.0078 %."""
    noise = estimate(level(1))
    assert noise.sigma == pytest.approx(0.025)
    assert noise.error == pytest.approx(0.0400780, abs=1e-7)
    assert noise.freedom == 4


def test_an_outlier_is_drawn_in_to_the_border() -> None:
    """Five sessions at +1 %, four at −1 %, one at 0 and one at −50 %: the median is 0, the MAD 1 %,
    the border 2.5 · 1.4826 % = 3.7065 %. σ² = (4 · 0.025² + 9 · 0.01² + 0.037065²)/(4 + 10).
    """
    offsets = [0.01] * 5 + [-0.01] * 4 + [0.0, -0.5]
    assert estimate(history(offsets)).sigma == pytest.approx(math.sqrt(0.004773814 / 14), abs=1e-7)
    assert estimate(history(offsets)).centre == pytest.approx(CENTRE)


@pytest.mark.parametrize("quiet", [0.0, 0.001])
def test_an_outlier_among_equals_is_drawn_in_to_the_border_of_the_least_noise(quiet: float) -> None:
    """At a MAD of 0 or 0.1 % the border is 2.5 · 0.5 % = 1.25 %, which is what one session
    counts as; 16 are at ±q. σ² = (4 · 0.025² + 16·q² + 0.0125²)/(4 + 19).
    """
    past = [*swinging(16, quiet), *history([0.0, 0.0, 0.0, -0.7])]
    expected = (0.0025 + 16 * quiet**2 + 0.00015625) / 23
    assert estimate(past).sigma == pytest.approx(math.sqrt(expected))


def test_the_noise_is_that_of_the_latest_20_sessions() -> None:
    past = [*swinging(20, 0.5), *swinging(20, 0.01)]
    assert estimate(past).sigma == pytest.approx(math.sqrt((0.0025 + 0.002) / 23))


def test_the_centre_is_that_of_the_first_20_sessions() -> None:
    past = [*level(20), *history([-0.1] * 20)]
    assert estimate(past).centre == pytest.approx(CENTRE)
    assert estimate(past).sessions == 20
    assert estimate(past).error == pytest.approx(estimate(past).sigma * math.sqrt(1 + 1.57 / 20))


def test_a_new_epoch_learns_its_centre_anew_and_keeps_the_noise() -> None:
    """10 sessions of ±1 % about 0, then 3 about −20 %: squares are 10 · 0.01² + 2 · 0.01², each
    from its own epoch's median, and each median costs a degree of freedom; σ² =
    (0.0025 + 0.0012)/(4 + 13 − 2). The centre comes of 3 sessions.
    """
    past = [*swinging(10, 0.01), *history([-0.2, -0.19, -0.21], epoch=1)]
    noise = estimate(past)
    assert noise.centre == pytest.approx(CENTRE - 0.2)
    assert noise.sigma == pytest.approx(math.sqrt(0.0037 / 15))
    assert noise.error == pytest.approx(noise.sigma * math.sqrt(1 + 1.57 / 3))
    assert noise.sessions == 3


def test_short_epochs_do_not_shrink_the_noise() -> None:
    """Ten epochs of two sessions at ±1 %: σ² = (4 · 0.025² + 20 · 0.01²)/(4 + 20 − 10)."""
    past = [each for epoch in range(10) for each in swinging(2, 0.01, epoch=epoch)]
    assert estimate(past).sigma == pytest.approx(math.sqrt(0.0045 / 14))


def test_a_new_epoch_keeps_the_weight_of_the_probe() -> None:
    before = history([0.9 * each for each in RAMP], RAMP)
    after = history([-0.3], [0.0], epoch=1)
    assert probe_weight([*before, *after]) == pytest.approx(probe_weight(before))
    assert estimate([*before, *after]).centre == pytest.approx(
        CENTRE - 0.3 - probe_weight(before) * PROBE
    )


def test_a_seed_counts_as_three_sessions_and_widens_the_noise() -> None:
    """Five seeded sessions share what was peculiar to their one go, so the centre is worth one:
    error = 5 % · √2.57.
    """
    seed = history([0.0] * 5, seeded=True)
    assert counted(seed) == 3
    assert estimate(seed, NO_NOISE).sigma == SEED_NOISE
    assert estimate(seed, NO_NOISE).error == pytest.approx(0.0801561, abs=1e-7)
    later = [*seed, *level(4)]
    assert counted(later) == 7
    assert estimate(later, NO_NOISE).error == pytest.approx(0.05 * math.sqrt(1 + 1.57 / 5))


def test_a_seed_wears_off_with_the_fifth_session() -> None:
    """Its residuals leave with it, 5 of 0 stay: σ² = 8 · 0.005²/(8 + 4). Centre and count are
    those of the five others.
    """
    grown = [*history([-0.3] * 5, seeded=True), *level(5)]
    assert counted(grown) == 5
    assert estimate(grown, NO_NOISE).centre == CENTRE
    old = estimate([*level(5, seeded=True), *level(5)], NO_NOISE)
    assert old.sigma == pytest.approx(math.sqrt(0.0002 / 12))
    assert old.error == pytest.approx(old.sigma * math.sqrt(1 + 1.57 / 5))
    assert counted([*level(5, seeded=True), *level(60)]) == 60


def test_a_seeded_pair_that_is_noisier_keeps_its_own_noise() -> None:
    seed = history([0.1, -0.1, 0.1, -0.1, 0.0], seeded=True)
    assert estimate(seed).sigma == pytest.approx(math.sqrt((0.0025 + 0.04) / 8))


def test_only_sessions_of_the_current_epoch_count() -> None:
    assert counted([]) == 0
    assert counted([*level(20), *level(2, epoch=1)]) == 2
    assert counted([*level(5, seeded=True), *level(2, epoch=1)]) == 2


@pytest.mark.parametrize(
    ("coupling", "weight"),
    [(0.9, 0.871429), (0.8, 0.8), (0.4, 0.514286), (3.0, 1.2), (-3.0, 0.0)],
)
def test_the_weight_is_drawn_towards_four_fifths(coupling: float, weight: float) -> None:
    """Probes whose squares sum to 0.001, and λ = 0.0004: (a · 0.001 + 0.8 · 0.0004)/0.0014 for a
    coupling a, between 0 and 1.2.
    """
    past = history([coupling * each for each in RAMP], RAMP)
    assert probe_weight(past) == pytest.approx(weight, abs=1e-6)


@pytest.mark.parametrize(("size", "weight"), [(0.0130, 0.8), (0.0140, 0.0)])
def test_a_probe_has_to_explain_a_fifth_of_the_variance(size: float, weight: float) -> None:
    """With a coupling of 0.8 the probe explains 0.00064 of 0.00064 + 14·size² squares: 21 % of it
    for 1.3 %, and 19 % for 1.4 %. Once with each sign, so that the median is 0.
    """
    both = [(c, sign * q) for sign in (1, -1) for c, q in zip(RAMP, QUADRATIC, strict=True)]
    past = history([0.8 * c + size * q for c, q in both], [c for c, _ in both])
    assert probe_weight(past) == pytest.approx(weight)


def test_a_probe_that_says_nothing_has_no_weight() -> None:
    assert probe_weight(history([0.01 * each for each in QUADRATIC], RAMP)) == 0
    assert probe_weight(history([0.0] * 5, RAMP)) == 0


def test_a_probe_that_never_moved_has_no_weight() -> None:
    assert probe_weight(history(RAMP, [0.0] * 5)) == 0
    assert probe_weight(history([0.0] * 10, [0.0] * 10)) == 0


def test_a_wild_value_does_not_take_the_probe_away() -> None:
    """Ten sessions that follow by 0.8, one of them at −70 % beside a probe as usual. The median is
    −0.004 and the MAD 0.012, so it counts as −0.0445: Σ x′c′ = 0.0016 and Σ c′² = 0.002 as if it
    were not there, and the probe explains 38 % of the squares.
    """
    past = history([0.8 * each for each in RAMP * 2], RAMP * 2)
    assert probe_weight(changed(past, 2, log_value=CENTRE - 0.7)) == pytest.approx(0.8)


def test_a_wild_probe_does_not_take_it_away_either() -> None:
    """The same with one probe at −0.7: its median is −0.005 and the MAD 0.015, so it counts as
    −2.5 · 1.4826 · 0.015 = −0.0555975. Σ c′² = 0.002 + 9 · 0.005² + 0.0555975² = 0.00531608, and
    β = 0.00192/0.00571608; the probe explains 37 % of the squares.
    """
    past = history([0.8 * each for each in RAMP * 2], RAMP * 2)
    wild = changed(past, 2, log_probe=PROBE - 0.7)
    assert probe_weight(wild) == pytest.approx(0.335894, abs=1e-6)


def test_a_seed_says_nothing_of_the_probe() -> None:
    """Five invocations of one go saw one machine."""
    seed = history([0.8 * each for each in RAMP], RAMP, seeded=True)
    assert probe_weight(seed) == 0
    own = history([0.4 * each for each in RAMP], RAMP)
    assert probe_weight([*seed, *own[:4]]) == 0
    assert probe_weight([*seed, *own]) == pytest.approx(0.514286, abs=1e-6)


def test_four_sessions_are_too_few_for_a_weight() -> None:
    past = coupled(5, seed=1)
    assert probe_weight(past) > 0
    assert probe_weight(past[1:]) == 0


@pytest.mark.parametrize(
    ("probe_cv", "used"),
    [(0.010, True), (0.011, False), (None, False), (math.nan, False)],
)
def test_a_blurred_probe_has_no_weight(probe_cv: float | None, used: bool) -> None:
    past = history([0.8 * each for each in RAMP], RAMP, probe_cv=probe_cv)
    assert (probe_weight(past) > 0) is used


@pytest.mark.parametrize("probe_cv", [0.5, None, math.nan])
def test_one_blurred_session_does_not_take_the_probe_away(probe_cv: float | None) -> None:
    assert probe_weight(changed(coupled(10, seed=1), 3, probe_cv=probe_cv)) > 0
    assert probe_weight(changed(coupled(10, seed=1, probe_cv=0.5), 3, probe_cv=SHARP)) == 0


@pytest.mark.parametrize("missing", [0, 9, 19])
def test_one_session_without_a_probe_takes_it_away(missing: int) -> None:
    assert probe_weight(coupled(20, seed=1)) > 0
    past = changed(coupled(20, seed=1), missing, log_probe=None, probe_cv=None)
    assert probe_weight(past) == 0
    assert probe_weight([*past, *coupled(20, seed=2)]) == 0, "it made the centre"
    assert probe_weight([*past, *coupled(20, seed=2, epoch=1)]) > 0


def test_a_session_without_a_probe_is_forgotten_in_the_end() -> None:
    """The 21st is no part of the centre, and no longer one of the latest 20."""
    past = [*coupled(20, seed=1), *level(1)]
    assert probe_weight([*past, *coupled(19, seed=2)]) == 0
    assert probe_weight([*past, *coupled(20, seed=2)]) > 0


def test_sessions_from_before_there_was_a_probe_give_it_no_weight() -> None:
    """They had another value, too, and a probe of 0 would explain it all."""
    assert probe_weight([*history([-0.3] * 10), *history([0.0] * 10, [0.0] * 10)]) == 0


def test_a_value_without_a_probe_is_compared_as_it_is() -> None:
    past = coupled(20, seed=1)
    noise = estimate(past, use_probe=False)
    assert noise.probe_weight == 0
    assert noise.centre == pytest.approx(CENTRE, abs=0.02)
    assert estimate(past, QUIET).sigma < estimate(past, QUIET, use_probe=False).sigma / 2


def test_the_probes_part_is_taken_off() -> None:
    assert adjusted(invocation(0.1, 0.5), 0.8) == pytest.approx(CENTRE + 0.1 - 0.8 * (PROBE + 0.5))
    assert adjusted(invocation(0.1), 0.0) == CENTRE + 0.1


def test_of_several_looks_the_mean_value_and_the_median_probe_count() -> None:
    looks = [invocation(0.0, 0.0), invocation(0.1, 0.1), invocation(0.2, -0.7)]
    assert adjusted_mean(looks, 0.5) == pytest.approx(CENTRE + 0.1 - 0.5 * PROBE)
    assert adjusted_mean([invocation(0.1), invocation(0.3)], 0.0) == pytest.approx(CENTRE + 0.2)


def test_pairs_teach_their_median_noise() -> None:
    """20 sessions of ±s have a sample variance of 20·s²/19; its median lies below its mean by
    (1 − 2/(9·19))³ = 0.965320, so s₀ = s·√(20/19/0.965320) = s·1.044249.
    """
    sizes = (0.004, 0.008, 0.01, 0.02, 0.3)
    cohort = cohort_of(map(session_variance, [swinging(20, size) for size in sizes]), 7)
    assert cohort.pairs == 7
    assert cohort.noise == pytest.approx(0.01 * 1.044249, rel=1e-5)


def test_each_epoch_costs_what_a_pair_teaches_a_degree_of_freedom() -> None:
    """20 sessions of ±1 % in two epochs: 0.002/18, over (1 − 2/(9·18))³ = 0.963418."""
    past = [*swinging(10, 0.01), *swinging(10, 0.01, epoch=1)]
    assert cohort_of(map(session_variance, [past] * 5), 5).noise == pytest.approx(
        math.sqrt(0.002 / 18 / 0.963418), rel=1e-6
    )


def test_pairs_teach_the_same_in_any_order() -> None:
    pasts = [noisy(20, 0.002 * seed, seed) for seed in range(1, 10)]
    shuffled = random.Random(1).sample(pasts, len(pasts))
    assert shuffled != pasts
    assert cohort_of(map(session_variance, shuffled), 9) == cohort_of(
        map(session_variance, pasts), 9
    )


def test_what_pairs_teach_is_their_noise_after_the_probes_part() -> None:
    """A machine that differs by 2 % is explained; what the makers add to it is 0.3 %."""
    cohort = cohort_of(map(session_variance, [coupled(20, seed) for seed in range(1, 6)]), 5)
    assert cohort.noise == pytest.approx(0.003, rel=0.3)


def test_wild_sessions_of_each_pair_teach_little() -> None:
    pasts = [swinging(20, 0.01) for _ in range(5)]
    quiet = cohort_of(map(session_variance, pasts), 5).noise
    for past in pasts:
        past[4] = msgspec.structs.replace(past[4], log_value=CENTRE - 0.7)
    wild = cohort_of(map(session_variance, pasts), 5).noise
    assert quiet is not None
    assert wild is not None
    assert quiet < wild < 1.5 * quiet


@pytest.mark.parametrize(
    "unfit",
    [
        level(2),
        [*level(5, seeded=True), *level(15)],
        [*level(20), *level(2, epoch=1)],
        [],
        history([math.nan] * 20),
        history([0.0] * 20, [200.0] * 20),
    ],
    ids=["young", "seeded", "new epoch", "empty", "not a number", "no machine shows it"],
)
def test_too_few_pairs_that_know_their_noise_teach_none(unfit: Sequence[SessionSummary]) -> None:
    four = [swinging(20, 0.01)] * 4
    assert cohort_of(map(session_variance, [*four, unfit]), 5) == Cohort(noise=None, pairs=5)
    assert cohort_of(map(session_variance, [*four, swinging(3, 0.01)]), 5).noise is not None
