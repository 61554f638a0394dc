"""What did the user ask for? Command line, environment and ini file, read into one frozen object.

The command line wins over the environment (``LLMPERF_*``), and that over the ini file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
_OFF = "off"
_PREFIX = "LLMPERF_"
_NOT_SETTINGS = {
    "LLMPERF_BROWSER",
    "LLMPERF_CONTRACT_CALLS",
    "LLMPERF_CACHE",
    "LLMPERF_GPTQ_PYTHON",
    "LLMPERF_LONG",
    "LLMPERF_MUTATION",
    "LLMPERF_TEST_FAMILY",
    "LLMPERF_VLLM_PYTHON",
}
"""Variables of ours that are no option: where models are built, and those of our own tests."""


@dataclass(frozen=True)
class Settings:
    """How this run measures and judges."""

    enabled: bool = False
    """Whether anything is measured at all (``--llmperf``)."""
    suite: str | None = None
    """Name of a shipped acceptance suite; ``""``: all of them."""
    strict: bool = False
    """INCONCLUSIVE, NO_BASELINE and unmet backends or models fail."""
    require: str | None = None
    """What this machine must have, else the run stops: ``gpu``."""
    samples: int | None = None
    """Samples of each measurement; None: the test's own number, or 10."""
    second_look: int | None = None
    """Fresh workers that a suspect is measured again by; 0: none, None: 5 on CPUs, 3 on GPUs."""
    baselines: Path = Path("baselines")
    """Folder of the accepted results; a relative one lies under the root folder."""
    record: bool = False
    """Whether this run's sessions are added to the baselines."""
    accept: str | None = None
    """Why what changed is the new normal; None: nothing is accepted."""
    history: str | None = None
    """URL of the database of all sessions; ``off``: none, None: a file in the user's state."""
    accept_machine: bool = False
    """Whether everything measured is the new normal, because the machine is another."""
    time_budget_s: float = 60.0
    """Per invocation; past it fewer samples are taken."""
    timeout_s: float = 600.0
    """How long one load or one request may take before its worker counts as hung."""
    json: Path | None = None
    github: bool = False
    """Whether a job of GitHub Actions gets a summary and annotations."""
    html: Path | None = None
    backend: str | None = None
    """Backend of tests and suites that do not name one."""
    model: str | None = None
    """Model of tests and suites that do not name one."""
    python: Mapping[str, str] = field(default_factory=dict)
    """Backend → the interpreter that its workers run in; all others run in ours."""

    @property
    def records(self) -> bool:
        """Whether this run writes baselines."""
        return self.record or self.accept is not None or self.accept_machine


class BadOption(Exception):
    """An option's value means nothing; the message names the option and where it was set."""


def _flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError("must be true or false")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError("must be a number of seconds greater than 0")
    return value


def _samples(text: str) -> int:
    if not text.strip().isdecimal() or not 5 <= int(text) <= 1000:
        raise ValueError("must be a whole number between 5 and 1000")
    return int(text)


def _file(text: str) -> Path:
    """Asked before anything is measured: an hour's numbers would have no place."""
    path = Path(text)
    if not path.name or path.is_dir():
        raise ValueError("must name a file")
    there = next(each for each in path.absolute().parents if each.exists())
    import tempfile  # not at the top: every pytest run would pay for it

    try:
        # Tried, because what is allowed says little: nobody can write to /proc, not even root.
        with tempfile.TemporaryFile(dir=there):
            return path
    except OSError as error:
        raise ValueError(f"cannot be written: {there}: {error.strerror}") from None


def _page(text: str) -> Path:
    """Asked before anything is measured: what the page is made with may not be installed."""
    # Not at the top: every pytest run would pay for it.
    from pytest_llmperf.report.html.writing import missing_parts

    missing = missing_parts()
    if missing is not None:
        raise ValueError(missing)
    return _file(text)


def _second_look(text: str) -> int | None:
    word = text.strip().lower()
    if word in {"on", "off"}:
        return None if word == "on" else 0
    if not word.isdecimal() or not 2 <= int(word) <= 20:
        raise ValueError("must be on, off, or a number of fresh workers between 2 and 20")
    return int(word)


def _github(text: str) -> bool:
    try:
        return _flag(text)
    except ValueError:
        raise ValueError("must be on or off") from None


def _folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise ValueError("must name a folder")
    return path


def _reason(text: str) -> str:
    """An option takes the next word of the command line, which may have been meant as a test."""
    if not text.strip():
        raise ValueError("must say why")
    if "::" in text or os.path.exists(text):  # noqa: PTH110 - Path refuses a long text
        raise ValueError(f"must say why; {text!r} is a path: write --llmperf-accept=WHY {text}")
    return text.strip()


def _history(text: str) -> str:
    """Read here: a database that cannot be would show only when everything has been measured."""
    if text.strip().lower() == _OFF:
        return _OFF
    # Not at the top: this imports SQLAlchemy, which takes longer than the whole plugin.
    from pytest_llmperf.history.database import HistoryError, check_url

    try:
        check_url(text)
    except HistoryError as error:
        raise ValueError(str(error).removeprefix("history ")) from None
    return text


def _interpreters(text: str) -> dict[str, str]:
    # Not at the top: every pytest run would pay for it.
    from pytest_llmperf.worker.interpreters import read_interpreters

    return read_interpreters(text)


def _require(text: str) -> str:
    if text != "gpu":
        raise ValueError("can only be gpu")
    return text


class _Option:
    """One option; not a dataclass, whose making every pytest run would pay for."""

    def __init__(
        self,
        field: str,
        help: str,  # noqa: A002 - argparse's word
        read: Callable[[str], object],
        metavar: str | None = None,
        bare: str | None = None,
        *,
        may_be_secret: bool = False,
    ) -> None:
        """``field``: its name in Settings, in the ini file and in the environment.

        ``bare``: what it means without a value; None: it needs one.
        ``may_be_secret``: a bad value is not repeated, what is wrong with it says enough.
        """
        self.field, self.help, self.read = field, help, read
        self.metavar, self.bare = metavar, bare
        self.may_be_secret = may_be_secret

    @property
    def flag(self) -> str:
        if self.field == "enabled":
            return "--llmperf"
        return "--llmperf-" + self.field.removesuffix("_s").replace("_", "-")

    @property
    def key(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        return self.key.upper()


_OPTIONS = (
    _Option("enabled", "measure and judge the tests that use llmperf's fixtures", _flag),
    _Option(
        "suite", "run a shipped acceptance suite, or all (smoke)", str, metavar="NAME", bare=""
    ),
    _Option("strict", "inconclusive, unjudged and unmet tests fail", _flag),
    _Option("require", "stop unless this machine has it: gpu", _require, metavar="gpu"),
    _Option("samples", "samples of each measurement (10)", _samples, metavar="N"),
    _Option(
        "second_look",
        "fresh workers that look again at what is suspect: on (5 on CPUs, 3 on GPUs), N, off",
        _second_look,
        metavar="N|off",
    ),
    _Option("baselines", "folder of the accepted results (baselines)", _folder, metavar="DIR"),
    _Option("record", "add this run's sessions to the baselines", _flag),
    _Option(
        "accept", "record, and accept what got slower or faster as normal", _reason, metavar="WHY"
    ),
    _Option(
        "history",
        "database of all sessions, or off (a file in your state directory)",
        _history,
        metavar="URL",
        may_be_secret=True,
    ),
    _Option("accept_machine", "record, and accept all as normal: another machine", _flag),
    _Option("time_budget_s", "seconds for the samples of one worker (60)", _seconds, metavar="S"),
    _Option("timeout_s", "seconds for one load or one request (600)", _seconds, metavar="S"),
    _Option("json", "write every number to this file", _file, metavar="FILE"),
    _Option(
        "github",
        "a summary and annotations for a job of GitHub Actions: on (there by itself), off",
        _github,
        metavar="off",
        bare="on",
    ),
    _Option("html", "write a page with charts to this file", _page, metavar="FILE"),
    _Option("backend", "backend of tests that do not name one", str, metavar="NAME"),
    _Option("model", "model of tests that do not name one", str, metavar="SOURCE"),
    _Option(
        "python",
        "the Python, of another environment, that runs a backend's workers; repeatable",
        _interpreters,
        metavar="BACKEND=PATH",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option with its ini twin; all defaults are None, so that order is decidable."""
    group = parser.getgroup("llmperf", "speed, memory and output quality of LLM inference")
    for option in _OPTIONS:
        words: dict[str, Any] = {"dest": option.key, "default": None, "help": option.help}
        if option.read is _flag:
            words |= {"action": "store_const", "const": "true"}
        else:
            words["metavar"] = option.metavar
        if option.read is _interpreters:
            words["action"] = "append"
        if option.bare is not None:
            words |= {"nargs": "?", "const": option.bare}
        group.addoption(option.flag, **words)
        parser.addini(option.key, f"{option.help} (as {option.flag})", type="string", default=None)


def read_settings(config: pytest.Config, environment: Mapping[str, str] = os.environ) -> Settings:
    """Gather the settings; without ``--llmperf`` nothing else is looked at. Raises BadOption."""
    values: dict[str, Any] = {}
    for option in _OPTIONS:
        if option.field != "enabled" and not values.get("enabled"):
            break
        value = _read(option, config, environment)
        if value is not None:
            values[option.field] = value
    if values.get("enabled"):
        values.setdefault("github", environment.get("GITHUB_ACTIONS") == "true")
        _warn_of_strangers(config, environment)
    return Settings(**values)


def _read(option: _Option, config: pytest.Config, environment: Mapping[str, str]) -> object:
    """Its value as it was given; None: it was not. Raises BadOption."""
    found = _find(option, config, environment)
    if found is None:
        return None
    text, place = found
    try:
        return option.read(text)
    except (ValueError, argparse.ArgumentTypeError) as error:
        told = option.flag if option.may_be_secret else f"{option.flag}={text!r}"
        raise BadOption(f"{place}: {told}: {error}") from None


def _warn_of_strangers(config: pytest.Config, environment: Mapping[str, str]) -> None:
    """A variable that is misspelt would be ignored without a word. Raises BadOption if that errs.

    ``-W error`` makes it one.
    """
    known = {option.variable for option in _OPTIONS}
    strangers = sorted(
        name
        for name, text in environment.items()
        if name.startswith(_PREFIX) and text and name not in known | _NOT_SETTINGS
    )
    for name in strangers:
        import difflib  # not at the top: every pytest run would pay for it

        tails = [each.removeprefix(_PREFIX) for each in known]  # all begin alike
        near = difflib.get_close_matches(name.removeprefix(_PREFIX), tails, n=1)
        meant = f", did you mean {_PREFIX}{near[0]}?" if near else ""
        warning = pytest.PytestConfigWarning(
            f"environment variable {name} is none of llmperf's and does nothing{meant}"
        )
        try:
            config.issue_config_time_warning(warning, stacklevel=2)
        except pytest.PytestConfigWarning as error:
            raise BadOption(str(error)) from None


def _find(
    option: _Option, config: pytest.Config, environment: Mapping[str, str]
) -> tuple[str, str] | None:
    given = config.getoption(option.key)
    if given is not None:
        return "\n".join(given) if isinstance(given, list) else str(given), "command line"
    variable = option.variable
    if environment.get(variable):  # CI passes inputs that were not given as empty text
        return environment[variable], f"environment variable {variable}"
    from_file = config.getini(option.key)
    if from_file:
        return str(from_file), f"ini option {option.key}"
    return None
