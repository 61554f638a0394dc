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
from pytest_llmperf.models import ModelFiles, ModelSpec
from tests.unit.fit.models import GIB

HERE = detect()
ON_CPU: dict[str, dict[str, object]] = {
    "llama-cpp": {"n_gpu_layers": 0},
    "transformers": {"device": "cpu"},
}
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
    options = read_options(find_backend(backend), ON_CPU[backend])
    found = expect(ModelSpec("synthetic:mistral-7b", quantization), None, options, room(64))
    assert found is not None
    assert found.fit is Fit.YES
    assert found.footprint.on("ram").weights.high / GIB == pytest.approx(least_gib, rel=0.02)


def test_a_dtype_in_memory_other_than_that_of_the_file_counts() -> None:
    def weights(dtype: str) -> int:
        options = read_options(TRANSFORMERS, {"dtype": dtype, "device": "cpu"})
        spec = ModelSpec("synthetic:llama-160m", "BF16")
        found = expect(spec, None, options, room(64))
        assert found is not None
        return found.footprint.on("ram").weights.high

    assert weights("float32") == pytest.approx(2 * weights("auto"))
    assert weights("bfloat16") == weights("auto")


def test_what_is_larger_than_the_machine_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(DoesNotFit, match=r"needs 4\.\d GB RAM or more \(weights 4\.1 \+ KV 0\.2"):
        require_room_at_most(
            ModelSpec("synthetic:mistral-7b"),
            LLAMA,
            read_options(LLAMA, {"n_gpu_layers": 0}),
            SMALL,
        )


def test_a_context_alone_can_be_too_long() -> None:
    options = read_options(LLAMA, {"n_ctx": 10_000_000, "n_gpu_layers": 0})
    with pytest.raises(DoesNotFit, match="at 10000000 tokens"):
        require_room_at_most(ModelSpec("synthetic:llama-160m"), LLAMA, options, HERE)


def test_what_fits_is_let_through() -> None:
    options = read_options(LLAMA, {"n_gpu_layers": 0})
    spec = ModelSpec("synthetic:llama-160m", "Q8_0")
    require_room_at_most(spec, LLAMA, options, HERE)
    found = expect(spec, None, options, room(HERE.memory.capacity_bytes / GIB))
    assert found is not None
    assert found.fit is Fit.YES


def test_the_limit_of_the_address_space_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_load, "address_space_limit_bytes", lambda: GIB)
    with pytest.raises(DoesNotFit, match=r"has 1\.0 GB"):
        require_room_at_most(
            ModelSpec("synthetic:mistral-7b"), LLAMA, read_options(LLAMA, {"n_gpu_layers": 0}), HERE
        )


def test_of_an_engine_without_arithmetic_nothing_is_expected() -> None:
    fake = find_backend("fake")
    assert expect(ModelSpec("fake:any"), None, read_options(fake, {}), room(0.001)) is None
    require_fit(None)


def test_a_broken_model_is_left_to_the_load(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama"}))
    spec = ModelSpec(f"synthetic:{path}", "Q8_0")
    assert expect(spec, None, read_options(LLAMA, {"n_gpu_layers": 0}), room(1)) is None


def folder(path: Path, stored: str, **config: object) -> ModelFiles:
    """A folder whose weights take 2 MiB in a type."""
    values = {
        "model_type": "llama",
        "vocab_size": 1000,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        **config,
    }
    (path / "config.json").write_text(json.dumps(values))
    return ModelFiles(
        path=str(path),
        format="hf",
        weight_bytes=2 << 20,
        parameters=1 << 20,
        bits_per_weight=16.0,
        type_mix={stored: 1 << 20},
        quantization=stored,
        architecture="llama",
        vocab_size=1000,
        context_length=512,
        synthetic=False,
    )


@pytest.mark.parametrize(
    ("stored", "config", "dtype", "mib", "element_bytes"),
    [
        ("BF16", {}, "auto", 2, 2),
        ("BF16", {}, "float32", 4, 4),
        ("F32", {}, "auto", 2, 4),
        ("F32", {"torch_dtype": "float16"}, "auto", 1, 2),
        ("F32", {"dtype": "bfloat16"}, "auto", 1, 2),
        ("F8_E4M3", {"quantization_config": {}, "dtype": "bfloat16"}, "auto", 2, 2),
        ("F8_E4M3", {"quantization_config": {}}, "bfloat16", 2, 2),
        ("I32", {"quantization_config": {}, "dtype": "float16"}, "float32", 2, 4),
    ],
)
def test_packed_weights_stay_and_others_follow_the_dtype(
    stored: str,
    config: dict[str, object],
    dtype: str,
    mib: int,
    element_bytes: int,
    tmp_path: Path,
) -> None:
    files = folder(tmp_path, stored, **config)
    options = read_options(TRANSFORMERS, {"dtype": dtype, "device": "cpu"})
    found = expect(ModelSpec(str(tmp_path)), files, options, room(64))
    assert found is not None
    ram = found.footprint.on("ram")
    assert ram.weights.high == pytest.approx(mib << 20, abs=16)
    assert ram.cache == 640 * 2 * 2 * 256 * element_bytes


def test_layers_that_accelerate_shares_need_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.fit.gpu_support._has", lambda *_: True)
    both = Room(name="test", ram=64 * GIB, vram=(8 * GIB,))
    spec = ModelSpec("synthetic:mistral-7b", "BF16")
    alone = expect(spec, None, read_options(TRANSFORMERS, {}), both)
    shared = expect(spec, None, read_options(TRANSFORMERS, {"device_map": "auto"}), both)
    assert alone is not None
    assert shared is not None
    assert (alone.fit, shared.fit) == (Fit.NO, Fit.YES)
    assert 4 * GIB < shared.footprint.on("vram:0").weights.low < 8 * GIB


def test_the_gpu_that_is_named_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.fit.gpu_support._has", lambda *_: True)
    two = Room(name="test", ram=64 * GIB, vram=(8 * GIB, 80 * GIB))
    spec = ModelSpec("synthetic:mistral-7b", "BF16")
    first = expect(spec, None, read_options(TRANSFORMERS, {"device": "cuda:0"}), two)
    second = expect(spec, None, read_options(TRANSFORMERS, {"device": "cuda:1"}), two)
    assert first is not None
    assert second is not None
    assert (first.fit, second.fit) == (Fit.NO, Fit.YES)


@pytest.mark.parametrize(
    ("backend", "options", "quantization", "weights"),
    [
        ("onnxruntime", {}, "INT4", 0.64),  # bytes of a weight: packed, and a table of four bytes
        ("onnxruntime", {}, "F32", 4.0),
        ("vllm", {"max_num_seqs": 2}, "BF16", 2.0),
    ],
)
def test_every_engine_that_can_be_planned_is_asked(
    backend: str, options: dict[str, object], quantization: str, weights: float
) -> None:
    adapter = find_backend(backend)
    spec = ModelSpec("synthetic:mistral-7b", quantization)
    found = expect(spec, None, read_options(adapter, options), room(4))
    assert found is not None
    (ram,) = found.footprint.shares
    assert ram.weights.high / 7.24e9 == pytest.approx(weights, rel=0.12)
    assert found.fit is Fit.NO
    assert found.footprint.sequences == options.get("max_num_seqs", 1)


def test_vllm_on_gpus_divides_what_it_holds() -> None:
    adapter = find_backend("vllm")
    options = read_options(adapter, {"tensor_parallel_size": 2})
    two = Room(name="two", ram=64 * GIB, vram=(24 * GIB, 24 * GIB))
    found = expect(ModelSpec("synthetic:mistral-7b", "BF16"), None, options, two)
    assert found is not None
    first, second = found.footprint.gpus
    assert first.weights == second.weights
    assert first.weights.middle * 2 == pytest.approx(7.24e9 * 2, rel=0.01)


def test_vllm_that_packs_weights_itself_is_not_guessed_at() -> None:
    options = read_options(find_backend("vllm"), {"quantization": "fp8"})
    assert expect(ModelSpec("synthetic:mistral-7b", "BF16"), None, options, room(64)) is None


@pytest.mark.parametrize(
    ("options", "kv_gib"),
    [
        ({}, 0.25),
        ({"kv_cache_dtype": "fp8"}, 0.125),
        ({"kv_cache_memory_bytes": 40 * GIB}, 40),
        ({"max_model_len": 4096, "max_num_seqs": 2}, 1.0),
    ],
)
def test_vllms_cache_is_as_long_as_it_was_told(options: dict[str, object], kv_gib: float) -> None:
    given = read_options(find_backend("vllm"), options)
    found = expect(ModelSpec("synthetic:mistral-7b", "BF16"), None, given, room(64))
    assert found is not None
    assert found.footprint.on("ram").cache == pytest.approx(kv_gib * GIB, rel=0.01)


def test_vllm_makes_two_bytes_of_four() -> None:
    options = read_options(find_backend("vllm"), {})
    found = expect(ModelSpec("synthetic:mistral-7b", "F32"), None, options, room(64))
    assert found is not None
    assert found.footprint.on("ram").weights.high == pytest.approx(2 * 7.24e9, rel=0.01)


def test_pages_of_continuous_batching_are_allocated_at_the_load() -> None:
    def cache(options: dict[str, object]) -> int:
        given = read_options(TRANSFORMERS, {"batching": "continuous", **options})
        found = expect(ModelSpec("synthetic:llama-160m", "BF16"), None, given, room(64))
        assert found is not None
        return found.footprint.on("ram").cache

    per_token = 12 * 12 * 2 * 64 * 2
    assert cache({}) == 32 * 256 * per_token
    assert cache({"num_blocks": 4096, "page_size": 128}) == 4096 * 128 * per_token


def test_a_quantization_that_the_engine_does_not_have_is_left_to_the_load() -> None:
    options = read_options(find_backend("onnxruntime"), {})
    assert expect(ModelSpec("synthetic:mistral-7b", "Q4_K_M"), None, options, room(64)) is None


def test_a_server_that_is_started_is_asked_as_its_engine() -> None:
    """It holds what its engine would hold in a worker of ours, and the worker beside it."""
    spec, served = ModelSpec("synthetic:mistral-7b", "Q8_0"), find_backend("openai")
    found = expect(spec, None, read_options(served, {"context_tokens": 1024}), room(6))
    alone = expect(spec, None, read_options(LLAMA, {"n_ctx": 1024, "n_gpu_layers": 0}), room(6))
    assert found is not None
    assert alone is not None
    assert (found.fit, found.footprint.context_tokens) == (Fit.NO, 1024)
    assert found.footprint.on("ram").needed == alone.footprint.on("ram").needed
    assert found.footprint.total.high > alone.footprint.total.high


@pytest.mark.parametrize(
    "options",
    [
        {"command": "serve {model} {port}", "command_loads": "gguf"},
        {"base_url": "http://127.0.0.1:1"},
        {"arguments": "--ctx-size 64"},
        {"server": "vllm", "python": "python"},
    ],
)
def test_of_a_server_that_may_do_otherwise_nothing_is_said(options: dict[str, object]) -> None:
    spec = ModelSpec("synthetic:mistral-7b", "Q8_0")
    assert expect(spec, None, read_options(find_backend("openai"), options), room(1)) is None


def test_whether_a_server_uses_the_gpu_only_the_server_knows() -> None:
    both = Room(name="test", ram=4 * GIB, vram=(24 * GIB,))
    spec = ModelSpec("synthetic:mistral-7b", "Q8_0")
    assert expect(spec, None, read_options(find_backend("openai"), {}), both) is None
