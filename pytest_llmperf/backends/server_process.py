"""How is an inference server started beside the worker, awaited, and ended?

It stays in the worker's process group, so that whoever ends the worker ends the server and all of
its helpers too, and what the worker's tree takes of memory is what the server takes. It writes to
the worker's log, which errors quote: it gets to see no key.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence

from pytest_llmperf import child
from pytest_llmperf.backends.protocol import EngineEnded, EngineMissing
from pytest_llmperf.ending import exit_name
from pytest_llmperf.shared_names import forget_shared_names

HOST = "127.0.0.1"
_GRACE_S = 1.5
"""How long a server may take to leave; the worker itself has 2 s, then its group is killed."""
_POLL_S = 0.05
SHORT_WHILE_S = 1.0
"""Between a server's last word and its end."""


class ServerProcess:
    """One server that this worker started."""

    def __init__(
        self, name: str, command: Sequence[str], remedy: str, hidden: str | None = None
    ) -> None:
        """Start it. ``remedy``: what to do where there is no such program. Raises EngineMissing.

        ``hidden``: an environment variable that it does not get.
        """
        self.name = name
        shown = {each: value for each, value in os.environ.items() if each != hidden}
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, env=shown, pass_fds=child.leases()
            )
        except OSError as error:
            raise EngineMissing(f"cannot start {command[0]}: {error.strerror}; {remedy}") from None

    def wait_until_ready(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Ask again and again. Raises EngineEnded when it dies, or is not ready in time."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.check()
            if time.monotonic() >= deadline:
                self.end()
                raise EngineEnded(
                    f"the server {self.name} was not ready after {timeout_s:g} s, and was ended; "
                    "start_timeout_s=… gives it longer"
                )
            time.sleep(_POLL_S)
        self.check()  # another one may have taken the port, and answered in its place

    def check(self, patience_s: float = 0.0) -> None:
        """Raises EngineEnded, saying how, when it is no more, or is not after ``patience_s``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        exit_code = self._process.returncode
        if exit_code is not None:
            raise EngineEnded(f"the server {self.name} ended by itself ({exit_name(exit_code)})")

    def end(self) -> None:
        """Ask it to leave, then make it; its helpers end with the worker's group."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        if self._process.returncode is None:
            forget_shared_names([self._process.pid])
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
