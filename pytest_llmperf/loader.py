"""How does a wish become a loaded model: as it is said, or in the best way that fits?"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from pytest_llmperf.backends import Backend, BackendOptions
from pytest_llmperf.fit.before_load import (
    DoesNotFit,
    Rejected,
    can_be_asked,
    expect,
    require_fit,
    require_room_at_most,
    room_now,
)
from pytest_llmperf.fit.ladder import Rung, ladder
from pytest_llmperf.fit.room import Room
from pytest_llmperf.hardware.facts import Hardware
from pytest_llmperf.measure import Instruments
from pytest_llmperf.models import ModelFiles, ModelSpec
from pytest_llmperf.models.errors import NoSpace
from pytest_llmperf.options import Settings
from pytest_llmperf.report.progress import Progress
from pytest_llmperf.wish import PerfError, Unmet, Wish, explained, showing, telling, turn_to_build
from pytest_llmperf.worker.errors import WorkerError, is_out_of_memory
from pytest_llmperf.worker.loading import Loading, choose, prepare
from pytest_llmperf.worker.pool import LoadedModel, WorkerPool


@dataclass
class Loader:
    """What loads need of a run."""

    settings: Settings
    hardware: Hardware
    pool: WorkerPool
    instruments: Instruments
    progress: Progress
    _chosen: dict[str, Loading] = field(default_factory=dict)
    """What was loaded for a wish that something fits."""

    def load(self, wish: Wish, timeout_s: float) -> LoadedModel:
        """A loaded model. Raises Unmet, PerfError."""
        if wish.fit:
            return self._load_what_fits(wish, timeout_s)
        loading = self.prepare("load_model", wish, timeout_s)
        what = f"{loading.backend.name} loads {loading.spec.source}"
        with telling(self.progress, what) as say, self.pool.turn_to_load(loading, say):
            return self.pool.load(loading, say)

    def prepare(self, caller: str, wish: Wish, timeout_s: float) -> Loading:
        """Find the backend and the model's files, and build them if they are synthetic.

        Raises Unmet, PerfError.
        """
        spec, backend, options = self._understand(caller, wish)
        with explained():
            if can_be_asked(self.settings.python.get(backend.name), self.hardware):
                require_room_at_most(spec, backend, options, self.hardware)
            return self._find(spec, backend, options, timeout_s)

    def _understand(self, caller: str, wish: Wish) -> tuple[ModelSpec, Backend, BackendOptions]:
        """Which model, engine and options are meant."""
        try:
            source = os.fspath(wish.source) if wish.source else self.settings.model
        except TypeError:
            raise PerfError(
                f"{caller}: source must be text or a path, not {wish.source!r}"
            ) from None
        backend_name = wish.backend or self.settings.backend
        if source is None or backend_name is None:
            missing = "source" if source is None else "backend"
            option = "--llmperf-model" if source is None else "--llmperf-backend"
            raise PerfError(f"{caller}: give {missing}=…, or run with {option}=…")
        with explained():
            python = self.settings.python.get(backend_name)
            backend, options = choose(backend_name, wish.options, python)
            return ModelSpec(source, wish.quantization, wish.seed), backend, options

    def _find(
        self, spec: ModelSpec, backend: Backend, options: BackendOptions, timeout_s: float
    ) -> Loading:
        what = f"{backend.name} loads {spec.source}"
        shared = self.pool.wants_gpus(options)
        with showing(self.progress, what) as say, turn_to_build(say, shared=shared):
            return prepare(
                spec,
                backend,
                options,
                timeout_s=timeout_s,
                python=self.settings.python.get(backend.name),
                progress=lambda stage, part: say(f"{stage} {part:.0%}"),
            )

    def _load_what_fits(self, wish: Wish, timeout_s: float) -> LoadedModel:
        """By arithmetic, and by trying where that is not sure. Raises Unmet if nothing fits.

        Asked for again, what was chosen then is taken, as long as its worker is there.
        """
        spec, backend, options = self._understand("load_model", wish)
        if backend.name in self.settings.python:
            raise PerfError(
                "load_model: fit=True chooses among what is installed here, and the workers of "
                f"{backend.name} run in another Python (--llmperf-python): give its options instead"
            )
        before = self._chosen.get(repr(wish))
        if before is not None and self.pool.has(before):
            return self.pool.load(before)
        self.pool.make_room()
        room = self._room(wish.fit)
        with explained():
            files = None
            if not spec.is_synthetic:
                files = self._find(spec, backend, options, timeout_s).files
            rungs = ladder(spec, files, backend, options, wish.options, room)
            rejected: list[Rejected] = []
            for rung in rungs:
                if rung.missing:
                    rejected.append(Rejected(what=rung.words, why=rung.missing))
                    continue
                try:
                    loading, model = self._try(rung, files, backend, room, timeout_s)
                except (DoesNotFit, NoSpace, WorkerError) as error:
                    if isinstance(error, WorkerError) and not is_out_of_memory(error):
                        raise
                    rejected.append(Rejected(what=rung.words, why=str(error).partition("\n")[0]))
                    continue
                self._chosen[repr(wish)] = loading
                self.instruments.chose(loading, rung.words, rejected)
                return model
        told = "; ".join(f"{each.what}: {each.why}" for each in rejected)
        raise Unmet(f"{spec.source} fits in no way: {told}")

    def _room(self, asked: bool | Room) -> Room:
        """What is here now, or what is to be fitted into. Raises PerfError, Unmet."""
        here = room_now(self.hardware)
        if isinstance(asked, bool):
            return here
        if not isinstance(asked, Room):
            raise PerfError(
                "load_model: fit is True, or a room such as room_of('jetson-orin-nano') of "
                f"pytest_llmperf.fit.room, not {asked!r}"
            )
        if asked.has_gpu and not here.has_gpu:
            raise Unmet(f"fit: {asked.name} has a GPU, and this machine has none to try it on")
        return asked

    def _try(
        self,
        rung: Rung,
        files: ModelFiles | None,
        backend: Backend,
        room: Room,
        timeout_s: float,
    ) -> tuple[Loading, LoadedModel]:
        """Raises DoesNotFit, NoSpace, WorkerError."""
        require_fit(expect(rung.spec, files, rung.options, room))
        loading = self._find(rung.spec, backend, rung.options, timeout_s)
        what = f"{backend.name} tries {rung.words}"
        with showing(self.progress, what) as say, self.pool.turn_to_load(loading, say):
            return loading, self.pool.load(loading, say)
