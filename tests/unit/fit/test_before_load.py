"""Is a model that cannot fit refused before its load, and no other?"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.backends import find_backend, read_options
from pytest_llmperf.fit import before_load
from pytest_llmperf.fit.before_load import DoesNotFit, expect, require_fit, require_room_at_most
from pytest_llmperf.fit.preflight import Fit
from pytest_llmperf.fit.room import Room
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.models import ModelSpec
from tests.unit.fit.models import GIB

HERE = detect()
LLAMA, TRANSFORMERS = find_backend("llama-cpp"), find_backend("transformers")
SMALL = msgspec.structs.replace(
    HERE, memory=msgspec.structs.replace(HERE.memory, total_bytes=GIB, cgroup_limit_bytes=None)
)


def room(ram_gib: float) -> Room:
    return Room(name="test", ram=round(ram_gib * GIB))


@pytest.mark.parametrize(
    ("backend", "quantization", "least_gib"),
    [("llama-cpp", "F16", 13.5), ("llama-cpp", "Q4_K_M", 4.07), ("transformers", "BF16", 13.4)],
)
def test_the_weights_of_a_model_that_is_not_built_yet_are_known(
    backend: str, quantization: str, least_gib: float
) -> None:
    options = read_options(find_backend(backend), {})
    found = expect(ModelSpec("synthetic:mistral-7b", quantization), None, options, room(64))
    assert found is not None
    assert found.fit is Fit.YES
    assert found.footprint.on("ram").weights.low / GIB == pytest.approx(least_gib, rel=0.02)


def test_a_dtype_in_memory_other_than_that_of_the_file_counts() -> None:
    def weights(dtype: str) -> int:
        options = read_options(TRANSFORMERS, {"dtype": dtype})
        spec = ModelSpec("synthetic:llama-160m", "BF16")
        found = expect(spec, None, options, room(64))
        assert found is not None
        return found.footprint.on("ram").weights.low

    assert weights("float32") == pytest.approx(2 * weights("auto"))
    assert weights("bfloat16") == weights("auto")


def test_what_is_larger_than_the_machine_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(DoesNotFit, match=r"needs 4\.\d GB RAM or more \(weights 4\.1 \+ KV 0\.2"):
        require_room_at_most(
            ModelSpec("synthetic:mistral-7b"), LLAMA, read_options(LLAMA, {}), SMALL
        )


def test_a_context_alone_can_be_too_long() -> None:
    options = read_options(LLAMA, {"n_ctx": 10_000_000})
    with pytest.raises(DoesNotFit, match="at 10000000 tokens"):
        require_room_at_most(ModelSpec("synthetic:llama-160m"), LLAMA, options, HERE)


def test_what_fits_is_let_through() -> None:
    options = read_options(LLAMA, {})
    require_room_at_most(ModelSpec("synthetic:llama-160m"), LLAMA, options, HERE)


def test_the_limit_of_the_address_space_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_load, "address_space_limit_bytes", lambda: GIB)
    with pytest.raises(DoesNotFit, match=r"has 1\.0 GB"):
        require_room_at_most(
            ModelSpec("synthetic:mistral-7b"), LLAMA, read_options(LLAMA, {}), HERE
        )


def test_of_an_engine_without_arithmetic_nothing_is_expected() -> None:
    fake = find_backend("fake")
    assert expect(ModelSpec("fake:any"), None, read_options(fake, {}), room(0.001)) is None
    require_fit(None)


def test_a_broken_model_is_left_to_the_load(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama"}))
    spec = ModelSpec(f"synthetic:{path}", "Q8_0")
    assert expect(spec, None, read_options(LLAMA, {}), room(1)) is None
