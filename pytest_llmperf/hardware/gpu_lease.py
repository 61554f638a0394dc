"""Which GPUs are a process's own, from the load of a model to the end of its engine?

A lock file for each physical device, or MIG instance, by its UUID. The worker inherits the lock, so
that it stays taken until the engine is gone, even if whoever took it was killed. Nobody waits for
a device below one that he holds, in the order of the lock files: so two never wait for each other.
Each GPU has a line, so that one run leaves another its turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llmperf.hardware import names
from pytest_llmperf.hardware.facts import Accelerator
from pytest_llmperf.hardware.lease import (
    POLL_S,
    LeaseError,
    OnWait,
    default_directory,
    line_path,
    lock_path,
    unusable,
    wait_for,
)
from pytest_llmperf.hardware.lock import Lock
from pytest_llmperf.hardware.visible import Visible, visible


@dataclass(frozen=True)
class Seat:
    """The GPUs that one worker computes on."""

    gpus: tuple[Accelerator, ...]
    listed: str | None
    """Its CUDA_VISIBLE_DEVICES; None: as we have it."""
    descriptors: tuple[int, ...] = ()
    """Of the locks, for the worker to inherit."""

    @property
    def leaves_the_cpu(self) -> bool:
        """Whether others may be timed meanwhile: no GPU here shares the memory of the CPU."""
        return not any(each.integrated for each in self.gpus)

    @property
    def uuids(self) -> frozenset[str] | None:
        """Of its GPUs; None where one does not tell."""
        known = frozenset(each.uuid for each in self.gpus if each.uuid)
        return known if len(known) == len(self.gpus) else None


@dataclass
class GpuLeases:
    """The GPUs that this process holds."""

    seen: Visible
    directory: Path = field(default_factory=default_directory)
    _held: dict[Path, Lock] = field(default_factory=dict)
    _last: Path | None = None
    """What was held alone before: a fresh worker is best measured on the same card."""

    @classmethod
    def of(cls, gpus: Sequence[Accelerator], environment: Mapping[str, str]) -> GpuLeases:
        """For the accelerators that run models here."""
        return cls(visible(gpus, environment))

    @property
    def leaves_the_cpu(self) -> bool:
        """Whether there are GPUs, and none of them shares the memory of the CPU."""
        return bool(self.seen.gpus) and not any(each.integrated for each in self.seen.gpus)

    def take(
        self, count: int | None, on_wait: OnWait | None = None, *, alone: bool = False
    ) -> Seat | None:
        """Hold so many GPUs, waiting for whoever holds them; None: this engine sees no GPU.

        ``count``: 0, any one that is free, the first 2 …; None: all that are seen. What this
        process holds already is shared by all of its workers; ``alone``: there are none, so that it
        can be given up for others. Raises LeaseError.
        """
        if count == 0 or not (self.seen.gpus or self.seen.trouble):
            return None
        if self.seen.trouble is not None:
            raise LeaseError(self.seen.trouble)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if alone and not self._covers(count):
                self.leave()
            paths = self._choose(count, on_wait)
        except OSError as error:
            raise LeaseError(unusable(self.directory, error)) from error
        return self._seat(paths)

    def _choose(self, count: int | None, on_wait: OnWait | None) -> list[Path]:
        """Take the locks, all or none. Raises OSError, LeaseError."""
        every = [self._path(gpu) for gpu in self.seen.gpus]
        if count is None or not self._can_narrow:
            return self._take_all(every, on_wait)
        if count > 1:
            return self._take_all(every[:count], on_wait)
        for path in every:
            if path in self._held:
                return [path]
        return [self._take_any(self._alike(every), on_wait)]

    def _covers(self, count: int | None) -> bool:
        """Whether what is held is enough, so that nothing has to be waited for."""
        every = [self._path(gpu) for gpu in self.seen.gpus]
        if count == 1 and self._can_narrow:
            return bool(self._held)
        wanted = every if count is None or not self._can_narrow else every[:count]
        return {*wanted} <= {*self._held}

    @property
    def _can_narrow(self) -> bool:
        return self.seen.is_ordered and None not in self.seen.names

    def _alike(self, paths: Sequence[Path]) -> list[Path]:
        """The first and those like it: numbers of another kind of card are other numbers."""
        first = self.seen.gpus[0]
        alike = [
            path
            for path, gpu in zip(paths, self.seen.gpus, strict=True)
            if (gpu.name, gpu.memory_bytes, gpu.mig) == (first.name, first.memory_bytes, first.mig)
        ]
        return sorted(alike, key=lambda path: path != self._last)

    def _take_any(self, paths: Sequence[Path], on_wait: OnWait | None) -> Path:
        taken = _wait_in_line(paths, on_wait)
        self._held[taken.path] = taken
        self._last = taken.path
        return taken.path

    def _take_all(self, paths: Sequence[Path], on_wait: OnWait | None) -> list[Path]:
        fresh: dict[Path, Lock] = {}
        try:
            for path in sorted({*paths} - {*self._held}):
                if any(path < held for held in self._held):
                    fresh[path] = _take_now(path)
                else:
                    fresh[path] = _wait_in_line([path], on_wait)
        except BaseException:
            for lock in fresh.values():
                lock.leave()
            raise
        self._held |= fresh
        return list(paths)

    def _seat(self, paths: Sequence[Path]) -> Seat:
        places = [place for place, gpu in enumerate(self.seen.gpus) if self._path(gpu) in {*paths}]
        listed = None
        if len(places) < len(self.seen.gpus):
            listed = ",".join(str(self.seen.names[place]) for place in places)
        return Seat(
            gpus=tuple(self.seen.gpus[place] for place in places),
            listed=listed,
            descriptors=tuple(self._held[path].descriptor for path in paths),
        )

    def _path(self, gpu: Accelerator) -> Path:
        known = gpu.uuid or gpu.pci or f"{gpu.kind}-{self.seen.gpus.index(gpu)}"
        return lock_path(self.directory, f"gpu-{names.slug(known)}")

    def leave(self) -> None:
        """Hold them no longer; an engine that did not end still does."""
        for lock in self._held.values():
            lock.leave()
        self._held.clear()

    def free(self) -> None:
        """Give them to others although a worker that does not use them inherited them."""
        for lock in self._held.values():
            lock.free()
        self._held.clear()


def _take_now(path: Path) -> Lock:
    """Who waited for it could wait in a circle. Raises OSError, LeaseError."""
    lock = Lock(path)
    if lock.take():
        return lock
    raise LeaseError(
        f"{path.stem} is in use by another process, and waiting for it while this test holds a GPU "
        "might never end: load the model that takes several GPUs first, or in a test of its own"
    )


def _wait_in_line(paths: Sequence[Path], on_wait: OnWait | None) -> Lock:
    """The first of these that is free. Raises OSError.

    Only who holds a GPU's line may take it. Who comes back for another turn would otherwise always
    be there before those who wake now and then to see whether it is free.
    """
    locks = {path: Lock(path) for path in paths}
    lines = {path: Lock(line_path(path)) for path in paths}

    def is_taken() -> bool:
        return any(
            (lines[path].descriptor >= 0 or lines[path].take()) and lock.take()
            for path, lock in locks.items()
        )

    try:
        wait_for(is_taken, on_wait, first_poll_s=POLL_S)
    finally:
        for line in lines.values():
            line.leave()
    (taken,) = (lock for lock in locks.values() if lock.descriptor >= 0)
    return taken
