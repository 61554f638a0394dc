"""What do the NVIDIA GPUs do while we measure? Our side of the child process that asks.

A driver can hang, crash or babble at any moment, also in the middle of a measurement. Then the
watch is dead from that moment on and says why; it raises nothing and keeps nobody waiting longer
than its deadline.
"""

from __future__ import annotations

import os
import select
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

import msgspec

from pytest_llmperf.ending import exit_clause, last_words
from pytest_llmperf.hardware import nvidia

if TYPE_CHECKING:
    from pytest_llmperf.child import Child

DEADLINE_S = 2.0
"""For one reading; a healthy driver needs some milliseconds."""
START_DEADLINE_S = nvidia.DEADLINE_S
"""For the first reading, which waits for the driver to come up."""

_PROGRAM = "pytest_llmperf.hardware.nvml_watch"
_MAX_LINE_BYTES = 4 << 20
_UNKNOWN = "GPU conditions and memory are unknown"


class Violations(msgspec.Struct, frozen=True, kw_only=True):
    """Time that the GPU spent below its clocks since the driver came up, by cause, in ns.

    None: not supported by this GPU.
    """

    thermal_ns: int | None = None
    power_ns: int | None = None
    board_ns: int | None = None
    """A limit of the board, such as its voltage regulators."""
    reliability_ns: int | None = None


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process that computes on a GPU. Its id is the driver's: in a container not ours."""

    pid: int
    used_bytes: int | None = None
    """What it holds of the GPU's memory; None: the driver does not tell."""
    name: str | None = None


class GpuReading(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU or MIG instance at one instant. None: not told."""

    uuid: str | None
    """``GPU-…`` or ``MIG-…``."""
    pci: str | None
    """``00000000:01:00.0``."""
    name: str
    integrated: bool
    """One pool with RAM: there is no memory figure then."""
    used_bytes: int | None = None
    total_bytes: int | None = None
    violations: Violations = Violations()
    processes: tuple[GpuProcess, ...] | None = None
    trouble: str | None = None
    """Why this GPU told nothing, if it did not."""


class GpuSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All GPUs at one instant, in the driver's order, which is not CUDA's."""

    at_ns: int = 0
    """On the monotonic clock."""
    gpus: tuple[GpuReading, ...] = ()
    troubles: tuple[str, ...] = ()
    """GPUs that could not be opened at all."""
    refusal: str | None = None
    """Why the library as a whole tells nothing."""


class GpuWatch:
    """A process that reads the GPUs whenever asked. Used from one thread."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.trouble: str | None = None
        """Why nothing is read any more; None while all is well."""
        self._deadline_s = deadline_s
        self._next_deadline_s = START_DEADLINE_S
        self._readings = 0
        self._child: Child | None = None
        self._requests = self._answers = -1
        self._words: IO[bytes] | None = None

    @classmethod
    def start(
        cls,
        *,
        environment: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
        start_deadline_s: float = START_DEADLINE_S,
    ) -> GpuWatch:
        """Start the process and return at once; it meets the driver on its own time.

        Raises nothing: a watch that could not be started says so in ``trouble``. ``environment``
        is that of the process, by default ours.
        """
        watch = cls(deadline_s)
        watch._next_deadline_s = start_deadline_s
        if sys.platform == "win32":
            watch.trouble = f"NVML is not asked on Windows: {_UNKNOWN}; use WSL"
            return watch
        try:
            watch._launch(os.environ if environment is None else environment)
        except OSError as error:
            watch._give_up(f"no process could be started to ask NVML ({error})")
        return watch

    def _launch(self, environment: Mapping[str, str]) -> None:
        # Not at the top: child processes as we start them exist on POSIX systems only.
        from pytest_llmperf import child

        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the watch
        their_requests, self._requests = os.pipe()
        try:
            self._answers, their_answers = os.pipe()
        except OSError:
            os.close(their_requests)
            raise
        try:
            self._child = child.start(
                # -P: nothing in the user's working directory stands in for a module of ours.
                [sys.executable, "-P", "-m", _PROGRAM, str(their_requests), str(their_answers)],
                environment=child.importable(environment),
                descriptors=(their_requests, their_answers),
                stdout=self._words,
                stderr=self._words,
            )
        finally:
            os.close(their_requests)
            os.close(their_answers)

    def read(self) -> GpuSnapshot | None:
        """All GPUs now; None if the watch is dead, of which ``trouble`` tells the cause."""
        if self._child is None:
            return None
        deadline_s, self._next_deadline_s = self._next_deadline_s, self._deadline_s
        try:
            os.write(self._requests, b"?")
            line = self._line(deadline_s)
            snapshot = msgspec.json.decode(line, type=GpuSnapshot)
        except TimeoutError:
            self._give_up(
                f"NVML stopped answering (nothing for {deadline_s:g} s, {self._after()})",
                "; run 'nvidia-smi' and read 'dmesg' for Xid errors",
            )
        except OSError:
            self._give_up(self._death())
        except msgspec.MsgspecError as error:
            self._give_up(f"NVML's answer was unreadable {self._after()} ({error})")
        except BaseException:
            # Interrupted: the answer, come late, would be taken for that to the next request.
            self._give_up("the question to NVML was interrupted")
            raise
        else:
            if snapshot.refusal is None:
                self._readings += 1
                return snapshot
            self._give_up(snapshot.refusal, "; check 'nvidia-smi'")
        return None

    def _line(self, deadline_s: float) -> bytes:
        """The next line. Raises TimeoutError, ConnectionError, msgspec.DecodeError."""
        from pytest_llmperf import child

        deadline = time.monotonic() + deadline_s
        got = b""
        while not got.endswith(b"\n"):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not child.is_ready(self._answers, select.POLLIN, left_s):
                raise TimeoutError
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise ConnectionError
            got += piece
            if len(got) > _MAX_LINE_BYTES:
                raise msgspec.DecodeError(f"more than {_MAX_LINE_BYTES} bytes without an end")
        return got

    def _after(self) -> str:
        return f"after {self._readings} reading{'' if self._readings == 1 else 's'}"

    def _death(self) -> str:
        """What is known of a process that closed its pipe."""
        assert self._child is not None
        self._child.wait_for_exit(self._deadline_s)
        code = nvidia.end(self._child)
        self._child = None
        how = "hangs inside the driver" if code is None else exit_clause(code)
        assert self._words is not None
        said = last_words(self._words)
        return f"the process that asks NVML {how} {self._after()}{said}"

    def _give_up(self, why: str, remedy: str = "") -> None:
        self.trouble = f"{why}: {_UNKNOWN}{remedy}"
        self.close()

    def close(self) -> None:
        """End the process, if it can be ended; a hanging driver does not hold us."""
        if self._child is not None:
            nvidia.end(self._child)
            self._child = None
        for descriptor in (self._requests, self._answers):
            if descriptor >= 0:
                os.close(descriptor)
        self._requests = self._answers = -1
        if self._words is not None:
            self._words.close()
            self._words = None
