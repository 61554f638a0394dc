"""How is a child process started so that it never outlives us, and how is it ended for good?

Every process this package starts (engine workers, the model builder, the first look at a GPU
driver) leads a process group of its own and holds the read end of a *death pipe* whose only
write end is ours. When we die by any means, SIGKILL included, the kernel closes that end and,
on Linux, sends SIGKILL to the whole group by itself: no thread of the child has to be scheduled
and no interpreter lock has to be free.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_llmperf.shared_names import forget_shared_names, group_of

DEATH_PIPE_VARIABLE = "PYTEST_LLMPERF_DEATH_PIPE"
"""Environment variable that tells a child the number of its death pipe's read end."""

LEASES_VARIABLE = "PYTEST_LLMPERF_LEASES"
"""Environment variable that tells a worker the numbers of the GPU locks that it inherited."""

_POLL_S = 0.005
_DEATH_S = 10.0
"""How long SIGKILL may take; a process inside a driver call that hangs ignores even that."""


class Undead(Exception):
    """A process that SIGKILL did not end, because it hangs inside the kernel."""


@dataclass
class Child:
    """A process group that we created: its leader, and our end of its death pipe."""

    leader: subprocess.Popen[bytes]
    death_pipe: int

    @property
    def pid(self) -> int:
        """Process id of the leader, which is also the id of its group."""
        return self.leader.pid

    def wait_for_exit(self, timeout_s: float) -> bool:
        """Wait until the leader has exited, without reaping it; False when time ran out."""
        deadline = time.monotonic() + timeout_s
        while not self.has_exited():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def has_exited(self) -> bool:
        """Whether the leader is dead; leaves it unreaped, so that its pid stays ours."""
        if self.leader.returncode is not None:
            return True
        if hasattr(os, "waitid"):
            try:
                seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # somebody ignores SIGCHLD, so the kernel reaped it
                return True
            return seen is not None
        return self.leader.poll() is not None  # macOS before Python 3.13 can only reap

    def end(self, *, grace_s: float = 0.0) -> int:
        """End the whole group and return the leader's exit code (−N: killed by signal N).

        The leader gets ``grace_s`` to leave by itself, then SIGTERM and as long again. Then
        SIGKILL goes to the group *always*, because helpers of engines ignore SIGTERM; it is
        sent before the leader is reaped, while its pid, the group's id, cannot be reused.
        What the group shares loses its names in ``/dev/shm`` first: nobody else would remove them.
        Raises Undead, naming the process.
        """
        if self.leader.returncode is None:
            if grace_s > 0 and not self.wait_for_exit(grace_s):
                self._signal_group(signal.SIGTERM)
                self.wait_for_exit(grace_s)
            with contextlib.suppress(OSError):  # nothing may stand before the signal
                forget_shared_names(group_of(self.pid))
            self._signal_group(signal.SIGKILL)
            try:
                self.leader.wait(_DEATH_S)
            except subprocess.TimeoutExpired:
                raise Undead(
                    f"process {self.pid} survived SIGKILL for {_DEATH_S:g} s: it hangs inside the "
                    "kernel, most likely in a driver; reboot, or restart the driver"
                ) from None
        if self.death_pipe >= 0:
            _death_pipes.discard(self.death_pipe)
            os.close(self.death_pipe)
            self.death_pipe = -1
        return self.leader.returncode

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Stop the whole group meanwhile, so that it uses no core.

        On Linux, where the kernel ends even a stopped group when we die; elsewhere it runs on.
        """
        if sys.platform != "linux":
            yield
            return
        try:
            self._signal_group(signal.SIGSTOP)
            yield
        finally:
            self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def start(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    cwd: Path | None = None,
) -> Child:
    """Start ``argv`` as the leader of a group of its own that dies with this process.

    ``descriptors`` are inherited under their own numbers. The program must call
    :func:`die_with_parent` first thing. Raises OSError when it cannot be started.
    """
    read_end, write_end = os.pipe()
    variables = dict(os.environ if environment is None else environment)
    variables[DEATH_PIPE_VARIABLE] = str(read_end)
    try:
        leader = subprocess.Popen(
            list(argv),
            env=variables,
            pass_fds=(*descriptors, read_end),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            start_new_session=True,
        )
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    _death_pipes.add(write_end)
    return Child(leader, write_end)


def importable(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a child finds this package where we found it.

    From a checkout our parent folder is on the path by the grace of the working directory only.
    """
    home = Path(__file__).resolve().parents[1]
    extended = dict(variables)
    if home.name not in ("site-packages", "dist-packages"):
        extended["PYTHONPATH"] = os.pathsep.join(
            filter(None, (variables.get("PYTHONPATH"), str(home)))
        )
    return extended


def leases() -> tuple[int, ...]:
    """In a worker: the GPU locks that it inherited, for what it starts to inherit, too."""
    return tuple(int(each) for each in os.environ.get(LEASES_VARIABLE, "").split(",") if each)


def is_ready(descriptor: int, events: int, timeout_s: float) -> bool:
    """Wait for poll(2) ``events``, an end of file or an error on ``descriptor``.

    Not select(2), which knows no descriptors above 1023.
    """
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(timeout_s * 1e3))


def _close_death_pipes() -> None:
    """In a fork of this process that runs no other program: it must not keep our children alive."""
    for pipe in _death_pipes:
        os.close(pipe)
    _death_pipes.clear()


_death_pipes: set[int] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_death_pipes)


def die_with_parent() -> None:
    """In the child: have the whole group killed as soon as the parent is gone.

    Does nothing in a program that was not started by :func:`start`.
    """
    text = os.environ.pop(DEATH_PIPE_VARIABLE, "")
    if not text:
        return
    pipe = int(text)
    os.set_inheritable(pipe, False)
    if sys.platform == "linux":
        import fcntl

        # The kernel signals the owner, here a group, when the pipe's last writer closes it.
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        closed_before_we_listened = is_ready(pipe, select.POLLIN, 0.0)
        if closed_before_we_listened:
            os.killpg(os.getpgrp(), signal.SIGKILL)
    else:
        threading.Thread(target=_kill_group_at_end_of_file, args=(pipe,), daemon=True).start()


def _kill_group_at_end_of_file(pipe: int) -> None:
    os.read(pipe, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)
