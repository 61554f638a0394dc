"""Which NVIDIA GPUs can be used here?

A broken driver hangs, crashes or prints instead of answering, so the driver library is asked in a
child process with a deadline (:mod:`pytest_llmperf.hardware.nvml`). Every way in which that fails
is a finding with its remedy, never an exception.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from pytest_llmperf.ending import exit_name, last_line, last_words
from pytest_llmperf.hardware import files, names
from pytest_llmperf.hardware.facts import Accelerator

if TYPE_CHECKING:
    from pytest_llmperf.child import Child

DEADLINE_S = 10.0
"""A healthy driver answers in 0.1 to 3 s; the longest is a cold one without persistence mode."""

_PROGRAM = "pytest_llmperf.hardware.nvml"
_KILL_S = 2.0
_LIBRARY_FOLDERS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/aarch64-linux-gnu/nvidia",  # Jetson
    "usr/lib64",
    "usr/lib",
    "usr/lib/wsl/lib",
    "usr/local/nvidia/lib64",  # Kubernetes device plugins
    "run/opengl-driver/lib",  # NixOS
)
_REMEDIES = {
    4: "no permission to talk to the NVIDIA driver: check the rights of /dev/nvidia*, or the "
    "devices given to the container",
    9: "the NVIDIA driver is not loaded: run 'sudo modprobe nvidia' and read 'dmesg', or install "
    "the driver; in a container, start it with --gpus all",
    12: "the NVIDIA driver is there, but its library libnvidia-ml.so.1 is not: install it, or "
    "start the container with --gpus all (NVIDIA_DRIVER_CAPABILITIES must hold 'utility')",
    15: "an NVIDIA GPU has fallen off the bus: read 'dmesg' for Xid errors and reboot",
    18: "NVIDIA driver and library differ in version: reboot (the driver was updated while the "
    "old one runs), or reinstall so that both match",
}
"""What the error codes of nvml.h mean to the person who meets them."""

_NO_DEVICE = (
    "the NVIDIA driver is loaded but gives this process no GPU: check 'nvidia-smi -L', or start "
    "the container with --gpus all"
)

_stuck: list[Child] = []
"""Children that not even SIGKILL ended; kept, because they still hold their process id."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU or MIG instance, as the child process reports it."""

    name: str
    integrated: bool
    memory_bytes: int | None
    uuid: str | None
    compute_capability: str | None
    mig: str | None
    pci: str | None
    mig_name: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the child process prints, as one line of JSON."""

    driver: str | None = None
    devices: tuple[Device, ...] = ()
    troubles: tuple[str, ...] = ()
    error_code: int | None = None
    """nvml.h's code if the library as a whole refused; 0 if it could not even be asked."""
    error_text: str | None = None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: the GPUs, and the troubles."""

    accelerators: tuple[Accelerator, ...] = ()
    findings: tuple[str, ...] = ()


def look(
    root: Path = Path("/"),
    *,
    deadline_s: float = DEADLINE_S,
    environment: Mapping[str, str] | None = None,
) -> Look:
    """Find the NVIDIA GPUs; starts a process only if there is a trace of a driver.

    ``environment`` is that of the child process, by default ours.
    """
    variables = dict(os.environ if environment is None else environment)
    if not _has_driver(root, variables):
        return Look(findings=_without_driver(root))
    if sys.platform == "win32":
        return Look(findings=("NVIDIA GPUs are not detected on Windows: use WSL",))
    answer = _ask(variables, deadline_s)
    if isinstance(answer, str):
        return Look(findings=(answer,))
    if answer.error_code is not None:
        return Look(findings=(_finding(answer, root),))
    accelerators = tuple(_accelerator(device, answer.driver) for device in answer.devices)
    findings = answer.troubles
    if not accelerators and not findings:
        findings = (_NO_DEVICE,)
    return Look(accelerators=accelerators, findings=findings)


def _has_driver(root: Path, variables: Mapping[str, str]) -> bool:
    if (root / "dev/nvidiactl").exists() or (root / "proc/driver/nvidia").exists():
        return True
    folders = [root / folder for folder in _LIBRARY_FOLDERS]
    folders += [Path(each) for each in variables.get("LD_LIBRARY_PATH", "").split(":") if each]
    folders.append(root / "Windows/System32")
    return any(
        (folder / library).exists()
        for folder in folders
        for library in ("libnvidia-ml.so.1", "nvml.dll")
    )


def _without_driver(root: Path) -> tuple[str, ...]:
    """Name an NVIDIA display controller (PCI class 03) that sits on the bus without a driver."""
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        of_nvidia = files.integer(device / "vendor") == 0x10DE
        if of_nvidia and (files.text(device / "class") or "").startswith("0x03"):
            finding = (
                f"an NVIDIA GPU is on the bus ({device.name}) but no NVIDIA driver is visible "
                "here: install it, or start the container with --gpus all"
            )
            return (finding,)
    return ()


def _finding(answer: Answer, root: Path) -> str:
    remedy = _REMEDIES.get(answer.error_code or 0)
    if remedy is None:
        return (
            f"the NVIDIA driver library refused: {answer.error_text} (error {answer.error_code}); "
            "run 'nvidia-smi', which should name the same trouble"
        )
    module = files.text(root / "sys/module/nvidia/version")
    running = f" [running driver: {module}]" if module else ""
    return f"{remedy}{running}"


def _accelerator(device: Device, driver: str | None) -> Accelerator:
    return Accelerator(
        kind="cuda",
        vendor="nvidia",
        name=names.normalized(device.name),
        integrated=device.integrated,
        memory_bytes=device.memory_bytes,
        uuid=device.uuid,
        compute_capability=device.compute_capability,
        mig=device.mig,
        mig_name=device.mig_name,
        driver=driver,
        pci=device.pci,
    )


def _ask(variables: Mapping[str, str], deadline_s: float) -> Answer | str:
    """The child's answer, or the finding that there is none."""
    # Not at the top: child processes as we start them exist on POSIX systems only.
    from pytest_llmperf import child

    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            asked = child.start(
                # -P: nothing in the user's working directory stands in for a module of ours.
                [sys.executable, "-P", "-m", _PROGRAM],
                environment=child.importable(variables),
                stdout=stdout,
                stderr=stderr,
            )
        except OSError as error:
            return f"NVIDIA GPUs are unknown: no process could be started to ask ({error})"
        try:
            in_time = asked.wait_for_exit(deadline_s)
        finally:
            code = end(asked)
        if not in_time:
            return (
                f"NVML did not answer within {deadline_s:g} s: the NVIDIA driver hangs; run "
                "'nvidia-smi', read 'dmesg' for Xid errors and reboot"
            )
        return _answer(code, stdout, stderr)


def end(asked: Child) -> int | None:
    """End the child; None if it cannot be ended, which is how a hung driver holds a process.

    A process inside a driver call that never returns does not react to SIGKILL; waiting for it
    would hang us as well.
    """
    if not asked.has_exited():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(asked.pid, signal.SIGKILL)
        if not asked.wait_for_exit(_KILL_S):
            _stuck.append(asked)
            return None
    return asked.end()


def _answer(code: int | None, stdout: IO[bytes], stderr: IO[bytes]) -> Answer | str:
    said = last_words(stderr)
    if code is not None and code < 0:
        return (
            f"NVML was {exit_name(code)}{said}: reinstall the NVIDIA driver, "
            "then check 'nvidia-smi'"
        )
    if code != 0:
        return f"asking NVML failed with exit code {code}{said}: check 'nvidia-smi'"
    try:
        return msgspec.json.decode(last_line(stdout), type=Answer)
    except msgspec.MsgspecError as error:
        return f"NVML gave an unreadable answer ({error}){said}: check 'nvidia-smi'"
