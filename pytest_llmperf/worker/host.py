"""Our side of the boundary: start a worker, ask it, explain its death, end its whole group."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pytest_llmperf import child
from pytest_llmperf.hardware.gpu_lease import Seat
from pytest_llmperf.hardware.visible import VARIABLE
from pytest_llmperf.identity import identify
from pytest_llmperf.worker import errors
from pytest_llmperf.worker.board import Board
from pytest_llmperf.worker.environment import worker_environment
from pytest_llmperf.worker.messages import (
    PROTOCOL,
    BrokenFrame,
    ChannelClosed,
    ChannelTimeout,
    Close,
    Failed,
    FrameReader,
    FromWorker,
    Hello,
    Message,
    decode_from_worker,
    write_frame,
)

START_TIMEOUT_S = 60.0
GRACE_S = 2.0
"""How long a worker may take to leave when asked, and again after SIGTERM."""
_WAKE_S = 1.0

Tick = Callable[[str], None]
"""Called about every second while an answer is awaited, with the worker's phase."""


class Worker:
    """One worker process and the channel to it."""

    def __init__(
        self,
        backend: str,
        folder: Path,
        name: str,
        python: str | None = None,
        seat: Seat | None = None,
    ) -> None:
        """Start the process. ``folder`` takes its log, its board and the record of its pid.

        ``python``: another interpreter than ours; its environment needs this package, too.
        ``seat``: the GPUs that it is to see. Raises WorkerError when it does not come up.
        """
        self.backend = backend
        self._seat = seat
        self._python = python or sys.executable
        self._timeout_s = START_TIMEOUT_S
        self._purpose = ""
        self.log = folder / f"{name}.log"
        self._board = Board(folder / f"{name}.board", create=True)
        self._child = self._start(folder / f"{name}.board")
        try:
            record = identify(self.pid)
            (folder / f"{name}.json").write_bytes(msgspec.json.encode(record))
            hello = self._receive(time.monotonic() + START_TIMEOUT_S, None)
            if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
                raise self._ended(f"spoke another protocol than version {PROTOCOL}")
        except BaseException:
            self.kill()
            raise

    def _start(self, board: Path) -> child.Child:
        to_worker_read, self._outgoing = os.pipe()
        self._incoming, from_worker_write = os.pipe()
        self._reader = FrameReader(self._incoming)
        arguments = [str(to_worker_read), str(from_worker_write), str(board)]
        locks = () if self._seat is None else self._seat.descriptors
        try:
            with self.log.open("ab") as log:
                return child.start(
                    [self._python, "-m", "pytest_llmperf.worker", *arguments],
                    environment=self._environment(),
                    descriptors=(to_worker_read, from_worker_write, *locks),
                    stdout=log,
                    stderr=log,
                )
        finally:
            os.close(to_worker_read)
            os.close(from_worker_write)

    def _environment(self) -> dict[str, str]:
        variables = worker_environment(os.environ)
        if self._seat is not None:
            variables[child.LEASES_VARIABLE] = ",".join(map(str, self._seat.descriptors))
            if self._seat.listed is not None:
                variables[VARIABLE] = self._seat.listed
        # Another environment must not find our packages in place of its own.
        return variables if self._python == sys.executable else child.importable(variables)

    @property
    def pid(self) -> int:
        """Process id of the worker, and of its group."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the worker can still be asked."""
        return not self.ended and not self._child.has_exited()

    @property
    def ended(self) -> bool:
        """Whether we have ended it, or have reported that it died."""
        return self._outgoing < 0

    def ask(
        self, message: Message, timeout_s: float, tick: Tick | None = None, *, purpose: str = ""
    ) -> FromWorker:
        """Send ``message`` and return the answer; ``purpose`` is said beside the phase of a death.

        Raises WorkerDied, WorkerHung, WorkerGarbled (the worker is ended then), or
        EngineNotInstalled, EngineRefusal, EngineRaised (it lives on). An exception from outside,
        such as a Ctrl-C or a time limit of another plugin, ends the worker too: its answer, come
        late, would be taken for that to the next question.
        """
        deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._purpose = f" of {purpose}" if purpose else ""
        try:
            write_frame(self._outgoing, message, deadline)
        except ChannelTimeout:
            raise self._hung() from None
        except OSError:
            raise self._ended() from None
        except BaseException:
            self.kill()
            raise
        answer = self._receive(deadline, tick)
        if isinstance(answer, Failed):
            raise self._failure(answer)
        return answer

    def _receive(self, deadline: float, tick: Tick | None) -> FromWorker:
        try:
            while True:
                body = self._reader.read(deadline, wake_s=_WAKE_S)
                if body is not None:
                    return decode_from_worker(body)
                if self._child.has_exited():  # a grandchild may hold the channel open
                    raise self._ended()
                if tick is not None:
                    tick(self._board.describe())
        except ChannelClosed:
            raise self._ended() from None
        except ChannelTimeout:
            raise self._hung() from None
        except BrokenFrame as error:
            raise self._garbled(str(error)) from None
        except BaseException:
            self.kill()
            raise

    def _ended(self, happened: str = "") -> errors.WorkerDied:
        phase = self._board.describe() + self._purpose
        if not self._child.wait_for_exit(GRACE_S) and not happened:
            happened = "closed its channel without leaving, and was ended,"
        return errors.WorkerDied(self._bury(phase).text(happened))

    def _hung(self) -> errors.WorkerHung:
        phase = self._board.describe() + self._purpose
        happened = f"gave no answer for {self._timeout_s:g} s, and was ended,"
        return errors.WorkerHung(self._bury(phase).text(happened))

    def _garbled(self, what: str) -> errors.WorkerGarbled:
        phase = self._board.describe() + self._purpose
        happened = f"wrote garbage to its channel ({what}), and was ended,"
        return errors.WorkerGarbled(self._bury(phase).text(happened))

    def _bury(self, phase: str) -> errors.Obituary:
        return errors.Obituary(self.backend, self.kill(), phase, self.log)

    def _failure(self, answer: Failed) -> errors.WorkerError:
        if answer.kind == "missing":
            return errors.EngineNotInstalled(answer.message)
        if answer.kind == "refused":
            return errors.EngineRefusal("\n".join([answer.message, *errors.log_lines(self.log)]))
        if answer.kind == "ended":
            told = f"{self.backend}: {answer.message}"
            return errors.EngineRaised("\n".join([told, *errors.log_lines(self.log)]))
        tail = "\n".join(f"  {line}" for line in answer.traceback.strip().splitlines()[-8:])
        happened = f"raised {answer.message}"
        if errors.names_want_of_memory(answer.message):
            happened = f"ran out of memory: {answer.message}"
        return errors.EngineRaised(f"{self.backend} {happened}\nlog: {self.log}\n{tail}")

    def still(self) -> contextlib.AbstractContextManager[None]:
        """Keep an idle engine, whose threads may spin, off the cores meanwhile."""
        return self._child.still()

    def close(self) -> int:
        """Ask the worker to leave, then end its group whatever it does; its exit code."""
        if self.alive:
            try:
                write_frame(self._outgoing, Close(), time.monotonic() + GRACE_S)
            except (OSError, ChannelTimeout):
                return self.kill()
            return self._end(GRACE_S)
        return self.kill()

    def kill(self) -> int:
        """End the group at once; the worker's exit code."""
        return self._end(0.0)

    def _end(self, grace_s: float) -> int:
        try:
            return self._child.end(grace_s=grace_s)
        finally:
            if self._outgoing >= 0:
                os.close(self._outgoing)
                os.close(self._incoming)
                self._outgoing = -1
