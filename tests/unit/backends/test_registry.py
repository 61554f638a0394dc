"""Is a wrong backend or option answered with the right one?"""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from pytest_llmperf.backends import (
    UnknownBackend,
    UnknownOption,
    backend_names,
    find_backend,
    installed_version,
    read_options,
)


@pytest.mark.parametrize("name", backend_names())
def test_every_backend_is_found_under_its_own_name(name: str) -> None:
    backend = find_backend(name)
    assert backend.name == name
    assert backend.options_type() == read_options(backend, {})


def test_an_unknown_backend_names_the_nearest_and_all() -> None:
    with pytest.raises(UnknownBackend) as caught:
        find_backend("llama.cpp")
    assert str(caught.value) == (
        "unknown backend 'llama.cpp', did you mean 'llama-cpp'?; "
        f"known: {', '.join(backend_names())}"
    )


def test_a_backend_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UnknownBackend, match=r"^unknown backend 'zzz'; known: "):
        find_backend("zzz")


def test_adapters_are_found_without_importing_their_engines() -> None:
    code = (
        "import sys\n"
        "from pytest_llmperf.backends import backend_names, find_backend, installed_version\n"
        "for name in backend_names():\n"
        "    installed_version(find_backend(name))\n"
        "print(sorted({'llama_cpp', 'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_needs_no_package_is_installed() -> None:
    assert installed_version(find_backend("fake")) == ""


def test_a_package_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = find_backend("llama-cpp")
    monkeypatch.setattr(type(backend), "distribution", "no-such-package-for-llmperf")
    assert installed_version(backend) is None


def test_given_options_replace_defaults() -> None:
    backend = find_backend("llama-cpp")
    options = msgspec.to_builtins(read_options(backend, {"n_ctx": 512, "flash_attn": "off"}))
    defaults = msgspec.to_builtins(backend.options_type())
    assert options == {**defaults, "n_ctx": 512, "flash_attn": "off"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_ctxt": 512}, r"backend llama-cpp has no option 'n_ctxt', did you mean 'n_ctx'\?; it"),
        ({"zzz": 1}, r"has no option 'zzz'; it takes \w+, .*flash_attn, .*n_batch, n_ctx, "),
        ({"n_ctx": "512"}, r"backend llama-cpp: Expected `int`, got `str` - at `\$\.n_ctx`"),
        ({"flash_attn": "maybe"}, r"Invalid enum value 'maybe' - at `\$\.flash_attn`"),
    ],
)
def test_a_wrong_option_is_named_with_its_cure(given: dict[str, object], words: str) -> None:
    with pytest.raises(UnknownOption, match=words):
        read_options(find_backend("llama-cpp"), given)
