"""Is each figure a chart that Vega-Lite takes, with rows for everything it says?"""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest
import vl_convert

from pytest_llmperf.measure import ByteFigure
from pytest_llmperf.report.html import drawing, figures, one_measurement
from pytest_llmperf.report.html.model import Figure
from pytest_llmperf.report.html.writing import page_of
from pytest_llmperf.report.merged import merge
from tests.unit.gate.test_contract import measurement
from tests.unit.report.many_results import a_measurement, many_results

SEEN = a_measurement(random.Random(1), "synthetic:llama-160m", "llama-cpp", "Q8_0", speed=100)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    """One figure of each kind."""
    results = many_results(tmp_path_factory.mktemp("machine"), tests=88, sessions=5)
    page = page_of(merge(results))
    assert page.overview.change_figure is not None
    found = [page.overview.change_figure]
    found += [one for chapter in page.chapters for group in chapter.groups for one in group.figures]
    for test in page.tests:
        found += [one for each in test.measured for one in each.figures]
        found += [each.figure for each in test.compared if each.figure is not None]
    return {each.kind: each for each in found}


@pytest.mark.parametrize("kind", figures.KINDS)
def test_every_kind_is_drawn_by_vega_lite(kind: str, drawn: dict[str, Figure]) -> None:
    figure = drawn[kind]
    spec = drawing.whole(kind, figure.data) | {"width": 600}
    picture = vl_convert.vegalite_to_svg(spec)
    assert "mark-" in picture
    assert "NaN" not in picture
    assert figure.told.endswith((".", ")")), "it is told in words, too"


def test_a_figure_is_as_high_as_it_has_rows() -> None:
    data: dict[str, drawing.Rows] = {"bars": [{"name": "a"}, {"name": "b"}, {"name": "b"}]}
    assert drawing.height_of("memory", data) == 48
    assert drawing.height_of("sessions", data) == figures.KINDS["sessions"]["height"]


def test_what_is_packed_by_column_says_the_same() -> None:
    rows: drawing.Rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert drawing.packed({"some": rows, "none": []}) == {
        "some": {"a": [1, 2], "b": ["x", "y"]},
        "none": {},
    }


def test_samples_stand_process_by_process() -> None:
    decode, prefill = one_measurement.samples([SEEN, SEEN])
    assert decode.title == "decode, tok/s: samples"
    assert prefill.title == "prefill, tok/s: samples"
    assert [row["name"] for row in decode.data["boxes"]] == ["process 1", "process 2"]
    values = SEEN.decode_tps.values
    assert values is not None
    assert [row["value"] for row in decode.data["values"]] == values * 2


def test_latencies_have_their_numbers_in_a_table() -> None:
    figure = one_measurement.latency(SEEN)
    assert figure is not None
    assert figure.table is not None
    assert figure.table.heads == ("ms", "p50", "p90", "p95", "p99", "values")
    names = [row[0].text for row in figure.table.rows]
    assert names == ["first token", "token gap", "per token", "request"]
    assert figure.table.rows[1][5].text == "310"


def test_a_bound_is_drawn_from_what_is_sure_to_what_may_be() -> None:
    figure = one_measurement.memory(SEEN)
    assert figure is not None
    assert SEEN.memory is not None
    assert SEEN.memory.anon is not None
    (private,) = (row for row in figure.data["bars"] if row["name"] == "private")
    unit = 2**30 if "GiB" in figure.title else 2**20
    assert private["most"] == SEEN.memory.anon.bytes / unit
    assert private["sure"] == (SEEN.memory.anon.low_bytes or 0) / unit
    assert "Dashed: what a bound leaves open." in figure.told


def test_what_was_sampled_is_no_upper_bound() -> None:
    assert SEEN.memory is not None
    sampled = ByteFigure(bytes=2**30, kind="sampled", how="every 10 ms")
    between = ByteFigure(bytes=2**30, kind="sampled", how="difference", low_bytes=2**29)
    memory = msgspec.structs.replace(SEEN.memory, peak=sampled, anon=between)
    figure = one_measurement.memory(msgspec.structs.replace(SEEN, memory=memory))
    assert figure is not None
    sure = {row["name"]: (row["sure"], row["most"]) for row in figure.data["bars"]}
    assert sure["peak"] == (1, 1)
    assert sure["private"] == (0.5, 1)
    assert figure.told.endswith(" Sampled: it may have been more.")
    alone = msgspec.structs.replace(memory, anon=None)
    figure = one_measurement.memory(msgspec.structs.replace(SEEN, memory=alone))
    assert figure is not None
    assert "Dashed" not in figure.told


def test_the_roofline_says_what_was_reached_of_what() -> None:
    figure = one_measurement.roofline(SEEN)
    assert figure is not None
    assert figure.told == (
        "bandwidth 62 %: 24.8 of 40.0 GB/s; compute 31 %: 124 of 400 GFLOP/s. "
        "100 % is the best that a probe of this run found."
    )
    assert [row["label_at"] for row in figure.data["shares"]] == [1, 1], "right of the roof"


def test_what_was_not_measured_is_not_drawn() -> None:
    seen = measurement(decode_tps=20)
    assert one_measurement.latency(seen) is None
    assert one_measurement.memory(seen) is None
    assert one_measurement.roofline(seen) is None
    none_kept = msgspec.structs.replace(seen.decode_tps, values=None)
    seen = msgspec.structs.replace(seen, metrics={"decode_tps": none_kept})
    assert list(one_measurement.samples([seen])) == []


def test_the_numbers_survive_the_way_into_the_page(tmp_path: Path) -> None:
    figure = one_measurement.memory(SEEN)
    assert figure is not None
    assert json.loads(json.dumps(figure.packed)) == figure.packed
