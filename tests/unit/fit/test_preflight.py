"""What is refused, what is tight, and how does the arithmetic read?"""

from __future__ import annotations

import pytest

from pytest_llmperf.fit.footprint import Footprint, Interval, Share
from pytest_llmperf.fit.preflight import Fit, preflight
from pytest_llmperf.fit.room import Room
from tests.unit.fit.models import GIB


def footprint(
    *, weights: float, cache: float, buffers: float = 0.0, device: str = "ram"
) -> Footprint:
    share = Share(
        device=device,
        weights=Interval.exactly(round(weights * GIB)),
        cache=round(cache * GIB),
        compute=Interval(0, round(buffers * GIB)),
    )
    return Footprint(context_tokens=4096, shares=(share,))


def room(ram: float | None = None, *vram: float, is_shared: bool = False) -> Room:
    return Room(
        name="test",
        ram=None if ram is None else round(ram * GIB),
        vram=tuple(round(each * GIB) for each in vram),
        is_shared=is_shared,
    )


@pytest.mark.parametrize(
    ("needed", "free", "fit"),
    [
        (footprint(weights=6, cache=1), 6.9, Fit.NO),
        (footprint(weights=6, cache=1), 7.0, Fit.TIGHT),
        (footprint(weights=6, cache=1), 7.6, Fit.TIGHT),
        (footprint(weights=6, cache=1), 7.8, Fit.YES),
        (footprint(weights=6, cache=1, buffers=1), 8.6, Fit.TIGHT),
        (footprint(weights=6, cache=1, buffers=1), 8.9, Fit.YES),
        (footprint(weights=60, cache=10), 70.9, Fit.TIGHT),
        (footprint(weights=60, cache=10), 71.1, Fit.YES),
    ],
)
def test_only_what_cannot_be_is_refused(needed: Footprint, free: float, fit: Fit) -> None:
    assert preflight(needed, room(free)).fit is fit


def test_a_refusal_is_the_arithmetic_with_the_context() -> None:
    found = preflight(footprint(weights=13.5, cache=8, buffers=1.4), room(16))
    assert found.text == (
        "needs 21.5 GB RAM or more (weights 13.5 + KV 8.0 at 4096 tokens), has 16.0 GB"
    )


def test_what_is_tight_tells_its_buffers() -> None:
    found = preflight(footprint(weights=13.5, cache=2, buffers=1.4), room(16))
    assert found.text == (
        "may need 16.9 GB RAM (weights 13.5 + KV 2.0 + buffers and engine 0–1.4 at 4096 tokens), "
        "has 16.0 GB"
    )


def test_a_gpu_is_named() -> None:
    (text,) = preflight(footprint(weights=13, cache=4, device="vram:0"), room(64, 16)).reasons
    assert text == "needs 17.0 GB VRAM or more (weights 13.0 + KV 4.0 at 4096 tokens), has 16.0 GB"


def test_one_pool_holds_what_both_need() -> None:
    both = Footprint(
        context_tokens=1,
        shares=tuple(
            Share(device=name, weights=Interval.exactly(3 * GIB)) for name in ("ram", "vram:0")
        ),
    )
    assert preflight(both, room(5, is_shared=True)).fit is Fit.NO
    assert preflight(both, room(5, 5)).fit is Fit.YES
    assert "memory shared with the GPU" in preflight(both, room(5, is_shared=True)).text


def test_memory_that_nobody_stated_is_enough() -> None:
    assert preflight(footprint(weights=1000, cache=0), room()).fit is Fit.YES


def test_a_gpu_that_is_not_there_holds_nothing() -> None:
    assert preflight(footprint(weights=1, cache=0, device="vram:0"), room(64)).fit is Fit.NO
