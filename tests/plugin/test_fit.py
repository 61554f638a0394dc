"""Does ``fit=True`` load the best way for which there is room, and say what it left?"""

import json

import pytest

from pytest_llmperf import loader
from pytest_llmperf.fit.room import Room
from pytest_llmperf.worker.errors import WorkerDied, WorkerError
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool
from tests.plugin.conftest import Run

pytestmark = pytest.mark.engine

FITTING = """
def test_it(load_model, measure):
    model = load_model("synthetic:llama-160m", backend="llama-cpp", fit=True, n_ctx=2048,
                       n_gpu_layers=0)
    measure(model, prompt_tokens=32, new_tokens=8)
"""


def expected(run: pytest.RunResult, pytester: pytest.Pytester) -> dict[str, object]:
    assert run.ret == 0
    told = json.loads((pytester.path / "result.json").read_bytes())
    (measurement,) = [each["measurement"] for each in told["tests"][0]["measurements"]]
    found = measurement["expected"]
    return {
        "quantization": measurement["files"]["quantization"],
        "chosen": found["chosen"],
        "rejected": [(each["what"], each["why"]) for each in found["rejected"]],
    }


def test_types_get_smaller_until_one_fits(
    llmperf: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "room_now", lambda _: Room(name="small", ram=200 << 20))
    found = expected(llmperf(FITTING, "--llmperf-json=result.json"), pytester)
    assert (found["quantization"], found["chosen"]) == ("Q4_K_M", "Q4_K_M, on the CPU")
    rejected = found["rejected"]
    assert isinstance(rejected, list)
    assert [what for what, _ in rejected] == ["F16, on the CPU", "Q8_0, on the CPU"]
    assert all("GB RAM or more (weights" in why for _, why in rejected)


def test_a_load_that_runs_out_of_memory_is_followed_by_the_next(
    llmperf: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = WorkerPool.load
    died: list[bool] = []

    def die_once(self: WorkerPool, *arguments: object) -> LoadedModel:
        if not died:
            died.append(True)
            raise WorkerDied("llama-cpp worker was killed by SIGKILL during load\nlog: …")
        return load(self, *arguments)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(WorkerPool, "load", die_once)
    found = expected(llmperf(FITTING, "--llmperf-json=result.json"), pytester)
    assert found["chosen"] == "Q8_0, on the CPU"
    assert found["rejected"] == [
        ("F16, on the CPU", "llama-cpp worker was killed by SIGKILL during load")
    ]


def test_another_failure_is_no_reason_to_go_on(
    llmperf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(self: WorkerPool, *arguments: object) -> LoadedModel:
        raise WorkerError("llama-cpp raised ValueError: it is broken")

    monkeypatch.setattr(WorkerPool, "load", break_down)
    result = llmperf(FITTING)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*it is broken*"])


def test_what_fits_in_no_way_is_skipped_with_all_reasons(
    llmperf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "room_now", lambda _: Room(name="tiny", ram=1 << 20))
    result = llmperf(FITTING, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*synthetic:llama-160m fits in no way: F16, on the CPU: needs *Q4_K_M*"]
    )


STATED = """
from pytest_llmperf.fit.room import room_of, stated_room
def test_it(load_model, measure):
    model = load_model("synthetic:llama-160m", backend="llama-cpp", fit={room})
    measure(model, prompt_tokens=32, new_tokens=8)
"""


def test_a_room_that_is_stated_is_fitted_into(llmperf: Run, pytester: pytest.Pytester) -> None:
    text = STATED.format(room="stated_room(ram_gb=0.2)")
    found = expected(llmperf(text, "--llmperf-json=result.json"), pytester)
    assert (found["quantization"], found["chosen"]) == ("Q4_K_M", "Q4_K_M, on the CPU")


@pytest.mark.parametrize(
    ("room", "outcome", "why"),
    [
        ("'jetson-orin-nano'", "failed", "fit is True, or a room such as room_of*'jetson-orin-*"),
        ("room_of('rtx-4060')", "skipped", "fit: *4060* has a GPU, and this machine has none*"),
    ],
)
def test_a_room_that_cannot_be_had_is_named(
    llmperf: Run, monkeypatch: pytest.MonkeyPatch, room: str, outcome: str, why: str
) -> None:
    monkeypatch.setattr(loader, "room_now", lambda _: Room(name="here", ram=8 << 30))
    result = llmperf(STATED.format(room=room), "-rs")
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines([f"*{why}"])
