"""Which server do the options mean, and does an address ever carry a secret?"""

from __future__ import annotations

import sys

import pytest

from pytest_llmperf.backends import (
    EngineMissing,
    EngineRefused,
    UnknownOption,
    find_backend,
    read_options,
)
from pytest_llmperf.backends.known_servers import KNOWN, KnownServer, fill, require_modules
from pytest_llmperf.backends.openai import bare, device_told
from pytest_llmperf.backends.openai_options import OpenAIOptions

VALUES = {"model": "/my models/a.gguf", "port": 4}


@pytest.mark.parametrize(
    ("options", "model_format", "quantization"),
    [
        (OpenAIOptions(), "gguf", "Q4_K_M"),
        (OpenAIOptions(server="vllm"), "hf", "BF16"),
        (OpenAIOptions(command="serve {port}"), None, None),
        (OpenAIOptions(command="serve {model}", command_loads="hf"), "hf", "BF16"),
        (OpenAIOptions(base_url="http://there:8000"), None, None),
    ],
)
def test_what_is_started_decides_which_files_are_made(
    options: OpenAIOptions, model_format: str | None, quantization: str | None
) -> None:
    assert options.model_format(None) == model_format
    assert options.default_quantization(None) == quantization


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("there:8000", "must be an address like"),
        ("https://", "must be an address like"),
        ("http://me:opensesame@there", "must hold no key: name its variable with api_key_env"),
        ("http://there/?key=opensesame", "must hold no key"),
    ],
)
@pytest.mark.parametrize("backend", ["openai", "ollama"])
def test_a_wrong_address_is_refused_without_being_repeated(
    backend: str, url: str, why: str
) -> None:
    with pytest.raises(UnknownOption, match=why) as caught:
        read_options(find_backend(backend), {"base_url": url})
    assert "opensesame" not in str(caught.value)


def test_a_wrong_option_names_the_nearest_right_one() -> None:
    with pytest.raises(UnknownOption, match="no option 'base_uri', did you mean 'base_url'"):
        read_options(find_backend("openai"), {"base_uri": "x"})


def test_an_address_may_end_as_clients_of_openai_write_it() -> None:
    assert {bare(f"http://a:1{end}") for end in ("", "/", "/v1", "/v1/")} == {"http://a:1"}


def test_a_device_is_not_guessed_where_there_are_two() -> None:
    assert [device_told("auto", has_gpu=gpu) for gpu in (False, True)] == ["cpu", "server"]
    assert {device_told("gpu", has_gpu=gpu) for gpu in (False, True)} == {"gpu"}
    assert {device_told("cpu", has_gpu=gpu) for gpu in (False, True)} == {"cpu"}


def test_a_path_stays_one_word_and_json_stays_as_it_is() -> None:
    template = """serve --model {model} --over '{"a": {"b": 1}}' -p {port}"""
    assert fill(template, VALUES) == [
        *("serve", "--model", "/my models/a.gguf"),
        *("--over", '{"a": {"b": 1}}', "-p", "4"),
    ]


def test_a_field_that_is_not_known_names_those_that_are() -> None:
    with pytest.raises(EngineRefused, match=r"has a field \{prot\}; it may have \{model\}, \{port"):
        fill("serve {prot}", VALUES)


def test_what_our_python_lacks_for_a_server_is_named() -> None:
    lacking = KnownServer(
        command="", model_format="hf", remedy="pip install it", modules=("sys", "no_such_module")
    )
    with pytest.raises(EngineMissing, match=r"^no_such_module is not installed: pip install it"):
        require_modules(lacking, sys.executable)
    require_modules(lacking, "/another/python")


def test_every_known_server_gets_its_model_its_port_and_its_context() -> None:
    for server in KNOWN.values():
        for field in ("{model}", "{host}", "{port}", "{context_tokens}"):
            assert field in server.command
