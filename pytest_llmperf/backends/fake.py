"""A scripted engine: tokens at stated virtual times, stated memory, stated disasters.

It runs in a real worker process, so everything about processes is real; only time is scripted:
its clock stands still except where the script moves it, so that hours pass in milliseconds.
Meant for this project's own tests and for those of whoever builds on it.
"""

from __future__ import annotations

import array
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar, Literal

from pytest_llmperf.backends.protocol import (
    BackendOptions,
    Engine,
    EngineFacts,
    EngineTimings,
    ModelFormat,
    Request,
    TextTokens,
)
from pytest_llmperf.backends.queue import continuous_steps, static_steps
from pytest_llmperf.backends.timeline import Timeline
from pytest_llmperf.models import ModelFiles

Disaster = Literal[
    "sigkill",
    "sigsegv",
    "sigill",
    "exit",
    "hang",
    "raise",
    "stdout",
    "stderr",
    "channel",
    "grandchild",
]
"""What may go wrong: death by a signal, ``exit`` with code 3, an endless wait, an exception, 4 MB
of text on stdout or stderr, garbage on the protocol's channel, a helper that ignores SIGTERM."""


_VOCABULARY = 32000


class FakeOptions(BackendOptions, frozen=True, kw_only=True):
    """The script. A list holds a value for each fresh worker 0, 1, …; the last repeats."""

    decode_tps: float | list[float] = 100.0
    """Virtual decode speed in tokens/s."""
    prefill_tps: float | list[float] = 1000.0
    """Virtual prefill speed in tokens/s."""
    pace_file: str | None = None
    """A file with one factor for each fresh worker, by which its speeds are multiplied; the last
    repeats. What changes in it is no option, just as a new build of an engine is none."""
    load_s: float = 0.5
    """Virtual load time in seconds."""
    noise_cv: float = 0.0
    """Relative standard deviation of the speeds from sample to sample."""
    warmup_samples: int = 0
    """The first so many samples run at half speed."""
    token_times_ms: list[float] | None = None
    """Instants of the tokens after the request, in ms; overrides the speeds. The list repeats."""
    chunk_tokens: int = 1
    """Deliver so many tokens together, at the time of the last of them."""
    engine_clock: float | None = None
    """The engine's own clock shows this share of the true times; None: it has no clock."""
    ram_file: str | None = None
    """A file with the MiB to take in place of ``ram_mib``; no option either."""
    ram_mib: int = 0
    """Private memory really taken at load, in MiB."""
    spike_mib: int = 0
    """Private memory really taken and given back within each request, in MiB."""
    missing_tokens: int = 0
    """Generate this many tokens fewer than asked."""
    extra_tokens: int = 0
    """Generate this many tokens more than asked."""
    sharpness: float = 5.0
    """Logit of the token one above the last one; that of all others is 0."""
    gpu_count: int | None = 0
    """GPUs that it computes on; None: all that it sees."""
    finds_gpus: bool = True
    """Whether they are there when it loads; else it computes on the CPU, as some engines do."""
    real_s: float = 0.0
    """Seconds that a request really takes, asleep."""
    journal: str | None = None
    """A file that takes a line of JSON for each request: when, by which worker, on which GPUs."""
    disaster: Disaster | None = None
    at: Literal["load", "prefill", "decode"] = "decode"
    """The phase in which the disaster strikes; in decode, after half of the tokens."""
    in_invocation: int | None = None
    """Only this fresh worker meets the disaster; None: every one."""
    n_ctx: int = 4096
    """Context in tokens."""
    slots: int = 4
    """Requests of a queue that are decoded at once."""
    refill: bool = False
    """Whether the next request of a queue begins as soon as one has ended, or with all others."""

    def gpus(self) -> int | None:
        """As scripted."""
        return self.gpu_count


class Fake:
    """The scripted backend."""

    name: ClassVar[str] = "fake"
    distribution: ClassVar[str | None] = None
    install: ClassVar[str] = "nothing to install"
    model_format: ClassVar[ModelFormat | None] = None
    default_quantization: ClassVar[str | None] = None
    options_type: ClassVar[type[BackendOptions]] = FakeOptions

    def __init__(self) -> None:
        self._now_ns = 0

    def clock(self) -> int:
        """The virtual time in nanoseconds."""
        return self._now_ns

    def pass_time(self, seconds: float) -> None:
        """Move the virtual clock on."""
        self._now_ns += round(seconds * 1e9)

    def import_engine(self) -> str:
        """There is no engine; the version is that of the script language."""
        return "1"

    def load(
        self, model: ModelFiles | None, options: BackendOptions, invocation: int
    ) -> FakeEngine:
        """Take the scripted time and memory."""
        del model
        assert isinstance(options, FakeOptions)
        self.pass_time(options.load_s)
        return FakeEngine(self, options, invocation)


class FakeEngine(Engine):
    """A script being played."""

    def __init__(self, backend: Fake, script: FakeOptions, invocation: int) -> None:
        self._backend = backend
        self._script = script
        self._invocation = invocation
        self._samples = 0
        self._gaps: list[float] = []
        self._random = random.Random(f"fake:{invocation}")  # noqa: S311 - a script, not a secret
        factors = [1.0] if script.pace_file is None else _numbers(script.pace_file)
        self._pace = self._of_this_worker(factors)
        taken = script.ram_mib if script.ram_file is None else _numbers(script.ram_file)[0]
        self._memory = _touch(int(taken))
        self._strike("load")

    def facts(self) -> EngineFacts:
        """Describe the script."""
        return EngineFacts(
            vocab_size=_VOCABULARY,
            context_tokens=self._script.n_ctx,
            options={
                "decode_tps": self._speed(self._script.decode_tps),
                "prefill_tps": self._speed(self._script.prefill_tps),
                "n_ctx": self._script.n_ctx,
            },
            queue=True,
            device="gpu" if self._script.gpu_count != 0 and self._script.finds_gpus else "cpu",
            build="scripted: virtual times, no model",
        )

    def generate(self, request: Request, timeline: Timeline) -> None:
        """Play one request; a batch takes as long as a single sequence."""
        script = self._script
        self._sleep()
        if request.lengths:
            self._generate_queue(request, timeline)
            return
        prompt = request.prompts[0]
        count = max(0, request.new_tokens - script.missing_tokens) + script.extra_tokens
        gaps = self._gaps_s(len(prompt) - request.depth, count)
        self._gaps = gaps
        self._samples += 1
        self._backend.pass_time(request.depth / self._speed(script.prefill_tps))
        timeline.start()
        self._strike("prefill")
        spike = _touch(script.spike_mib)
        waiting: list[int] = []
        for position, gap in enumerate(gaps):
            if position == max(1, count // 2):
                self._strike("decode")
            self._backend.pass_time(gap)
            waiting.append((prompt[0] + position) % 32000)
            if len(waiting) == script.chunk_tokens or position == count - 1:
                self._deliver(waiting, request.batch, timeline)
                waiting = []
        del spike

    def _sleep(self) -> None:
        """Take the scripted part of real time, and write down which."""
        began = time.monotonic()
        time.sleep(self._script.real_s)
        if self._script.journal is not None:
            line = {
                "pid": os.getpid(),
                "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
                "began": began,
                "ended": time.monotonic(),
            }
            with Path(self._script.journal).open("a", encoding="utf-8") as journal:
                journal.write(f"{json.dumps(line)}\n")

    def _generate_queue(self, request: Request, timeline: Timeline) -> None:
        """Play a queue; a step takes as long whatever it decodes, a prompt in it or not."""
        schedule = continuous_steps if self._script.refill else static_steps
        steps = schedule(request.lengths, self._script.slots)
        gaps = self._gaps_s(len(request.prompts[0]), len(steps) - self._script.missing_tokens)
        self._samples += 1
        timeline.start()
        for gap, places in zip(gaps, steps, strict=False):
            self._backend.pass_time(gap)
            timeline.arrive(places, [request.prompts[place][0] for place in places])

    def _deliver(self, tokens: list[int], batch: int, timeline: Timeline) -> None:
        if self._script.chunk_tokens > 1:
            timeline.chunk(tokens)
        elif batch > 1:
            timeline.step(tokens * batch)
        else:
            timeline.token(tokens[0])

    def tokenize(self, text: str) -> TextTokens:
        """A token for each byte."""
        return TextTokens(ids=list(text.encode()))

    def logits(self, tokens: list[int]) -> array.array[float]:
        """As sharp as the script says."""
        rows = array.array("f", bytes(4 * _VOCABULARY * len(tokens)))
        for position, token in enumerate(tokens):
            rows[position * _VOCABULARY + (token + 1) % _VOCABULARY] = self._script.sharpness
        return rows

    def timings(self) -> EngineTimings | None:
        """The scripted times as the scripted clock shows them."""
        share = self._script.engine_clock
        if share is None:
            return None
        prefill_s, *decode_s = (gap * share for gap in self._gaps)
        return EngineTimings(
            total_s=prefill_s + sum(decode_s), prefill_s=prefill_s, decode_s=sum(decode_s)
        )

    def _gaps_s(self, prompt_tokens: int, count: int) -> list[float]:
        script = self._script
        if script.token_times_ms is not None:
            stated = [0.0, *script.token_times_ms]
            return [
                (
                    stated[i % len(script.token_times_ms) + 1]
                    - stated[i % len(script.token_times_ms)]
                )
                / 1e3
                for i in range(count)
            ]
        slowness = 2.0 if self._samples < script.warmup_samples else 1.0
        slowness *= 1 + self._random.gauss(0, script.noise_cv)
        first = slowness * prompt_tokens / self._speed(script.prefill_tps)
        step = slowness / self._speed(script.decode_tps)
        return [first, *[step] * (count - 1)][:count]

    def _speed(self, value: float | list[float]) -> float:
        return self._pace * self._of_this_worker(value)

    def _of_this_worker(self, value: float | list[float]) -> float:
        if isinstance(value, list):
            return value[min(self._invocation, len(value) - 1)]
        return value

    def _strike(self, phase: str) -> None:
        script = self._script
        wanted = script.in_invocation
        if script.disaster and script.at == phase and wanted in {None, self._invocation}:
            _suffer(script.disaster)

    def close(self) -> None:
        """Give the memory back."""
        self._memory = b""


def _numbers(path: str) -> list[float]:
    return [float(word) for word in Path(path).read_text(encoding="utf-8").split()]


def _touch(mebibytes: int) -> bytes:
    """Private memory of this size with every page written."""
    return b"\1" * (mebibytes << 20)


def _suffer(disaster: Disaster) -> None:
    match disaster:
        case "sigkill" | "sigsegv" | "sigill":
            os.kill(os.getpid(), getattr(signal, disaster.upper()))
            time.sleep(60)
        case "exit":
            print("the scripted engine leaves with code 3", file=sys.stderr, flush=True)
            os._exit(3)
        case "hang":
            time.sleep(3600)
        case "raise":
            raise RuntimeError("the scripted engine gives up")
        case "stdout":
            sys.stdout.write("garbage on stdout\n" * (4_000_000 // 18))
            sys.stdout.flush()
        case "stderr":
            sys.stderr.write("noise on stderr\n" * (4_000_000 // 16))
            sys.stderr.flush()
        case "channel":
            _spoil_channel()
        case "grandchild":
            code = (
                "import signal,time;signal.signal(signal.SIGTERM,signal.SIG_IGN);time.sleep(3600)"
            )
            subprocess.Popen([sys.executable, "-c", code])


def _spoil_channel() -> None:
    """Write garbage to every pipe this process holds; one of them is the protocol's."""
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):  # noqa: PTH208 - a Path per descriptor buys nothing
        descriptor = int(name)
        if descriptor > 2:
            try:
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                    os.set_blocking(descriptor, False)
                    os.write(descriptor, b"\xff" * 64)
            except OSError:
                continue
    time.sleep(60)
