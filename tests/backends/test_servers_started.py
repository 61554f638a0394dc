"""Does a server that the worker starts do what the protocol of backends promises?"""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import time
from itertools import accumulate, pairwise
from pathlib import Path

import psutil
import pytest

from pytest_llmperf.backends import UNKNOWN, Request
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Instruments, Plan, Workload, measure
from pytest_llmperf.worker.errors import (
    EngineNotInstalled,
    EngineRaised,
    EngineRefusal,
    WorkerHung,
)
from pytest_llmperf.worker.pool import WorkerPool
from tests.backends.conftest import Load
from tests.backends.servers import (
    LLAMA_SERVER,
    children,
    faulty,
    needs_llama_server,
    needs_vllm,
    prompt_of,
    vllm_python,
)
from tests.faults.processes import answer_to, generate, loading, prompt

PLAN = Plan(samples=5, time_budget_s=30, timeout_s=60)
REAL = [
    pytest.param(
        {"command": LLAMA_SERVER, "command_loads": "gguf", "threads": 1},
        marks=[pytest.mark.engine, needs_llama_server],
        id="llama-server",
    ),
    pytest.param(
        {
            "server": "vllm",
            "python": vllm_python(),
            "arguments": "--load-format dummy --enforce-eager",
            "timeout_s": 300.0,
        },
        marks=[pytest.mark.engine, needs_vllm],
        id="vllm",
    ),
]


@pytest.mark.parametrize("server", REAL)
@pytest.mark.parametrize(("prompt_tokens", "new_tokens"), [(1, 1), (8, 1), (1, 100), (100, 33)])
def test_exactly_the_tokens_asked_for_are_generated(
    server: dict[str, object], prompt_tokens: int, new_tokens: int, load: Load
) -> None:
    model = load("openai", **server)
    answer = generate(model, prompt(prompt_tokens), new_tokens)
    assert answer.rejected is None
    assert answer.count == len(answer.token_ids) == sum(answer.chunk_tokens) == new_tokens
    assert len(answer.chunk_tokens) == len(answer.instants_ns)
    assert all(UNKNOWN <= token < model.engine.vocab_size for token in answer.token_ids)


@pytest.mark.parametrize("server", REAL)
def test_a_request_that_does_not_fit_is_refused_with_the_numbers(
    server: dict[str, object], load: Load
) -> None:
    model = load("openai", **server)
    room = model.engine.context_tokens
    with pytest.raises(EngineRefusal, match=f"{room + 1} tokens asked for, the context holds"):
        generate(model, prompt(room - 15), 16)


@pytest.mark.parametrize("server", REAL)
def test_nothing_of_an_earlier_request_is_reused(server: dict[str, object], load: Load) -> None:
    """The server's own counters are read: a prompt token out of its cache would be rejected."""
    model = load("openai", **server)
    a, b = prompt(64, seed=1), prompt(64, seed=2)
    first = generate(model, a, 24)
    assert first.rejected is None
    assert model.engine.caveats == []
    for other in (a, b, a):
        again = generate(model, other, 24)
        assert again.rejected is None
        assert (named(again.token_ids) == named(first.token_ids)) is (other is a)


def named(ids: list[int]) -> list[int]:
    return [each for each in ids if each != UNKNOWN]


@pytest.mark.parametrize("server", REAL)
def test_instants_grow_and_lie_within_the_request(server: dict[str, object], load: Load) -> None:
    model = load("openai", **server)
    asked = time.perf_counter_ns()
    answer = generate(model, prompt(32), 64)
    answered = time.perf_counter_ns()
    instants = [asked, answer.started_ns, *answer.instants_ns, answered]
    assert all(earlier < later for earlier, later in pairwise(instants))


@pytest.mark.parametrize("server", REAL)
def test_the_servers_own_clock_lies_within_ours(server: dict[str, object], load: Load) -> None:
    model = load("openai", **server)
    answer = generate(model, prompt(100), 64)
    assert answer.timings is not None
    assert answer.timings.prefill_s is not None
    assert answer.timings.prefill_s > 0
    ours_s = (answer.instants_ns[-1] - answer.started_ns) / 1e9
    assert 0.5 * ours_s < answer.timings.total_s < 1.05 * ours_s


@pytest.mark.parametrize("server", REAL)
def test_the_memory_is_that_of_the_servers_tree(server: dict[str, object], load: Load) -> None:
    model = load("openai", **server)
    held = sum(each.memory_info().rss for each in children(model))
    seen = measure(model, Workload(prompt_tokens=16, new_tokens=16), PLAN, Instruments(detect()))
    assert seen.invalid is None
    assert seen.ram.median * 2**30 > 0.9 * held
    assert "prefill_tps" in seen.absent
    assert "prefill_tps" not in seen.metrics
    assert seen.ttft.median > 0
    assert model.version.split()[0] in {"vllm", "llama-server"}


@pytest.mark.parametrize("server", REAL)
def test_nothing_is_left_when_the_worker_is_killed(
    server: dict[str, object], tmp_path: Path
) -> None:
    pool = WorkerPool(tmp_path)
    try:
        model = pool.load(loading("openai", **server))  # type: ignore[arg-type] # a mixed bag
        family = children(model)
        assert family
        os.kill(model.worker.pid, signal.SIGKILL)
        with pytest.raises(Exception, match="killed by SIGKILL"):
            generate(model, prompt(8), 8)
    finally:
        pool.close()
    assert psutil.wait_procs(family, timeout=5)[1] == []


@pytest.mark.engine
@needs_llama_server
def test_llama_server_gives_the_tokens_of_llama_cpp_in_the_worker(load: Load) -> None:
    """Rounding can tip a near tie of random weights; another prompt would agree nowhere."""
    served = load("openai", command=LLAMA_SERVER, command_loads="gguf", threads=1)
    called = load("llama-cpp", n_ctx=256)
    same, names = [], 0
    for seed in range(8):
        theirs = generate(served, prompt(32, seed), 8).token_ids
        ours = generate(called, prompt(32, seed), 8).token_ids
        names += len(named(theirs))
        same.append(all(told in {UNKNOWN, own} for told, own in zip(theirs, ours, strict=True)))
    assert sum(same) >= 6, same
    assert names > 8 * 8 / 2


@pytest.mark.engine
def test_llama_cpp_pythons_server_cannot_be_counted_and_says_so(load: Load) -> None:
    model = load("openai", server="llama-cpp-server")
    seen = measure(model, Workload(prompt_tokens=16, new_tokens=16), PLAN, Instruments(detect()))
    assert seen.invalid is not None
    assert seen.invalid.startswith("the server takes no prompt of token ids as we send it")
    assert set(seen.metrics) == {"load", "ram", "ram_anon"}
    assert model.version == f"llama-cpp-server {importlib.metadata.version('llama-cpp-python')}"


def test_a_server_that_is_started_ends_with_its_worker(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path)
    model = pool.load(loading("openai", command=faulty("none")))
    (server,) = children(model)
    assert generate(model, prompt_of(9), 6).token_ids == [1, 2, 3, 4, 5, 6]
    pool.close()
    assert psutil.wait_procs([server], timeout=5)[1] == []
    assert pool.bad_exits == []


def test_a_stream_that_is_held_back_is_invalid(load: Load) -> None:
    """As a proxy does that buffers: everything comes in one piece."""
    answer = generate(load("openai", command=faulty("held-back")), prompt_of(9), 8)
    assert answer.rejected is not None
    assert answer.rejected.startswith("8 of 8 tokens came at once: the stream is held back")


def test_parts_of_several_tokens_are_chunks(load: Load) -> None:
    answer = generate(load("openai", command=faulty("chunks")), prompt_of(9), 8)
    assert answer.token_ids == [1, 2, 3, 4, 5, 6, 7, 8]
    # A busy machine may bring two parts at once, but never half of one.
    assert set(accumulate(answer.chunk_tokens)) <= {3, 6, 8}


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("no-counts", "the stream tells neither token ids nor counts"),
        ("usage-differs", "6 tokens streamed, but the server's usage counts 8"),
        ("prompt-differs", "9 prompt tokens sent, but the server read 10"),
        ("cached", "5 of 9 prompt tokens came from the server's prefix cache: switch it off"),
        ("refuses", "the server takes no prompt of token ids as we send it: .*HTTP 400"),
    ],
)
def test_what_cannot_be_counted_or_believed_is_invalid(fault: str, why: str, load: Load) -> None:
    model = load("openai", command=faulty(fault))
    answer = generate(model, prompt_of(9), 6)
    assert answer.rejected is not None
    assert re.search(why, answer.rejected)
    workload = Workload(prompt_tokens=9, new_tokens=6)
    seen = measure(model, workload, PLAN, Instruments(detect()))
    assert seen.invalid == answer.rejected
    assert not {"decode_tps", "ttft", "e2e"} & set(seen.metrics)


@pytest.mark.parametrize(
    ("fault", "caveat"),
    [
        ("no-usage", "the server sends no usage: its counts are those of the stream alone"),
        ("silent-cache", "does not say whether a prefix cache spared it prompt tokens"),
    ],
)
def test_what_a_server_does_not_tell_is_said(fault: str, caveat: str, load: Load) -> None:
    model = load("openai", command=faulty(fault))
    assert any(caveat in each for each in model.engine.caveats)
    assert generate(model, prompt_of(9), 6).rejected is None


def test_a_server_that_dies_is_named_with_its_signal_and_last_words(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path)
    try:
        model = pool.load(loading("openai", command=faulty("dies")))
        with pytest.raises(EngineRaised) as caught:
            generate(model, prompt_of(9), 8)
    finally:
        pool.close()
    assert "ended by itself (killed by SIGKILL)" in str(caught.value)
    assert "the faulty server has had enough" in str(caught.value)


def test_a_server_that_breaks_off_is_quoted(load: Load) -> None:
    with pytest.raises(EngineRaised, match="out of cheese"):
        generate(load("openai", command=faulty("breaks-off")), prompt_of(9), 8)


def test_a_request_that_the_server_refuses_is_quoted(load: Load) -> None:
    with pytest.raises(EngineRefusal, match=r"HTTP 400: .*no prompts today"):
        generate(load("openai", command=faulty("refuses-later")), prompt_of(9), 8)


def test_a_server_that_hangs_is_ended_with_its_worker(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path)
    try:
        model = pool.load(loading("openai", command=faulty("hangs")))
        (server,) = children(model)
        with pytest.raises(WorkerHung, match=r"decode \(after 4 tokens\)"):
            generate(model, prompt_of(9), 8, timeout_s=2.0)
    finally:
        pool.close()
    assert psutil.wait_procs([server], timeout=5)[1] == []


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("dies-at-once", r"ended by itself \(exited with code 1\)(.|\n)*does not even start"),
        ("never-ready", r"was not ready after 1 s, and was ended; start_timeout_s="),
    ],
)
def test_a_server_that_does_not_become_ready_is_told_with_its_log(
    fault: str, why: str, load: Load
) -> None:
    with pytest.raises(EngineRaised, match=why):
        load("openai", command=faulty(fault), start_timeout_s=1.0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"command": "serve {model} {port}"}, "say command_loads='gguf' or 'hf'"),
        ({"command": "serve {prot}"}, r"has a field \{prot\}; it may have \{model\}, \{host\}"),
        ({"command": "serve 'em"}, "cannot be split into words"),
        ({"command": faulty("two-models")}, "has 2 models: give model=… as one of one, two"),
        ({"command": faulty("two-models"), "model": "three"}, "has 2 models: it has no 'three'"),
        ({"command": faulty("says-nothing")}, "does not tell its vocab_size: give vocab_size"),
        ({"base_url": "http://127.0.0.1:9"}, "no server answers .*refused; is base_url right"),
    ],
)
def test_what_is_missing_is_named_with_the_cure(
    options: dict[str, object], why: str, load: Load
) -> None:
    with pytest.raises(EngineRefusal, match=why):
        load("openai", **options)


def test_a_program_that_is_not_there_is_skipped_with_the_remedy(load: Load) -> None:
    with pytest.raises(EngineNotInstalled, match="cannot start no-such-server: No such file"):
        load("openai", command="no-such-server {port}")


def test_a_depth_is_refused(load: Load) -> None:
    model = load("openai", command=faulty("none"))
    with pytest.raises(EngineRefusal, match="a server reads every prompt whole"):
        answer_to(model, Request(prompts=[prompt_of(9)], new_tokens=2, depth=4))


def test_a_server_that_is_started_gets_no_key_that_it_could_write_into_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THE_KEY", "opensesame")
    pool = WorkerPool(tmp_path)
    try:
        pool.load(loading("openai", command=faulty("none"), api_key_env="THE_KEY"))
    finally:
        pool.close()
    told = "".join(log.read_text() for log in tmp_path.glob("*.log"))
    assert "key: None None" in told
    assert "opensesame" not in told


def test_a_request_that_cannot_be_processed_means_the_same(load: Load) -> None:
    model = load("openai", command=faulty("422"))
    answer = generate(model, prompt_of(9), 6)
    assert answer.rejected is not None
    assert re.search("takes no prompt of token ids as we send it: .*HTTP 422", answer.rejected)
