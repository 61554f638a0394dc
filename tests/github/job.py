"""How are an action's or a workflow's own steps run here, as the runner would run them?

Documented at docs.github.com ("Contexts", "Variables", "Metadata syntax"); what is constructed is
the environment, never the text of a step. Steps with ``uses:`` are left to a stand-in.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_PYTHON = Path(sys.executable).parent
_SHELLS = {None: ["bash", "-e"], "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"]}
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"[a-z_]+(?:\.[\w-]+)+")

StandIn = Callable[[str, Mapping[str, str]], Mapping[str, str] | None]
"""Takes the name of an action and its inputs, gives its outputs."""


@dataclass(frozen=True)
class Ran:
    """What a step came to."""

    name: str
    exit_code: int
    output: str


@dataclass
class Job:
    """A constructed job: its folders, what the runner tells it, and what its steps said."""

    folder: Path
    """Where everything of it lies."""
    workspace: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside that of the runner, such as GITHUB_EVENT_NAME."""
    contexts: Mapping[str, str] = field(default_factory=dict)
    """Such as ``github.run_id``."""
    stand_in: StandIn = lambda name, inputs: None
    cancelled: bool = False
    cancelled_in: str | None = None
    """The name of the step during which it will be cancelled."""
    ran: list[Ran] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    """``steps.ID.outputs.NAME`` → its value."""

    def __post_init__(self) -> None:
        self.temp.mkdir(parents=True, exist_ok=True)

    @property
    def temp(self) -> Path:
        """RUNNER_TEMP."""
        return self.folder / "temp"

    @property
    def page(self) -> Path:
        """The summary of its last step."""
        return self.folder / "summary.md"

    @property
    def has_failed(self) -> bool:
        """Whether a step did."""
        return any(each.exit_code for each in self.ran)

    def action(self, name: str, /, **inputs: str) -> dict[str, str]:
        """Run the composite action of this name in .github/actions; its outputs."""
        told = read(ROOT / ".github" / "actions" / name / "action.yml")
        given = {key: str(value.get("default", "")) for key, value in told["inputs"].items()}
        contexts = {key: self._filled(value, {}) for key, value in given.items()}
        contexts |= {key.replace("_", "-"): value for key, value in inputs.items()}
        known = {f"inputs.{key}": value for key, value in contexts.items()}
        self.steps(told["runs"]["steps"], known)
        return {
            key: self._filled(value["value"], known)
            for key, value in told.get("outputs", {}).items()
        }

    def workflow(self, name: str, job: str) -> None:
        """Run the steps of a job of .github/workflows."""
        self.steps(read(ROOT / ".github" / "workflows" / name)["jobs"][job]["steps"], {})

    def steps(self, steps: Sequence[Mapping[str, Any]], known: Mapping[str, str]) -> None:
        """One after another, as far as their conditions hold."""
        for step in steps:
            if not self.holds(step.get("if"), known):
                continue
            if "uses" in step:
                given = {k: self._filled(str(v), known) for k, v in step.get("with", {}).items()}
                outputs = self.stand_in(step["uses"].partition("@")[0], given) or {}
                self._puts_out(step, outputs)
            else:
                self._run(step, known)

    def _run(self, step: Mapping[str, Any], known: Mapping[str, str]) -> None:
        script, outputs = self.folder / "step.sh", self.folder / "outputs"
        script.write_text(step["run"])
        outputs.write_text("")
        given = {k: self._filled(str(v), known) for k, v in step.get("env", {}).items()}
        ended = subprocess.run(
            [*_SHELLS[step.get("shell")], str(script)],
            cwd=self.workspace / self._filled(step.get("working-directory", "."), known),
            env={**self._told(), "GITHUB_OUTPUT": str(outputs), **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines = (line.partition("=") for line in outputs.read_text().splitlines())
        self._puts_out(step, {name: value for name, _, value in lines})
        name = step.get("name", step["run"])
        self.ran.append(Ran(name, ended.returncode, ended.stdout))
        self.cancelled |= name == self.cancelled_in

    def _puts_out(self, step: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
        for name, value in outputs.items():
            self.outputs[f"steps.{step.get('id')}.outputs.{name}"] = value

    def _told(self) -> dict[str, str]:
        """The environment of every step."""
        paths = self.folder / "path"
        first = paths.read_text().splitlines() if paths.exists() else []
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "LLMPERF"))},
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_JOB": "measure",
            "GITHUB_PATH": str(paths),
            "GITHUB_REF_NAME": "main",
            "GITHUB_REPOSITORY": "owner/scratch",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_RUN_ID": "7",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_STEP_SUMMARY": str(self.page),
            "GITHUB_WORKFLOW": "build, test",
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_ARCH": "X64",
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(self.temp),
            "PATH": os.pathsep.join([*reversed(first), str(_PYTHON), os.environ["PATH"]]),
            **self.environment,
        }

    def _value(self, name: str, known: Mapping[str, str]) -> str:
        values = {"runner.temp": str(self.temp), "runner.os": "Linux", "runner.arch": "X64"}
        return {**values, **self.contexts, **self.outputs, **known}.get(name, "")

    def _filled(self, text: str, known: Mapping[str, str]) -> str:
        return _EXPRESSION.sub(lambda found: str(self._evaluated(found[1], known)), text)

    def _evaluated(self, text: str, known: Mapping[str, str]) -> object:
        text = _NAME.sub(lambda found: repr(self._value(found[0], known)), text.strip())
        return eval(text.replace("&&", " and ").replace("||", " or "))  # our own workflows' text

    def holds(self, condition: str | None, known: Mapping[str, str] | None = None) -> bool:
        """Comparisons, ``&&``, ``||``; without a function that asks for it, nothing has failed."""
        text = "" if condition is None else condition.removeprefix("${{").removesuffix("}}").strip()
        asks = "cancelled()" in text or "always()" in text
        if not text:
            return not (self.has_failed or self.cancelled)
        text = text.replace("!cancelled()", str(not self.cancelled)).replace("always()", "True")
        return bool(self._evaluated(text, known or {})) and (
            asks or not (self.has_failed or self.cancelled)
        )


def read(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(path.read_text())
    return read
