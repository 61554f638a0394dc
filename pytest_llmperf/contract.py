"""Does a backend keep what the protocol of backends promises? Tests to inherit.

    from pytest_llmperf.contract import BackendContract

    class TestMine(BackendContract):
        backend = "mine"
        wrong_option = ("n_thread", "n_threads")

A backend is proved by what its workers do with a small synthetic model; nothing is timed, and
``--llmperf`` is not needed. GenerationContract is the part that is about tokens alone, for other
quantizations of a backend that has been proved as a whole.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import psutil
import pytest

from pytest_llmperf.backends import UNKNOWN, Request, UnknownOption, find_backend
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.gpu_watch import GpuWatch
from pytest_llmperf.measure.gpu_neighbours import wait_until_given_back
from pytest_llmperf.models import ModelSpec
from pytest_llmperf.worker.errors import EngineNotInstalled, EngineRefusal, WorkerDied, WorkerHung
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.messages import Generate, Generated, Score, Scored
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool

TIMEOUT_S = 300.0
_GONE_WITHIN_S = 10.0
_VOCABULARY = 256
"""Prompts hold the first tokens only, which every vocabulary has."""
NETWORK_GUARD = """
import ipaddress, os, socket, sys

def _is_here(host):
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified

def _called(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        return arguments[0]
    if event in ("socket.sendto", "socket.sendmsg"):
        address = arguments[1]
    elif event == "socket.connect" and arguments[0].type == socket.SOCK_STREAM:
        address = arguments[1]
    else:
        return None
    return address[0] if isinstance(address, tuple) else None

def _note(line):
    with open(os.environ["LLMPERF_CONTRACT_CALLS"], "a") as calls:
        calls.write(line + "\\n")

def _watch(event, arguments):
    if event.startswith("socket."):
        host = _called(event, arguments)
        if not _is_here(host):
            _note(f"{event} {host}")

sys.addaudithook(_watch)
_note(f"armed {os.getpid()} HF_HUB_OFFLINE={os.environ.get('HF_HUB_OFFLINE')}")
"""
"""Python's site hook that notes whom a process calls or looks up beyond this machine, in the file
that LLMPERF_CONTRACT_CALLS names. A datagram socket may connect: that sends nothing."""


class GenerationContract:
    """What is promised of tokens and instants."""

    backend: ClassVar[str]
    source: ClassVar[str] = "synthetic:llama-15m"
    quantization: ClassVar[str | None] = None
    batch: ClassVar[int] = 3
    """Sequences that it decodes at once, with ``batch_options`` added; 1: it must refuse two."""
    batch_options: ClassVar[Mapping[str, object]] = {}
    python: ClassVar[str | None] = None
    """The interpreter of its workers, whose environment has the engine; None: ours."""
    names_tokens: ClassVar[bool] = True
    """False: it may count a token that it does not name, which then stands for any."""
    tells_quality: ClassVar[bool] = False
    """Whether it gives logits or log-probabilities of a text; else it refuses in words."""

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Mapping[str, object]:
        """What the model is loaded with; override it for other options, or several."""
        return {}

    @pytest.fixture(scope="class")
    @classmethod
    def pool(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
        """The workers of a class; each must leave well."""
        pool = WorkerPool(tmp_path_factory.mktemp("workers"))
        yield pool
        pool.close()
        assert pool.bad_exits == []

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, pool: WorkerPool, options: Mapping[str, object]) -> LoadedModel:
        """The model that most tests ask."""
        return pool.load(cls.loading(options))

    @classmethod
    def loading(cls, options: Mapping[str, object]) -> Loading:
        """What is to be loaded."""
        backend, chosen = choose(cls.backend, options, cls.python)
        spec = ModelSpec(cls.source, cls.quantization)
        return prepare(spec, backend, chosen, timeout_s=TIMEOUT_S, python=cls.python)

    @classmethod
    def agree(cls, one: Generated, other: Generated) -> bool:
        """Whether two answers have the same tokens, as far as they are named."""
        pairs = zip(one.token_ids, other.token_ids, strict=True)
        return all(a == b or (not cls.names_tokens and UNKNOWN in {a, b}) for a, b in pairs)

    @pytest.mark.parametrize(("prompt_tokens", "new_tokens"), [(1, 1), (8, 1), (1, 100), (100, 33)])
    def test_exactly_the_tokens_asked_for_are_generated(
        self, model: LoadedModel, prompt_tokens: int, new_tokens: int
    ) -> None:
        answer = ask(model, [prompt(prompt_tokens)], new_tokens)
        assert answer.count == len(answer.token_ids) == new_tokens
        least = 0 if self.names_tokens else UNKNOWN
        assert all(least <= token < model.engine.vocab_size for token in answer.token_ids)

    def test_arrivals_add_up_to_the_tokens(self, model: LoadedModel) -> None:
        answer = ask(model, [prompt(16)], 48)
        if answer.chunk_tokens:
            assert sum(answer.chunk_tokens) == answer.count
            assert len(answer.chunk_tokens) == len(answer.instants_ns)
        else:
            assert len(answer.instants_ns) == answer.count

    def test_instants_grow_and_lie_within_the_request(self, model: LoadedModel) -> None:
        """The clock is one for all processes of a machine, so that ours brackets the worker's."""
        asked = time.perf_counter_ns()
        answer = ask(model, [prompt(32)], 64)
        answered = time.perf_counter_ns()
        instants = [asked, answer.started_ns, *answer.instants_ns, answered]
        assert all(earlier < later for earlier, later in pairwise(instants))

    def test_a_request_fills_the_context_to_the_last_token(self, model: LoadedModel) -> None:
        room = min(model.engine.context_tokens, 4096)
        assert ask(model, [prompt(room - 16)], 16).count == 16

    def test_a_request_that_does_not_fit_is_refused_with_the_numbers(
        self, model: LoadedModel
    ) -> None:
        room = model.engine.context_tokens
        with pytest.raises(EngineRefusal, match=f"{room + 1} tokens asked for, the context holds"):
            ask(model, [prompt(room - 15)], 16)
        assert ask(model, [prompt(8)], 2).count == 2, "and lives on"

    def test_nothing_of_an_earlier_request_is_reused(self, model: LoadedModel) -> None:
        """Greedy decoding answers the same, after itself, after another, after its prefix."""
        a, b = prompt(64, seed=1), prompt(64, seed=2)
        first = ask(model, [a], 24)
        assert self.agree(ask(model, [a], 24), first)
        other = ask(model, [b], 24)
        assert not self.names_tokens or not self.agree(other, first)
        assert self.agree(ask(model, [a], 24), first)
        ask(model, [a[:40]], 8)
        assert self.agree(ask(model, [a], 24), first)

    def test_being_observed_changes_no_token(self, model: LoadedModel) -> None:
        plain = ask(model, [prompt(48)], 24, observe="nothing")
        assert self.agree(ask(model, [prompt(48)], 24, observe="usage"), plain)
        assert self.agree(ask(model, [prompt(48)], 24, observe="memory"), plain)

    def test_what_it_tells_of_a_text_is_what_it_generates(
        self, model: LoadedModel, tmp_path: Path
    ) -> None:
        """Read in one piece, rounding may tip a near tie of random weights."""
        tokens, new_tokens = prompt(48), 8
        if not self.tells_quality:
            with pytest.raises(EngineRefusal, match="output quality cannot be measured"):
                read(model, tokens, tmp_path / "logits")
            return
        generated = ask(model, [tokens], new_tokens).token_ids
        sequence = tokens + generated
        likeliest = read(model, sequence, tmp_path / "logits")
        assert len(likeliest) == len(sequence) - 1
        said = likeliest[len(tokens) - 1 :]
        assert sum(a == b for a, b in zip(said, generated, strict=True)) >= new_tokens - 1
        assert read(model, prompt(48, seed=7), tmp_path / "logits") != likeliest[: len(tokens) - 1]
        assert read(model, sequence, tmp_path / "logits") == likeliest, "nothing was kept"

    def test_a_batch_is_decoded_whole_or_refused(
        self, pool: WorkerPool, options: Mapping[str, object]
    ) -> None:
        count = max(2, self.batch)
        prompts = [prompt(24, seed=seed) for seed in range(count)]
        model = pool.load(self.loading({**options, **self.batch_options}))
        if self.batch < 2:
            with pytest.raises(EngineRefusal, match=r"2 sequences asked for|batch"):
                ask(model, prompts, 8)
            return
        answer = ask(model, prompts, 8)
        assert answer.count == 8
        assert len(answer.token_ids) == 8 * count
        sequences = [answer.token_ids[index::count] for index in range(count)]
        assert len({tuple(each) for each in sequences}) == count


class BackendContract(GenerationContract):
    """What is promised of a backend as a whole: its processes, options and package too."""

    wrong_option: ClassVar[tuple[str, str]]
    """A misspelt option, and the right one."""

    @pytest.fixture(scope="class")
    @classmethod
    def calls(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Where the fresh worker's calls to other machines are noted."""
        return tmp_path_factory.mktemp("network") / "calls"

    @pytest.fixture(scope="class")
    @classmethod
    def fresh(
        cls,
        options: Mapping[str, object],
        calls: Path,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[LoadedModel]:
        """The same model in another worker, whose connections are watched."""
        calls.with_name("sitecustomize.py").write_text(NETWORK_GUARD)
        pool = WorkerPool(tmp_path_factory.mktemp("fresh"))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LLMPERF_CONTRACT_CALLS", str(calls))
            environment.setenv("PYTHONPATH", str(calls.parent), prepend=os.pathsep)
            environment.delenv("HF_HUB_OFFLINE", raising=False)
            model = pool.load(cls.loading(options))
        yield model
        pool.close()
        assert pool.bad_exits == []

    def test_a_fresh_worker_gives_the_same_tokens(
        self, model: LoadedModel, fresh: LoadedModel
    ) -> None:
        assert self.agree(ask(fresh, [prompt(64)], 24), ask(model, [prompt(64)], 24))

    def test_no_other_machine_is_called(self, fresh: LoadedModel, calls: Path) -> None:
        """Of the Python processes of the worker's tree; and the hub's library is told so."""
        ask(fresh, [prompt(8)], 2)
        noted = calls.read_text().splitlines()
        assert f"armed {fresh.worker.pid} HF_HUB_OFFLINE=1" in noted
        assert [line for line in noted if not line.startswith("armed ")] == []

    def test_all_memory_comes_back_when_it_is_unloaded(
        self, options: Mapping[str, object], tmp_path: Path
    ) -> None:
        """Memory belongs to processes: none of the worker's tree may be left, and no GPU's use."""
        with _gpus_as_before():
            pool = WorkerPool(tmp_path)
            model = pool.load(self.loading(options))
            ask(model, [prompt(16)], 4)
            family = _family(model)
            pool.close()
        assert pool.bad_exits == []
        assert _left(family) == []

    def test_a_killed_worker_is_told_by_signal_and_phase_and_leaves_nothing(
        self, options: Mapping[str, object], tmp_path: Path
    ) -> None:
        pool = WorkerPool(tmp_path)
        model = pool.load(self.loading(options))
        family = _family(model)
        threading.Timer(0.2, os.kill, (model.worker.pid, signal.SIGKILL)).start()
        with pytest.raises(WorkerDied, match=r"killed by SIGKILL during (prefill|decode \(after)"):
            _ask_for_ever(model)
        assert _left(family) == []

    def test_a_worker_that_hangs_is_ended_after_its_time(
        self, options: Mapping[str, object], tmp_path: Path
    ) -> None:
        pool = WorkerPool(tmp_path)
        model = pool.load(self.loading(options))
        family = _family(model)
        os.kill(model.worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerHung, match="gave no answer for 1 s"):
            ask(model, [prompt(8)], 2, timeout_s=1.0)
        assert _left(family) == []

    def test_a_wrong_option_names_the_nearest_right_one(self) -> None:
        wrong, right = self.wrong_option
        with pytest.raises(UnknownOption) as caught:
            choose(self.backend, {wrong: 1}, self.python)
        assert f"has no option {wrong!r}, did you mean {right!r}?" in str(caught.value)

    def test_a_missing_package_is_told_with_the_line_that_installs_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = find_backend(self.backend)
        if backend.distribution is None:
            pytest.skip(f"{self.backend} needs no package")
        monkeypatch.setattr(type(backend), "distribution", "no-such-package-for-llmperf")
        with pytest.raises(EngineNotInstalled) as caught:
            choose(self.backend, {})
        assert backend.install in str(caught.value)


def prompt(tokens: int, seed: int = 0) -> list[int]:
    """Token ids that are the same for the same seed."""
    return random.Random(seed).choices(range(_VOCABULARY), k=tokens)  # noqa: S311 - no secret


def read(model: LoadedModel, tokens: list[int], path: Path) -> list[int]:
    """The likeliest token after each of these but the last; logits are written to ``path``."""
    import numpy as np

    answer = model.worker.ask(Score(token_ids=tokens, first=0, path=str(path)), TIMEOUT_S)
    assert isinstance(answer, Scored)
    if answer.log_probs is not None:
        return answer.log_probs.likeliest
    rows = np.fromfile(path, np.float32).reshape(answer.rows, answer.columns)
    assert answer.columns >= model.engine.vocab_size
    return [int(each) for each in rows.argmax(axis=1)[:-1]]


def ask(
    model: LoadedModel,
    prompts: list[list[int]],
    new_tokens: int,
    *,
    observe: Literal["nothing", "usage", "memory"] = "usage",
    timeout_s: float = TIMEOUT_S,
) -> Generated:
    """The worker's answer to one request. Raises WorkerError."""
    request = Request(prompts=prompts, new_tokens=new_tokens)
    answer = model.worker.ask(Generate(request=request, observe=observe), timeout_s)
    assert isinstance(answer, Generated)
    assert answer.rejected is None, answer.rejected
    return answer


def _ask_for_ever(model: LoadedModel) -> None:
    """Long requests, so that hardly any time lies between them."""
    room = min(model.engine.context_tokens, 4096)
    while True:
        ask(model, [prompt(64)], room - 64)


def _family(model: LoadedModel) -> list[psutil.Process]:
    worker = psutil.Process(model.worker.pid)
    return [worker, *worker.children(recursive=True)]


def _left(family: list[psutil.Process]) -> list[psutil.Process]:
    """Who of them still runs after a while."""
    _, alive = psutil.wait_procs(family, timeout=_GONE_WITHIN_S)
    return [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


@contextlib.contextmanager
def _gpus_as_before() -> Iterator[None]:
    """Afterwards every NVIDIA GPU must be as free as before; where there is none, nothing is."""
    if not any(each.kind == "cuda" for each in detect().accelerators):
        yield
        return
    with contextlib.closing(GpuWatch.start()) as watch:
        idle = watch.read()
        assert idle is not None, watch.trouble
        yield
        assert wait_until_given_back(watch, idle) is None
