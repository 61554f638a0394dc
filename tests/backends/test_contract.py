"""Does every engine do what the protocol of backends promises?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, get_args

import pytest

from pytest_llmperf.backends import Backend, UnknownOption
from pytest_llmperf.backends.exllamav2 import ExLlamaV2
from pytest_llmperf.backends.protocol import EngineMissing
from pytest_llmperf.backends.tensorrt_llm import TensorRtLlm
from pytest_llmperf.backends.transformers_packing import FOUR_BIT, Packing
from pytest_llmperf.contract import NETWORK_GUARD, BackendContract, GenerationContract
from pytest_llmperf.worker.errors import EngineRefusal
from tests.backends.conftest import Load
from tests.backends.servers import LLAMA_SERVER, needs_llama_server
from tests.faults.processes import ONE_THREAD, add_site_hook


class _OneThread(GenerationContract):
    """Threads of an engine wait for each other by spinning, which a busy machine makes long."""

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Mapping[str, object]:
        return ONE_THREAD.get(cls.backend, {})


@pytest.mark.engine
class TestLlamaCpp(_OneThread, BackendContract):
    backend = "llama-cpp"
    tells_quality = True
    quantization = "Q4_K_M"
    wrong_option = ("flash_attention", "flash_attn")
    batch_options = {"n_seq_max": 3, "n_ctx": 768}  # noqa: RUF012 - as the contract has it


@pytest.mark.engine
class TestLlamaCppInEightBits(_OneThread):
    backend = "llama-cpp"
    tells_quality = True
    quantization = "Q8_0"
    batch_options = {"n_seq_max": 3, "n_ctx": 768}  # noqa: RUF012 - as the contract has it


@pytest.mark.engine
class TestTransformers(_OneThread, BackendContract):
    backend = "transformers"
    tells_quality = True
    wrong_option = ("torch_dtype", "dtype")


@pytest.mark.engine
class TestTransformersPacked(GenerationContract):
    backend = "transformers"
    tells_quality = True

    @pytest.fixture(scope="class", params=sorted({*get_args(Packing)} - {*FOUR_BIT}))
    @classmethod
    def options(cls, request: pytest.FixtureRequest) -> Mapping[str, object]:
        return {"quantize": request.param, "num_threads": 1}


@pytest.mark.engine
class TestTransformersInFourBits(GenerationContract):
    """Of a model whose rows are whole blocks."""

    backend = "transformers"
    tells_quality = True
    source = "synthetic:llama-160m"

    @pytest.fixture(scope="class", params=FOUR_BIT)
    @classmethod
    def options(cls, request: pytest.FixtureRequest) -> Mapping[str, object]:
        return {"quantize": request.param, "num_threads": 2}


@pytest.mark.engine
def test_rows_that_are_no_whole_blocks_are_refused_in_words(load: Load) -> None:
    words = r"q_proj has rows of 288 weights, .* use quantize=int8"
    with pytest.raises(EngineRefusal, match=words):
        load("transformers", quantize="nf4", device="cpu")


@pytest.mark.engine
class TestOnnxRuntime(_OneThread, BackendContract):
    backend = "onnxruntime"
    tells_quality = True
    wrong_option = ("intra_op_threads", "intra_op_num_threads")


@pytest.mark.engine
class TestOnnxRuntimeInFourBytes(_OneThread):
    backend = "onnxruntime"
    tells_quality = True
    quantization = "F32"


@pytest.mark.engine
@needs_llama_server
class TestOpenAI(BackendContract):
    """Against llama-server, which names only the last of the tokens that it sends together."""

    backend = "openai"
    batch = 1
    names_tokens = False
    wrong_option = ("arguements", "arguments")

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Mapping[str, object]:
        return {"command": LLAMA_SERVER, "command_loads": "gguf", "threads": 1}


class _WhereItCanBeImported(BackendContract):
    """Of an engine that a machine may have and still not be able to import."""

    adapter: ClassVar[type[Backend]]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def needs_the_engine(cls) -> None:
        """Tried in another process: exllamav2 is found without CUDA, but cannot be imported."""
        adapter = cls.adapter
        code = f"from {adapter.__module__} import {adapter.__name__} as E; E().import_engine()"
        tried = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=False, text=True
        )
        last = tried.stderr.strip().rpartition("\n")[2]
        if EngineMissing.__name__ in last:
            pytest.skip(f"{last.partition(': ')[2]}; {adapter.install}")
        assert tried.returncode == 0, tried.stderr


@pytest.mark.engine
class TestExLlamaV2(_WhereItCanBeImported):
    adapter = ExLlamaV2
    backend = "exllamav2"
    wrong_option = ("max_seq_length", "max_seq_len")

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Mapping[str, object]:
        return {"max_batch_size": 3}


@pytest.mark.engine
class TestTensorRtLlm(_WhereItCanBeImported):
    adapter = TensorRtLlm
    backend = "tensorrt-llm"
    batch = 1
    wrong_option = ("max_seq_length", "max_seq_len")


class TestFake(BackendContract):
    backend = "fake"
    source = "fake:any"
    wrong_option = ("decode_tsp", "decode_tps")

    # Its time is scripted, its tokens are the same for every prompt, and it is done before it could
    # be killed: tests/faults has it die in each phase.
    test_instants_grow_and_lie_within_the_request = None  # type: ignore[assignment] # left out
    test_what_it_tells_of_a_text_is_what_it_generates = None  # type: ignore[assignment] # left out
    test_a_batch_is_decoded_whole_or_refused = None  # type: ignore[assignment] # left out
    test_a_killed_worker_is_told_by_signal_and_phase_and_leaves_nothing = None  # type: ignore[assignment] # left out


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


@pytest.mark.parametrize(
    ("call", "noted"),
    [
        ("getaddrinfo('models.invalid', 443)", "socket.getaddrinfo models.invalid"),
        ("gethostbyname('models.invalid')", "socket.gethostbyname models.invalid"),
        ("socket().connect(('192.0.2.1', 9))", "socket.connect 192.0.2.1"),
        ("socket(type=SOCK_DGRAM).sendto(b'', ('192.0.2.1', 9))", "socket.sendto 192.0.2.1"),
        ("socket().connect(('127.0.0.1', 9))", ""),
        ("getaddrinfo('localhost', 9)", ""),
        ("socket(type=SOCK_DGRAM).connect(('192.0.2.1', 9))", ""),
    ],
)
def test_the_guard_of_the_contract_notes_who_is_called(
    call: str, noted: str, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    code = f"from socket import *; setdefaulttimeout(0.2); {call}"
    subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {
            "PYTHONPATH": add_site_hook(tmp_path, NETWORK_GUARD),
            "LLMPERF_CONTRACT_CALLS": str(calls),
            "HF_HUB_OFFLINE": "0",
        },
        stderr=subprocess.DEVNULL,
        check=False,
    )
    armed, *rest = calls.read_text().splitlines()
    assert armed.startswith("armed ")
    assert armed.endswith(" HF_HUB_OFFLINE=0")
    assert rest == [noted] * bool(noted)
