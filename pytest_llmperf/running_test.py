"""One test: how do its wishes become a loaded model, a measurement and a verdict?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pytest_llmperf.backends import Backend, find_backend, installed_version
from pytest_llmperf.backends.registry import BackendError
from pytest_llmperf.comparing import Demands, compare
from pytest_llmperf.gate.baseline import BaselineError
from pytest_llmperf.gate.budget import Limits
from pytest_llmperf.gate.comparison import Arm
from pytest_llmperf.gate.contract import judge_contract, wants_confirmation
from pytest_llmperf.gate.gatekeeper import Suspect, looked_again, looks_wanted
from pytest_llmperf.gate.metric import BY_NAME
from pytest_llmperf.hardware.cpu import usable_cores
from pytest_llmperf.hardware.requirement import Requirement, unmet
from pytest_llmperf.hardware.visible import in_sight, visible
from pytest_llmperf.measure import Measurement, Plan, Workload, measure
from pytest_llmperf.measure.assessing import assess
from pytest_llmperf.measure.reading import TextRequest, find_text
from pytest_llmperf.measure.reference import LoadedReference
from pytest_llmperf.measure.stored_reference import StoredReference
from pytest_llmperf.report.result import Comparison, JudgedMeasurement, judged
from pytest_llmperf.session import Session
from pytest_llmperf.wish import (
    NotRequired,
    PerfError,
    Reading,
    Unmet,
    Wish,
    explained,
    telling,
)
from pytest_llmperf.worker.loading import Loading, not_installed
from pytest_llmperf.worker.pool import LoadedModel


@dataclass
class Measured:
    """One call of ``measure``, kept until the test's body has returned."""

    loading: Loading
    workload: Workload
    plan: Plan
    measurement: Measurement


@dataclass
class RunningTest:
    """One test: its limits, and what it has measured so far."""

    session: Session
    nodeid: str
    limits: Limits = field(default_factory=Limits)
    measured: list[Measured] = field(default_factory=list)
    compared: list[Comparison] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """What stood in the way of judging it: the test fails, whatever was measured."""
    is_judged: bool = False

    def check_requirement(self, requirement: Requirement) -> None:
        """Raises NotRequired when the machine, or what is installed on it, does not meet it.

        Raises PerfError where a GPU is asked for and ``CUDA_VISIBLE_DEVICES`` is wrong.
        """
        here = self.session.hardware
        trouble = visible(here.gpus, os.environ).trouble if requirement.wants_gpu else None
        if trouble is not None:
            raise PerfError(trouble)
        lacking = unmet(requirement, in_sight(here, os.environ))
        if lacking is None and requirement.backend is not None:
            try:
                backend = find_backend(requirement.backend)
            except BackendError as error:
                raise PerfError(str(error)) from None
            if self._lacks_engine(backend):
                lacking = not_installed(backend)
        if lacking is not None:
            raise NotRequired(lacking)

    def _lacks_engine(self, backend: Backend) -> bool:
        is_elsewhere = backend.name in self.session.settings.python
        return not is_elsewhere and installed_version(backend) is None

    def load(self, wish: Wish) -> LoadedModel:
        """A loaded model. Raises Unmet, PerfError."""
        return self.session.loader.load(wish, self._timeout_s)

    @property
    def _timeout_s(self) -> float:
        return self.limits.timeout_s or self.session.settings.timeout_s

    def compare(  # noqa: PLR0913 - what is measured, and what is demanded of it
        self,
        arms: Mapping[Arm, Wish],
        labels: Mapping[Arm, str],
        workload: Workload,
        *,
        name: str | None,
        metric: str,
        demands: Demands,
        text: str | None,
    ) -> Comparison:
        """Measure two arms in turns, each time in fresh workers. Raises Unmet, PerfError.

        ``text``: what the first worker of each arm reads.
        """
        if metric not in BY_NAME:
            raise PerfError(f"compare: there is no metric {metric!r}; the usual is 'decode_tps'")
        label = name or str(len(self.compared) + 1)
        if label in {each.name for each in self.compared}:
            raise PerfError(f"compare: the name {label!r} is used twice in this test")
        if text is not None:
            with explained():
                find_text(text)
        loader = self.session.loader
        loadings = {
            arm: loader.prepare("compare", wish, self._timeout_s) for arm, wish in arms.items()
        }
        plan = self._plan()

        def measure_arm(arm: Arm, pair: int) -> Measurement:
            what = f"compares {loadings[arm].spec.source}, pair {pair + 1}: {arm.upper()}"

            def ask(model: LoadedModel) -> Measurement:
                seen = self._measure(model, workload, plan, label)
                return self._read(model, seen, TextRequest(text)) if text and pair == 0 else seen

            return self._fresh(loadings[arm], pair, what, ask)

        found = compare(measure_arm, label, labels, metric, demands)
        self.compared.append(found)
        return found

    def measure(
        self,
        model: LoadedModel,
        workload: Workload,
        name: str | None,
        reading: Reading | None = None,
    ) -> Measurement:
        """Measure one workload; judged when the test's body has returned. Raises PerfError, Unmet.

        ``reading``: the text that the model reads when it has been timed.
        """
        if self.is_judged:
            raise PerfError("measure: the test was judged already, so this would go unjudged")
        label = name or str(len(self.measured) + 1)
        if label in {each.measurement.name for each in self.measured}:
            raise PerfError(f"measure: the name {label!r} is used twice in this test")
        reference = self._prepare_reading(model, reading)
        plan = self._plan()
        entry = Measured(model.loading, workload, plan, self._measure(model, workload, plan, label))
        self.measured.append(entry)  # before reading: what was timed is judged whatever comes
        if reading is not None:
            entry.measurement = self._read(model, entry.measurement, reading.text, reference)
        return entry.measurement

    def _prepare_reading(
        self, model: LoadedModel, reading: Reading | None
    ) -> Loading | StoredReference | None:
        """The reference, before anything is timed. Raises Unmet, PerfError."""
        self._require_reading(reading)
        if reading is None:
            return None
        with explained():
            find_text(reading.text.name)
            if reading.against is None:
                return None
            if isinstance(reading.against, Path):
                return StoredReference(reading.against)
            reference = self.session.loader.prepare("measure", reading.against, self._timeout_s)
            if self._lacks_engine(reference.backend):
                raise Unmet(f"reference: {not_installed(reference.backend)}")
            if reference.key == model.loading.key:
                raise PerfError(
                    "measure: against={…} is the model itself, so that nothing would be compared: "
                    "name another quantization, source, backend or option"
                )
            return reference

    def _require_reading(self, reading: Reading | None) -> None:
        """Raises PerfError for limits on what a text would have to tell."""
        for budget in self.limits.budgets:
            metric = budget.keyword.metric
            if not metric.of_output:
                continue
            if reading is None:
                raise PerfError(f"{budget.text} needs measure(…, text='shipped') or against={{…}}")
            if reading.against is None and metric.name != "perplexity":
                raise PerfError(f"{budget.text} needs a reference: measure(…, against={{…}})")

    def _read(
        self,
        model: LoadedModel,
        measurement: Measurement,
        text: TextRequest,
        reference: Loading | StoredReference | None = None,
    ) -> Measurement:
        """With what a text tells. Raises PerfError, also for what is not on this machine.

        A missing reference must not skip a test whose speed was measured already.
        """
        if measurement.invalid is not None:
            return measurement
        pool, what = self.session.pool, f"{model.backend} {model.loading.spec.source}"
        try:
            with (
                telling(self.session.progress, what) as say,
                pool.turn_to_load(reference, say)
                if isinstance(reference, Loading)
                else pool.turn_to_measure(model, say),
            ):
                beside = (
                    LoadedReference(
                        pool.load(reference, say), find_text(text.name), self._timeout_s
                    )
                    if isinstance(reference, Loading)
                    else reference
                )
                return assess(model, beside, measurement, text, self._timeout_s, say)
        except Unmet as error:
            raise PerfError(f"measure: {error}") from None
        finally:
            if isinstance(reference, Loading):
                pool.give_up(reference)

    def _plan(self) -> Plan:
        settings = self.session.settings
        return Plan(
            samples=settings.samples or self.limits.samples or Plan().samples,
            time_budget_s=settings.time_budget_s,
            timeout_s=self._timeout_s,
        )

    def _measure(
        self, model: LoadedModel, workload: Workload, plan: Plan, label: str
    ) -> Measurement:
        if not model.worker.alive:
            raise PerfError(
                f"measure: the worker of {model.loading.spec.source} is gone; load it again"
            )
        what, pool = f"{model.backend} {model.loading.spec.source}", self.session.pool
        with telling(self.session.progress, what) as say, pool.turn_to_measure(model, say):
            return measure(
                model, workload, plan, self.session.instruments, name=label, progress=say
            )

    def judge(self, *, may_look_again: bool = True) -> list[JudgedMeasurement]:
        """Judge every measurement, looking a second time at what is near its limit or suspect.

        What stood in the way of a verdict is in :attr:`troubles` afterwards.
        """
        self.is_judged = True
        return [self._judge(each, may_look_again=may_look_again) for each in self.measured]

    def _judge(self, measured: Measured, *, may_look_again: bool) -> JudgedMeasurement:
        seen = measured.measurement
        unread = None
        suspects: list[Suspect] = []
        try:
            suspects = self._compare(measured)
        except BaselineError as error:
            unread = str(error)
            self._trouble(unread)
        near = wants_confirmation(seen, self.limits)
        began_s = time.monotonic()
        looks = self._looks_wanted(suspects, seen, near=near) if may_look_again else 0
        fresh, failures = self._look_again(measured, looks)
        if failures and not fresh:
            suspects = [each.unseen(failures[0]) for each in suspects]
            if near:
                self._trouble(f"a value near its limit could not be confirmed: {failures[0]}")
        confirmation = fresh[0] if fresh and near else None
        pairs = [each.result(seen) for each in looked_again(suspects, fresh)]
        found = judged(
            seen, fresh, judge_contract(seen, self.limits, confirmation), pairs, unread=unread
        )
        took_s = time.monotonic() - began_s if looks else 0.0
        return msgspec.structs.replace(found, second_look_s=took_s)

    def _trouble(self, text: str) -> None:
        if text not in self.troubles:
            self.troubles.append(text)

    def _compare(self, measured: Measured) -> list[Suspect]:
        """Each pair of a measurement with its baseline, as far as one look tells.

        Raises BaselineError.
        """
        hardware, seen = self.session.hardware, measured.measurement
        cores, now = hardware.cpu.usable_cores, usable_cores()
        return self.session.gatekeeper.look(
            self.nodeid,
            seen,
            hardware.fingerprint_of(seen.engine.device),
            self.limits.max_regression,
            () if cores == now else (f"{cores} usable cores when the run began, {now} now",),
        )

    def _looks_wanted(self, suspects: Sequence[Suspect], seen: Measurement, *, near: bool) -> int:
        """How many fresh workers are asked."""
        most = self.session.settings.second_look
        looks = looks_wanted(suspects, seen.engine.device, most)
        return max(looks, 1) if near and most != 0 else looks

    def _look_again(self, measured: Measured, looks: int) -> tuple[list[Measurement], list[str]]:
        """What fresh workers measured, and what became of those that did not."""
        loading, plan, name = measured.loading, measured.plan, measured.measurement.name
        what = f"looks again at {loading.spec.source}"
        fresh, failures = [], []
        for number in range(1, looks + 1):
            told = f"{what}, {number} of {looks}"
            try:
                fresh.append(
                    self._fresh(
                        loading,
                        number,
                        told,
                        lambda model: self._measure(model, measured.workload, plan, name),
                    )
                )
            except (PerfError, Unmet) as error:
                failures.append(str(error))
                note = f"{self.nodeid}, second look {number} of {looks}: {error}"
                self.session.pool.bad_exits.append(note)
        return fresh, failures

    def _fresh(
        self,
        loading: Loading,
        number: int,
        what: str,
        ask: Callable[[LoadedModel], Measurement],
    ) -> Measurement:
        """What a fresh worker tells, which nobody keeps."""
        pool = self.session.pool
        try:
            with (
                telling(self.session.progress, what) as say,
                pool.turn_to_load(loading, say, fresh=True),
            ):
                model = pool.fresh(loading, number, say)
            return ask(model)
        finally:
            pool.end_workers()  # the next test's first worker has to be its own

    def end(self, *, keep: bool) -> None:
        """The test is over; ``keep`` the worker that the next one may want."""
        self.session.pool.end_test(keep=keep)
