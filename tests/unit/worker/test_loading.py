"""Is a load told warm from cold, and does a changed file make another load?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.backends import EngineFacts, find_backend
from pytest_llmperf.models import ModelNotHere, ModelSpec, UnknownModel
from pytest_llmperf.models.weight_files import FileStamp
from pytest_llmperf.worker.errors import EngineNotInstalled
from pytest_llmperf.worker.loading import Loading, choose, load_facts, page_cache, prepare
from pytest_llmperf.worker.messages import Loaded
from pytest_llmperf.worker.usage import Usage
from tests.unit.models.test_weight_files import files_at

FAKE = find_backend("fake")
LOADED = Loaded(
    version="1",
    import_ns=500_000_000,
    load_ns=2_000_000_000,
    engine=EngineFacts(vocab_size=1, context_tokens=1, options={}),
    usage=[],
    devices=[],
)


def usage(major_faults: int) -> Usage:
    return Usage(
        at_ns=0,
        cpu_s=0,
        major_faults=major_faults,
        minor_faults=0,
        disk_read_bytes=major_faults * 4096,
        involuntary_switches=0,
    )


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (1.0, "warm: 100% of the weights in the page cache"),
        (0.99, "warm: 99% of the weights in the page cache"),
        (0.5, "partly cached: 50% of the weights in the page cache"),
        (0.0, "cold: 0% of the weights in the page cache"),
    ],
)
def test_a_load_is_told_by_what_was_cached_when_it_began(share: float, told: str) -> None:
    assert load_facts(LOADED, (share, None), None).how == told


def test_a_page_cache_that_is_not_told_is_unknown_and_not_cold() -> None:
    facts = load_facts(LOADED, (None, "m.gguf belongs to another user"), None)
    assert facts.how == "page cache unknown: m.gguf belongs to another user"
    assert (facts.load_s, facts.import_s, facts.major_faults) == (2.0, 0.5, None)


def test_models_of_two_seeds_have_two_titles() -> None:
    spec = ModelSpec("synthetic:llama-160m", "Q8_0", 3)
    loading = prepare(spec, FAKE, FAKE.options_type(), timeout_s=1)
    assert loading.title == "fake synthetic:llama-160m Q8_0 seed 3"
    usual = msgspec.structs.replace(spec, seed=0)
    assert prepare(usual, FAKE, FAKE.options_type(), timeout_s=1).title == (
        "fake synthetic:llama-160m Q8_0"
    )


def test_page_faults_are_those_of_the_load() -> None:
    answer = msgspec.structs.replace(LOADED, usage=[usage(100), usage(512)])
    assert load_facts(answer, (0.0, None), None).major_faults == 412


@pytest.mark.parametrize(
    ("pages", "told"),
    [
        (0, "warm: 0% of the weights fetched from disk"),
        (50, "partly cached: 50% of the weights fetched from disk"),
        (100, "cold: 100% of the weights fetched from disk"),
    ],
)
def test_what_was_fetched_from_disk_takes_the_place_of_a_page_cache_that_is_not_told(
    pages: int, told: str
) -> None:
    answer = msgspec.structs.replace(LOADED, usage=[usage(0), usage(pages)])
    files = files_at(Path("m.gguf"), weight_bytes=100 * 4096)
    assert load_facts(answer, (None, "not told"), files).how == told


def test_an_engine_without_files_has_no_page_cache() -> None:
    assert page_cache(None) == (None, "the engine needs no files")


def loading(*stamps: FileStamp) -> Loading:
    spec = ModelSpec("synthetic:llama-15m")
    return Loading(spec, None, FAKE, FAKE.options_type(), 60, stamps)


def test_a_file_that_changed_is_loaded_anew() -> None:
    old, new = FileStamp("m.gguf", 1, 100, 5), FileStamp("m.gguf", 1, 100, 6)
    assert loading(old).key == loading(old).key
    assert loading(old).key != loading(new).key


def test_what_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.worker.loading.installed_version", lambda _: None)
    with pytest.raises(EngineNotInstalled, match=r"llama-cpp is not installed: pip install"):
        choose("llama-cpp", {})


def test_a_backend_without_files_needs_none() -> None:
    prepared = prepare(ModelSpec("synthetic:no-such"), FAKE, FAKE.options_type(), timeout_s=5)
    assert (prepared.files, prepared.stamps) == (None, ())


def test_a_model_that_nobody_knows_is_refused() -> None:
    llama = find_backend("llama-cpp")
    with pytest.raises(UnknownModel):
        prepare(ModelSpec("synthetic:no-such"), llama, llama.options_type(), timeout_s=5)


def test_a_file_that_vanishes_once_found_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> tuple[FileStamp, ...]:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("pytest_llmperf.worker.loading.stamp", gone)
    llama = find_backend("llama-cpp")
    with pytest.raises(ModelNotHere, match="just after it was found"):
        prepare(ModelSpec("synthetic:llama-15m"), llama, llama.options_type(), timeout_s=60)
