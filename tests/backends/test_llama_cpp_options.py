"""Do locking, sharing and rotary scaling of llama.cpp happen, and are they refused elsewhere?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.backends.llama_model import read_tensor_split, why_not_locked
from pytest_llmperf.backends.protocol import EngineRefused
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel
from tests.backends.conftest import Load
from tests.faults.processes import generate, prompt

LONGER = {"rope_scaling_type": "yarn", "rope_freq_scale": 0.5}


def locked_bytes(model: LoadedModel) -> int:
    status = Path(f"/proc/{model.worker.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmLck:")]
    return int(line.split()[1]) * 1024


def may_lock_all() -> bool:
    """Whether this process may lock memory beyond its limit, as its workers may then."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line
    ]
    return bool(int(line.split()[1], 16) >> 14 & 1)  # CAP_IPC_LOCK


@pytest.mark.engine
@pytest.mark.parametrize("use_mmap", [True, False])
def test_weights_are_locked_or_that_is_refused(use_mmap: bool, load: Load) -> None:
    if may_lock_all():
        model = load("llama-cpp", quantization="F32", use_mlock=True, use_mmap=use_mmap)
        assert model.files is not None
        assert locked_bytes(model) >= 0.9 * model.files.weight_bytes
        assert generate(model, prompt(16), 4).count == 4
    else:
        with pytest.raises(EngineRefusal, match="raise the limit"):
            load("llama-cpp", quantization="F32", use_mlock=True, use_mmap=use_mmap)


def test_a_lock_that_failed_is_told_with_both_sizes() -> None:
    said = why_not_locked(8 << 20, 57 << 20)
    assert said is not None
    assert "8 MiB of 57 MiB of weights could be locked" in said
    assert why_not_locked(57 << 20, 58 << 20) is None
    assert why_not_locked(None, 57 << 20) is None


@pytest.mark.engine
@pytest.mark.parametrize(
    "options", [{"split_mode": "row"}, {"main_gpu": 1}, {"tensor_split": "3,1"}]
)
def test_sharing_among_gpus_is_refused_where_llama_cpp_has_none(
    options: dict[str, object], load: Load
) -> None:
    if load("llama-cpp").engine.device != "cpu":
        pytest.skip("this build of llama.cpp has GPUs")
    with pytest.raises(EngineRefusal, match=r"needs a build of llama\.cpp with GPUs"):
        load("llama-cpp", **options)


def test_parts_of_gpus_are_read_and_refused() -> None:
    assert read_tensor_split("3,1", 16) == [3.0, 1.0]
    for text, most in (("3;1", 16), ("0,0", 16), ("-1,2", 16), ("1,1,1", 2)):
        with pytest.raises(EngineRefused, match=f"tensor_split={text} is not of the form 3,1"):
            read_tensor_split(text, most)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"rope_freq_base": 50000.0}, "freq_base = 50000.0"),
        ({"rope_freq_scale": 0.5}, "freq_scale = 0.5"),
    ],
)
def test_a_rotary_base_and_scale_are_in_force(
    options: dict[str, object], line: str, load: Load
) -> None:
    model = load("llama-cpp", quantization="F32", **options)
    said = [" ".join(each.split()) for each in model.worker.log.read_text().splitlines()]
    assert f"llama_context: {line}" in said
    usual = load("llama-cpp", quantization="F32")
    assert generate(model, prompt(200), 8).token_ids != generate(usual, prompt(200), 8).token_ids


@pytest.mark.engine
@pytest.mark.parametrize(
    ("without", "changed"),
    [
        ({"rope_scaling_type": "linear", "rope_freq_scale": 0.5}, LONGER),
        (LONGER, {**LONGER, "yarn_ext_factor": 0.0}),
        (LONGER, {**LONGER, "yarn_beta_fast": 4.0}),
        (LONGER, {**LONGER, "yarn_beta_slow": 8.0}),
        (LONGER, {**LONGER, "yarn_orig_ctx": 32}),
        (
            {**LONGER, "yarn_ext_factor": 0.0},
            {**LONGER, "yarn_ext_factor": 0.0, "yarn_attn_factor": 2.0},
        ),
    ],
)
def test_each_setting_of_yarn_changes_what_is_computed(
    without: dict[str, object], changed: dict[str, object], load: Load
) -> None:
    first, second = (load("llama-cpp", quantization="F32", **each) for each in (without, changed))
    assert generate(first, prompt(200), 8).token_ids != generate(second, prompt(200), 8).token_ids


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rope_scaling_type": "none", "rope_freq_scale": 0.5}, "none ignores rope_freq_scale"),
        ({"rope_scaling_type": "linear"}, "linear changes nothing without a rope_freq_scale"),
        ({"yarn_beta_fast": 4.0}, "yarn_beta_fast needs rope_scaling_type='yarn'"),
        ({**LONGER, "yarn_attn_factor": 2.0}, "yarn_attn_factor needs yarn_ext_factor=0"),
    ],
)
def test_rotary_settings_that_llama_cpp_would_ignore_are_refused(
    options: dict[str, object], words: str, load: Load
) -> None:
    with pytest.raises(EngineRefusal, match=words):
        load("llama-cpp", **options)
