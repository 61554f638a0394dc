"""Are variants told side by side, only those that can be compared, and within 80 columns?"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.measure import Workload
from pytest_llmperf.measure.quality import Estimate, Quality
from pytest_llmperf.measure.scoring import quantities
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.report.result import JudgedTest, write_json  # pytest would collect Test…
from pytest_llmperf.report.tradeoff import find_tradeoffs, tradeoff_lines
from tests.unit.cli.baselines import unfolded
from tests.unit.gate.test_contract import measurement
from tests.unit.report.test_result import judge_it, one_test, run_result

REFERENCE = "fake trained:small F16"


def variant(
    name: str,
    speed: float,
    ram: float,
    kl: float | None,
    perplexity: float = 7.0,
    *,
    source: str = "trained:small",
    seed: int = 0,
    **options: str,
) -> JudgedTest:
    told = Quality(
        perplexity=Estimate(value=perplexity, error=0.3),
        kl_divergence=None if kl is None else Estimate(value=kl, error=kl / 10),
        top1_agreement=None if kl is None else Estimate(value=0.9, error=0.01),
        positions=2000,
        windows=8,
        passage="p",
        reference="" if kl is None else REFERENCE,
    )
    seen = measurement(decode_tps=speed, ram=ram)
    seen = msgspec.structs.replace(
        seen,
        spec=ModelSpec(source, name, seed),
        quality=told,
        requested=options,
        metrics={**seen.metrics, **quantities(told, "x.txt")},
    )
    return one_test(judge_it(seen), test=f"t.py::test_{name}")


def with_seen(test: JudgedTest, **changes: object) -> JudgedTest:
    """The same with something else in its measurement."""
    (judged,) = test.measurements
    seen = msgspec.structs.replace(judged.measurement, **changes)
    return one_test(judge_it(seen), test=test.test)


def with_vram(test: JudgedTest, vram: float) -> JudgedTest:
    (judged,) = test.measurements
    more = measurement(vram=vram).metrics
    return with_seen(test, metrics={**judged.measurement.metrics, **more})


def with_prompts(test: JudgedTest, prompts: str) -> JudgedTest:
    return with_seen(test, workload=Workload(prompts=prompts))


LEVELS = [
    variant("Q8_0", 100, 1.0, 0.0001),
    variant("Q6_K", 90, 1.1, 0.001),
    variant("Q4_K_M", 150, 0.7, 0.01),
]


def test_variants_side_by_side() -> None:
    assert tradeoff_lines(LEVELS) == [
        "trade-off of trained:small: 512+128 tokens; front: no other is worse in nothing",
        "  and better in something",
        "          decode   RAM   KL divergence",
        "           tok/s   GiB            nats",
        "  Q8_0       100  1.00  0.0001 ± 1e-05  front",
        "  Q6_K      90.0  1.10  0.001 ± 0.0001",
        "  Q4_K_M     150  0.70    0.01 ± 0.001  front",
    ]


def test_without_a_reference_perplexity_tells_and_its_error_does_not_blur() -> None:
    """The same tokens were read: a standard error is of other texts."""
    two = [variant("Q8_0", 100, 1.0, None, 7.0), variant("Q4_0", 101, 0.99, None, 7.2)]
    (found,) = find_tradeoffs(two)
    assert found.quality == "perplexity"
    assert found.on_front == [True, False]


def test_a_lossless_variant_is_told_by_its_divergence() -> None:
    tests = [variant("Q8_0", 100, 1.0, 0.0), *LEVELS[1:]]
    (found,) = find_tradeoffs(tests)
    assert found.quality == "kl_divergence"
    assert tradeoff_lines(tests)[4].split() == ["Q8_0", "100", "1.00", "0", "±", "0", "front"]


def test_memory_that_is_not_taken_tells_nothing() -> None:
    on_cpu = [with_vram(each, 0.0) for each in LEVELS]
    (found,) = find_tradeoffs(on_cpu)
    assert found.memory == "ram"


def test_the_reference_is_among_its_variants_at_no_distance() -> None:
    (found,) = find_tradeoffs([variant("F16", 40, 2.0, None), *LEVELS])
    assert list(found.variants) == ["F16", "Q8_0", "Q6_K", "Q4_K_M"]
    original = found.variants["F16"]
    assert (original.kl_divergence.median, original.top1_agreement.median) == (0.0, 1.0)
    assert found.on_front == [True, True, False, True]


def test_the_reference_stands_in_for_one_level_alone() -> None:
    lines = tradeoff_lines([LEVELS[0], variant("F16", 40, 2.0, None)])
    assert lines[-1].split() == ["F16", "40.0", "2.00", "0", "front"]


@pytest.mark.parametrize(
    "original",
    [
        variant("F16", 40, 2.0, None, seed=1),
        variant("F16", 40, 2.0, None, n_ctx="64"),
        variant("F32", 40, 2.0, None),
    ],
    ids=["another seed", "another option", "another quantization"],
)
def test_another_model_is_no_reference(original: JudgedTest) -> None:
    (found,) = find_tradeoffs([original, *LEVELS])
    assert len(found.variants) == len(LEVELS)


def test_a_reference_that_was_compared_with_itself_stands_once() -> None:
    (found,) = find_tradeoffs([variant("F16", 40, 2.0, 1e-7), *LEVELS])
    assert list(found.variants) == ["F16", "Q8_0", "Q6_K", "Q4_K_M"]


@pytest.mark.parametrize("other", ["/texts/b.txt", "shipped"])
def test_other_prompts_are_another_group(other: str) -> None:
    one = [with_prompts(each, "/texts/a.txt") for each in LEVELS]
    two = [with_prompts(each, other) for each in LEVELS]
    found = find_tradeoffs([*one, *two])
    assert [len(each.variants) for each in found] == [3, 3]
    assert found[0].head == "trained:small: 512+128 tokens of a.txt"
    assert found[1].head != found[0].head


def test_two_variants_of_one_name_are_both_told() -> None:
    seeds = [variant("Q8_0", 100 + seed, 1.0, 0.01, seed=seed) for seed in (0, 3)]
    (found,) = find_tradeoffs([*seeds, LEVELS[2], LEVELS[2]])
    assert list(found.variants) == [
        "fake trained:small Q8_0",
        "fake trained:small Q8_0 seed 3",
        "Q4_K_M",
        "Q4_K_M (2)",
    ]


def test_files_of_one_model_meet_at_their_reference() -> None:
    files = [variant(q, 100, 1.0, 0.01, source=f"/m/one-{q}.gguf") for q in ("Q8_0", "Q4_0")]
    (found,) = find_tradeoffs(files)
    assert list(found.variants) == ["one-Q8_0.gguf", "one-Q4_0.gguf"]


@pytest.mark.parametrize(
    "tests",
    [
        LEVELS[:1],
        [LEVELS[0], LEVELS[0]],
        [variant("F16", 1, 1, None), variant("F16", 1, 1, None, source="trained:draft")],
        [LEVELS[0], one_test(judge_it(measurement(decode_tps=9, ram=1)))],
    ],
    ids=["one", "twice the same", "two models", "one says nothing"],
)
def test_what_cannot_be_compared_is_no_trade_off(tests: list[JudgedTest]) -> None:
    assert tradeoff_lines(tests) == []


def test_long_names_stand_beneath() -> None:
    one, two = (
        variant("Q8_0", 100, 1.0, 0.01, rope_scaling='{"type": "yarn", "factor": 4}', flash=on)
        for on in ("true", "false")
    )
    lines = tradeoff_lines([one, two])
    assert max(map(len, lines)) <= 80
    assert lines[-2].startswith("  variant 1: Q8_0 rope_scaling=")


def test_the_command_reads_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.json"
    write_json(msgspec.structs.replace(run_result(tmp_path / "m"), tests=LEVELS), path)
    assert main(["tradeoff", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == tradeoff_lines(LEVELS)
    assert main(["tradeoff", str(path), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["of"] == "trained:small: 512+128 tokens"
    assert (told["memory"], told["quality"]) == ("ram", "kl_divergence")
    assert [each["name"] for each in told["variants"]] == ["Q8_0", "Q6_K", "Q4_K_M"]
    assert [each["front"] for each in told["variants"]] == [True, False, True]
    first = told["variants"][0]["metrics"]
    assert first.keys() == {"decode_tps", "ram", "kl_divergence"}
    assert first["kl_divergence"]["median"] == 0.0001


def test_a_file_without_variants_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(run_result(tmp_path / "m"), tmp_path / "out.json")
    assert main(["tradeoff", str(tmp_path / "out.json")]) == 3
    assert "holds no two variants of one model" in unfolded(capsys.readouterr().err)
    assert main(["tradeoff", str(tmp_path / "none.json")]) == 4
