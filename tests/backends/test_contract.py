"""Does every engine do what the protocol of backends promises?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import pytest

from pytest_llmperf.backends import UnknownOption
from pytest_llmperf.backends.transformers_packing import Packing
from pytest_llmperf.contract import BackendContract, GenerationContract
from tests.backends.conftest import Load
from tests.faults.processes import ONE_THREAD


class _OneThread(GenerationContract):
    """Threads of an engine wait for each other by spinning, which a busy machine makes long."""

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Mapping[str, object]:
        return ONE_THREAD.get(cls.backend, {})


@pytest.mark.engine
class TestLlamaCpp(_OneThread, BackendContract):
    backend = "llama-cpp"
    quantization = "Q4_K_M"
    wrong_option = ("flash_attention", "flash_attn")
    batch_options = {"n_seq_max": 3, "n_ctx": 768}  # noqa: RUF012 - as the contract has it


@pytest.mark.engine
class TestLlamaCppInEightBits(_OneThread):
    backend = "llama-cpp"
    quantization = "Q8_0"
    batch_options = {"n_seq_max": 3, "n_ctx": 768}  # noqa: RUF012


@pytest.mark.engine
class TestTransformers(_OneThread, BackendContract):
    backend = "transformers"
    wrong_option = ("torch_dtype", "dtype")


@pytest.mark.engine
class TestTransformersPacked(GenerationContract):
    backend = "transformers"

    @pytest.fixture(scope="class", params=get_args(Packing))
    @classmethod
    def options(cls, request: pytest.FixtureRequest) -> Mapping[str, object]:
        return {"quantize": request.param, "num_threads": 1}


@pytest.mark.engine
class TestOnnxRuntime(_OneThread, BackendContract):
    backend = "onnxruntime"
    wrong_option = ("intra_op_threads", "intra_op_num_threads")


@pytest.mark.engine
class TestOnnxRuntimeInFourBytes(_OneThread):
    backend = "onnxruntime"
    quantization = "F32"


class TestFake(BackendContract):
    backend = "fake"
    source = "fake:any"
    wrong_option = ("decode_tsp", "decode_tps")

    # Its time is scripted, its tokens are the same for every prompt, and it is done before it could
    # be killed: tests/faults has it die in each phase.
    test_instants_grow_and_lie_within_the_request = None  # type: ignore[assignment]
    test_a_batch_is_decoded_whole_or_refused = None  # type: ignore[assignment]
    test_a_killed_worker_is_told_by_signal_and_phase_and_leaves_nothing = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("llama-cpp", {"n_ctx": "many"}),
        ("llama-cpp", {"flash_attn": True}),
        ("transformers", {"dtype": "int3"}),
        ("onnxruntime", {"intra_op_num_threads": 0}),
    ],
)
def test_a_wrong_value_names_its_option(
    engine: str, options: dict[str, object], load: Load
) -> None:
    with pytest.raises(UnknownOption, match=rf"backend {engine}: .*{next(iter(options))}"):
        load(engine, **options)
