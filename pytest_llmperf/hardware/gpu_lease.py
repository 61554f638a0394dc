"""Which GPUs are a process's own, from the load of a model to the end of its engine?

A lock file for each physical device, or MIG instance, by its UUID. The worker inherits the lock, so
that it stays taken until the engine is gone, even if whoever took it was killed. Nobody waits for
a device below one that he holds, in the order of the lock files: so two never wait for each other.
Who holds none waits in a line for each GPU, so that one run leaves another its turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pytest_llmperf.hardware import names
from pytest_llmperf.hardware.facts import Accelerator
from pytest_llmperf.hardware.lease import (
    LeaseError,
    OnWait,
    default_directory,
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
        locks = {path: Lock(path) for path in paths}
        with _first_in_line(paths) as is_first:
            wait_for(lambda: any(is_first(path) and locks[path].take() for path in paths), on_wait)
        (taken,) = (path for path, lock in locks.items() if lock.descriptor >= 0)
        self._held[taken] = locks[taken]
        self._last = taken
        return taken

    def _take_all(self, paths: Sequence[Path], on_wait: OnWait | None) -> list[Path]:
        missing = sorted({*paths} - {*self._held})
        fresh = {path: Lock(path) for path in missing}
        # Who holds a GPU does not stand in line: the first in line may be waiting for that one.
        with _first_in_line([] if self._held else missing) as is_first:
            try:
                for path in [] if self._held else missing:
                    wait_for(partial(is_first, path), on_wait)
                for path, lock in fresh.items():
                    self._take_next(path, lock, on_wait)
            except BaseException:
                for lock in fresh.values():
                    lock.leave()
                raise
        self._held |= fresh
        return list(paths)

    def _take_next(self, path: Path, lock: Lock, on_wait: OnWait | None) -> None:
        """Wait for it unless that could go round in a circle. Raises OSError, LeaseError."""
        if not any(path < held for held in self._held):
            wait_for(lock.take, on_wait)
        elif not lock.take():
            raise LeaseError(
                f"{path.stem} is in use by another process, and waiting for it while this test "
                "holds a GPU might never end: load the model that takes several GPUs first, or in "
                "a test of its own"
            )

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


@contextmanager
def _first_in_line(paths: Sequence[Path]) -> Iterator[Callable[[Path], bool]]:
    """Become the one who gets a GPU next, and remain it until the end; whether that is so.

    Who comes back for another turn has to stand in line: he would otherwise always be there before
    those who wake now and then to see whether it is free.
    """
    lines = {path: Lock(path.with_name(f"next-{path.name}")) for path in paths}

    def is_first(path: Path) -> bool:
        return lines[path].descriptor >= 0 or lines[path].take()

    try:
        yield is_first
    finally:
        for line in lines.values():
            line.leave()
