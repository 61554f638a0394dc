"""Is a server that somebody else has started measured as what it is, and no key told?"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pytest_llmperf.backends.server_process import free_port
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.measure import Instruments, Plan, Workload, measure
from pytest_llmperf.worker.errors import (
    EngineNotInstalled,
    EngineRaised,
    EngineRefusal,
)
from pytest_llmperf.worker.pool import WorkerPool
from tests.backends.conftest import Load
from tests.backends.servers import HERE, children, prompt_of
from tests.faults.processes import generate, loading

PLAN = Plan(samples=5, time_budget_s=30, timeout_s=60)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def running(script: str, fault: str = "none") -> Iterator[str]:
    """A stand-in that somebody else has started; its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), str(port), fault], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while not listens(port):
            assert process.poll() is None, f"{script} ended: another took port {port}?"
            assert time.monotonic() < deadline, f"{script} does not listen on port {port}"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_a_server_that_runs_already_is_measured_without_its_memory(load: Load) -> None:
    with running("faulty_server.py") as url:
        model = load("openai", base_url=f"{url}/v1/")
        assert children(model) == []
        workload = Workload(prompt_tokens=9, new_tokens=6)
        seen = measure(model, workload, PLAN, Instruments(detect()))
        assert seen.invalid is None
        assert not {"ram", "ram_anon", "prefill_tps", "mbu"} & set(seen.metrics)
        assert {"decode_tps", "ttft", "e2e"} <= set(seen.metrics)
        assert "was not started here" in seen.absent["ram"]
        assert any("a second look asks the same process again" in each for each in seen.findings)
        assert seen.conditions is None
        model.worker.close()
        assert httpx.get(f"{url}/v1/models").status_code == 200


def test_a_key_comes_from_the_environment_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THE_KEY", "opensesame")
    shown = []
    pool = WorkerPool(tmp_path)
    try:
        with running("faulty_server.py", "wants-a-key") as url:
            with pytest.raises(EngineRefusal, match=r"HTTP 401.*api_key_env=NAME"):
                pool.load(loading("openai", base_url=url))
            model = pool.load(loading("openai", base_url=url, api_key_env="THE_KEY"))
            assert generate(model, prompt_of(9), 6).count == 6
            shown.append(str(model.engine))
        with running("faulty_server.py", "refuses-later") as url:
            model = pool.load(loading("openai", base_url=url, api_key_env="THE_KEY"))
            with pytest.raises(EngineRefusal, match=r"no prompts today, Bearer \[key\]") as caught:
                generate(model, prompt_of(9), 6)
            shown.append(str(caught.value))
        with running("faulty_server.py", "breaks-off") as url:
            model = pool.load(loading("openai", base_url=url, api_key_env="THE_KEY"))
            with pytest.raises(EngineRaised, match=r"out of cheese, Bearer \[key\]") as broke_off:
                generate(model, prompt_of(9), 6)
            shown.append(str(broke_off.value))
        with pytest.raises(EngineRefusal, match="variable NO_SUCH_KEY is not set"):
            pool.load(loading("openai", base_url=url, api_key_env="NO_SUCH_KEY"))
    finally:
        pool.close()
    shown += [log.read_text() for log in tmp_path.glob("*.log")]
    assert len(shown) >= 7
    assert "opensesame" not in "".join(shown)


@pytest.mark.parametrize(
    ("status", "kind", "why"),
    [
        (401, EngineRefusal, "HTTP 401: .*no prompts today.*takes api_key_env=NAME"),
        (403, EngineRefusal, "HTTP 403: .*no prompts today.*takes api_key_env=NAME"),
        (404, EngineRaised, "HTTP 404: .*no prompts today"),
        (500, EngineRaised, "HTTP 500: .*no prompts today"),
    ],
)
def test_only_a_wrong_request_means_that_token_ids_are_not_taken(
    status: int, kind: type[Exception], why: str, load: Load
) -> None:
    with (
        running("faulty_server.py", str(status)) as url,
        pytest.raises(kind, match=why) as caught,
    ):
        load("openai", base_url=url)
    assert "token ids" not in str(caught.value)


def test_ollama_as_it_is_described_is_counted_by_its_own_words(load: Load) -> None:
    """Constructed: the stand-in was made from the same description as the adapter."""
    with running("ollama_stand_in.py") as url:
        model = load("ollama", base_url=url)
        assert model.options["model"] == "tiny:latest"
        assert loaded(url) == ["tiny:latest"]
        workload = Workload(prompt_tokens=9, new_tokens=6)
        seen = measure(model, workload, PLAN, Instruments(detect()))
        assert seen.invalid is None
        assert 0 < seen.decode_tps.median < 110  # it sleeps 10 ms for each
        assert [each.span for each in seen.clocks] == ["prefill", "decode", "request"]
        assert all(each.engine_s > 0 for each in seen.clocks)
        model.worker.close()
        assert loaded(url) == []


@pytest.mark.parametrize("fault", ["refuses-at-the-end", "hangs-at-the-end"])
def test_an_ollama_that_does_not_unload_does_not_keep_the_worker(
    fault: str, tmp_path: Path
) -> None:
    with running("ollama_stand_in.py", fault) as url:
        pool = WorkerPool(tmp_path)
        pool.load(loading("ollama", base_url=url))
        pool.close()
        assert pool.bad_exits == []


def loaded(url: str) -> list[str]:
    return [each["name"] for each in httpx.get(f"{url}/api/ps").json()["models"]]


@pytest.mark.parametrize(
    ("fault", "prompt_tokens", "why"),
    [
        ("no-logprobs", 9, "its stream has no logprobs, by which alone its tokens can be counted"),
        ("ends-early", 9, "5 tokens generated, 6 asked for"),
        ("cached", 50, "50 prompt tokens sent, but ollama counts 51"),
        ("none", 1, "1 tokens stand before every prompt: ask for more"),
    ],
)
def test_ollama_is_not_believed_without_its_counts(
    fault: str, prompt_tokens: int, why: str, load: Load
) -> None:
    with running("ollama_stand_in.py", fault) as url:
        model = load("ollama", base_url=url)
        workload = Workload(prompt_tokens=prompt_tokens, new_tokens=6)
        assert measure(model, workload, PLAN, Instruments(detect())).invalid == why


def test_an_ollama_that_does_not_run_is_skipped_with_the_line_that_starts_it(load: Load) -> None:
    with contextlib.suppress(httpx.TransportError):
        httpx.get("http://127.0.0.1:11434/api/version")
        pytest.skip("an ollama runs here")
    with pytest.raises(EngineNotInstalled, match="start it with `ollama serve`"):
        load("ollama")
