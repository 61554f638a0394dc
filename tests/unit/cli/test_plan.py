"""Does ``pytest-llmperf plan`` answer before anything is loaded, and refuse what means nothing?"""

from __future__ import annotations

import json

import pytest

from pytest_llmperf.cli import main


def plan(*arguments: str) -> int:
    return main(["plan", *arguments])


def test_a_table_for_stated_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("mistral-7b", "--vram", "8", "--ram", "16") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Mistral 7B with llama-cpp", "stated: 8.0 GiB VRAM, 16.0 GiB RAM"]
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines if line.startswith(("F16", "Q"))]
    assert [row[:3] for row in rows[:3]] == [
        ["F16", "2048", "13.5"],
        ["F16", "8192", "13.5"],
        ["F16", "32768", "13.5"],
    ]
    assert any(line.startswith("Q4_K_M") and line.endswith(" GPU") for line in lines)
    assert any("/33 on GPU" in line for line in lines)


def test_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("synthetic:mistral-7b", "--vram", "8", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    (row,) = [
        row
        for row in told["rows"]
        if (row["quantization"], row["context_tokens"]) == ("Q4_K_M", 8192)
    ]
    assert row["weights"]["low"] == pytest.approx(4.37e9, rel=0.02)
    assert row["kv_cache"] == 32 * 8192 * 8 * 2 * 128 * 2
    assert (row["where"], row["fit"], row["gpu_layers"]) == ("GPU", "fits", 33)
    assert told["room"]["vram"] == [8 * 2**30]
    assert told["picked"] is None


def test_a_device_by_name_has_a_ceiling_of_its_bandwidth(
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = ("--device", "jetson-orin-nano", "--context", "4096", "--quantization", "Q4_K_M")
    assert plan("tinyllama-1.1b", *device, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    size = row["weights"]["low"] + 4096 * 22 * 4 * 128 * 2
    assert row["speed"]["is_ceiling"]
    assert row["speed"]["decode_tps"] == pytest.approx(102e9 / size, rel=0.1)


def test_a_budget_picks_and_its_failure_is_an_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert plan("llama-2-7b", "--vram", "24", "--budget", "vram<=6") == 0
    assert "vram <= 6 GiB: " in capsys.readouterr().out
    assert plan("llama-2-7b", "--vram", "24", "--budget", "vram<=1,context>=9000000") == 1
    assert "No row surely meets vram <= 1 GiB" in capsys.readouterr().out


def test_other_caches_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def cache(*more: str) -> int:
        arguments = ("--vram", "80", "--quantization", "Q8_0", "--context", "8192", "--json")
        assert plan("mistral-7b", *arguments, *more) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert isinstance(row["kv_cache"], int)
        return row["kv_cache"]

    assert cache("--cache-type", "q8_0") * 32 * 2 == cache() * 34
    assert cache("--sequences", "4") == 4 * cache()


def test_this_machine_is_the_room_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("tinyllama-1.1b", "--context", "2048", "--quantization", "q8_0", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["room"]["name"] == "here"
    assert told["room"]["cpu_limits"]["bandwidth"] > 1e9
    (row,) = told["rows"]
    assert row["speed"]["decode_tps"] > 0
    assert row["speed"]["prefill_tps"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mistral-7c",), "Did you mean mistral-7b?"),
        (("mistral-7b", "--device", "rtx-4061"), "Did you mean rtx-4060?"),
        (("mistral-7b", "--device", "t4", "--vram", "8"), "leave the others out"),
        (("mistral-7b", "--bandwidth", "50"), "give --vram or --ram too"),
        (("mistral-7b", "--vram", "8", "--budget", "tps=20"), "not of the form tps>=20"),
        (("mistral-7b", "--vram", "8", "--quantization", "Q9"), "Q9"),
        (("mistral-7b", "--vram", "8", "--backend", "fake"), "Known: llama-cpp, transformers"),
        (
            ("mistral-7b", "--vram", "8", "--backend", "vllm", "--cache-type", "q8_0"),
            "vllm has no such choice",
        ),
    ],
)
def test_what_means_nothing_is_refused(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(*arguments) == 2
    told = capsys.readouterr()
    assert words in " ".join(told.err.split())
    assert not told.out


def test_a_file_that_is_not_here_is_nothing_to_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("/nowhere/model.gguf") == 3
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["0", "-3", "nan", "much"])
def test_memory_is_a_number_above_zero(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        plan("mistral-7b", "--vram", given)
    assert ended.value.code == 2
    assert "must be a number greater than 0" in capsys.readouterr().err
