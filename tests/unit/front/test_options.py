"""Which of command line, environment and ini file is heard, and are bad values named?"""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.options import BadOption, Settings, read_settings

PYTHON = sys.executable
ALL = {
    "enabled": ("", "LLMPERF", "true", True),
    "suite": ("suite", "LLMPERF_SUITE", "smoke", "smoke"),
    "strict": ("strict", "LLMPERF_STRICT", "true", True),
    "require": ("require", "LLMPERF_REQUIRE", "gpu", "gpu"),
    "samples": ("samples", "LLMPERF_SAMPLES", "7", 7),
    "second_look": ("second-look", "LLMPERF_SECOND_LOOK", "off", 0),
    "baselines": ("baselines", "LLMPERF_BASELINES", "accepted", Path("accepted")),
    "record": ("record", "LLMPERF_RECORD", "true", True),
    "accept": ("accept", "LLMPERF_ACCEPT", "new driver", "new driver"),
    "history": ("history", "LLMPERF_HISTORY", "sqlite:///h.db", "sqlite:///h.db"),
    "accept_machine": ("accept-machine", "LLMPERF_ACCEPT_MACHINE", "true", True),
    "time_budget_s": ("time-budget", "LLMPERF_TIME_BUDGET", "1.5", 1.5),
    "timeout_s": ("timeout", "LLMPERF_TIMEOUT", "90", 90.0),
    "json": ("json", "LLMPERF_JSON", "out.json", Path("out.json")),
    "github": ("github", "LLMPERF_GITHUB", "on", True),
    "html": ("html", "LLMPERF_HTML", "out.html", Path("out.html")),
    "backend": ("backend", "LLMPERF_BACKEND", "fake", "fake"),
    "model": ("model", "LLMPERF_MODEL", "synthetic:llama-15m", "synthetic:llama-15m"),
    "python": ("python", "LLMPERF_PYTHON", f"fake={PYTHON}", {"fake": PYTHON}),
}
"""Field → its flag after ``--llmperf-``, its variable, a value, and what that is read as."""

EACH = pytest.mark.parametrize("field", ALL)


def flag(field: str) -> str:
    """As typed: ``--llmperf-samples=7``; the two that are on or not take no value."""
    tail, _, text, _ = ALL[field]
    name = f"--llmperf-{tail}".removesuffix("-")
    return name if ALL[field][2] == "true" else f"{name}={text}"


def settings(
    pytester: pytest.Pytester,
    *arguments: str,
    environment: dict[str, str] | None = None,
    switch: bool = True,
) -> Settings:
    """As read with ``--llmperf``, the ``switch`` without which nothing else is looked at."""
    on = ["--llmperf"] if switch else []
    return read_settings(pytester.parseconfig(*on, *arguments), environment or {})


def ini(pytester: pytest.Pytester, **values: str) -> None:
    lines = "\n".join(f"{name} = {value}" for name, value in values.items())
    pytester.makeini(f"[pytest]\n{lines}\n")


def only(**changed: Any) -> Settings:
    return Settings(**{"enabled": True, **changed})


def test_every_setting_is_in_the_table() -> None:
    assert set(ALL) == set(Settings.__dataclass_fields__)


def test_nothing_given_is_the_default(pytester: pytest.Pytester) -> None:
    assert settings(pytester) == Settings(enabled=True)
    assert read_settings(pytester.parseconfig(), {}) == Settings()
    assert not Settings().enabled


def test_without_the_switch_no_other_setting_can_be_wrong(pytester: pytest.Pytester) -> None:
    environment = {"LLMPERF_SAMPLES": "3", "LLMPERF_SUITE": "none such", "LLMPERF_JSON": "/"}
    assert read_settings(pytester.parseconfig(), environment) == Settings()


@EACH
def test_from_the_command_line(pytester: pytest.Pytester, field: str) -> None:
    assert settings(pytester, flag(field)) == only(**{field: ALL[field][3]})


@EACH
def test_from_the_environment(pytester: pytest.Pytester, field: str) -> None:
    _, variable, text, value = ALL[field]
    assert settings(pytester, environment={variable: text}) == only(**{field: value})


@EACH
def test_from_the_ini_file(pytester: pytest.Pytester, field: str) -> None:
    _, variable, text, value = ALL[field]
    ini(pytester, **{variable.lower(): text})
    assert settings(pytester) == only(**{field: value})


def test_the_command_line_beats_the_environment_and_that_the_ini_file(
    pytester: pytest.Pytester,
) -> None:
    ini(pytester, llmperf_samples="7")
    assert settings(pytester).samples == 7
    variables = {"LLMPERF_SAMPLES": "8"}
    assert settings(pytester, environment=variables).samples == 8
    assert settings(pytester, "--llmperf-samples=9", environment=variables).samples == 9


def test_the_environment_can_switch_off_what_the_ini_file_switched_on(
    pytester: pytest.Pytester,
) -> None:
    ini(pytester, llmperf="true")
    assert settings(pytester, switch=False).enabled
    assert not settings(pytester, environment={"LLMPERF": "0"}, switch=False).enabled


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "yes", "on", " on "])
def test_flags_that_are_on(pytester: pytest.Pytester, text: str) -> None:
    assert settings(pytester, environment={"LLMPERF_STRICT": text}).strict


@pytest.mark.parametrize("text", ["0", "false", "False", "no", "off", ""])
def test_flags_that_are_off(pytester: pytest.Pytester, text: str) -> None:
    assert not settings(pytester, environment={"LLMPERF_STRICT": text}).strict


def test_a_reason_may_be_longer_than_any_path(pytester: pytest.Pytester) -> None:
    why = "a faster kernel " * 300
    assert settings(pytester, f"--llmperf-accept={why}").accept == why.strip()


@pytest.mark.parametrize("text", ["off", "OFF", " off "])
def test_no_history(pytester: pytest.Pytester, text: str) -> None:
    assert settings(pytester, f"--llmperf-history={text}").history == "off"


class Warned:
    """A plugin that keeps what the run was warned of."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        self.texts.append(str(warning_message.message))


def test_a_variable_that_is_misspelt_is_warned_of_with_the_nearest_name(
    pytester: pytest.Pytester,
) -> None:
    misspelt = {"LLMPERF_RECROD": "1", "LLMPERF_X": "1", "LLMPERF_EMPTY": "", "OTHER": "1"}
    config, warned = pytester.parseconfig("--llmperf"), Warned()
    config.pluginmanager.register(warned)
    assert read_settings(config, misspelt) == only()
    assert warned.texts == [
        f"environment variable {name} is none of llmperf's and does nothing{meant}"
        for name, meant in (("LLMPERF_RECROD", ", did you mean LLMPERF_RECORD?"), ("LLMPERF_X", ""))
    ]


def test_variables_that_are_no_options_are_known(pytester: pytest.Pytester) -> None:
    config, warned = pytester.parseconfig("--llmperf"), Warned()
    config.pluginmanager.register(warned)
    values = {variable: text for _, variable, text, _ in ALL.values()}
    read_settings(config, {**values, "LLMPERF_CACHE": "/tmp", "LLMPERF_TEST_FAMILY": "1"})
    assert warned.texts == []


def test_several_interpreters(pytester: pytest.Pytester) -> None:
    """Given again on the command line, one a line in an ini file, or with commas between them."""
    odd = pytester.path / "a, b"
    odd.touch()
    both = {"vllm": PYTHON, "llama-cpp": str(odd)}
    pairs = [f"{name}={path}" for name, path in both.items()]
    given = settings(pytester, *(f"--llmperf-python={pair}" for pair in pairs))
    assert given == only(python=both)
    assert settings(pytester, environment={"LLMPERF_PYTHON": ", ".join(pairs)}).python == both
    ini(pytester, llmperf_python="\n  ".join(["", *pairs]))
    assert settings(pytester).python == both


def test_a_path_of_an_interpreter_is_made_absolute_and_its_link_kept(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(pytester.path))
    (pytester.path / "python").symlink_to(PYTHON)
    own = str(pytester.path / "python")
    for text in ("~/python", os.path.relpath(own)):
        assert settings(pytester, f"--llmperf-python=fake={text}").python == {"fake": own}


def test_a_suite_without_a_name_is_all_of_them(pytester: pytest.Pytester) -> None:
    assert settings(pytester, "--llmperf-suite").suite == ""


BAD = [
    ("enabled", "maybe", "--llmperf='maybe': must be true or false"),
    ("strict", "2", "--llmperf-strict='2': must be true or false"),
    ("require", "tpu", "--llmperf-require='tpu': can only be gpu"),
    ("samples", "4", "--llmperf-samples='4': must be a whole number between 5 and 1000"),
    ("samples", "1001", "--llmperf-samples='1001': must be a whole number between 5 and 1000"),
    ("samples", "7.5", "--llmperf-samples='7.5': "),
    ("second_look", "1", "--llmperf-second-look='1': must be on, off, or a number of fresh"),
    ("baselines", "/dev/null", "--llmperf-baselines='/dev/null': must name a folder"),
    ("accept", "/dev/null", "--llmperf-accept='/dev/null': must say why; '/dev/null' is a path: "),
    (
        "accept",
        "a.py::b",
        "--llmperf-accept='a.py::b': must say why; 'a.py::b' is a path: write --llmperf-accept=WHY",
    ),
    ("history", "nonsense", "--llmperf-history: 'nonsense': this is no database URL. A file is"),
    ("history", "nosuch://u:geheim@x", "--llmperf-history: nosuch://u:***@x: SQLAlchemy knows no"),
    ("time_budget_s", "0", "--llmperf-time-budget='0': must be a number of seconds greater than 0"),
    ("time_budget_s", "inf", "--llmperf-time-budget='inf': must be a number of seconds"),
    ("timeout_s", "-1", "--llmperf-timeout='-1': must be a number of seconds greater than 0"),
    ("timeout_s", "nan", "--llmperf-timeout='nan': must be a number of seconds greater than 0"),
    ("timeout_s", "5m", "--llmperf-timeout='5m': "),
    ("python", PYTHON, f"--llmperf-python='{PYTHON}': '{PYTHON}' must read BACKEND=PATH"),
    ("python", "vlm=/x", "--llmperf-python='vlm=/x': unknown backend 'vlm', did you mean 'vllm'?;"),
    ("python", "vllm=/no/x", "--llmperf-python='vllm=/no/x': /no/x: there is no such file"),
    (
        "python",
        f"fake={PYTHON},fake={PYTHON}",
        f"--llmperf-python='fake={PYTHON},fake={PYTHON}': names two interpreters of fake",
    ),
]


@pytest.mark.parametrize(("field", "text", "message"), BAD)
def test_a_bad_value_in_the_environment_is_named_with_its_variable(
    pytester: pytest.Pytester, field: str, text: str, message: str
) -> None:
    variable = ALL[field][1]
    with pytest.raises(BadOption) as caught:
        settings(pytester, environment={variable: text}, switch=field != "enabled")
    assert str(caught.value).startswith(f"environment variable {variable}: {message}")


def test_no_variable_of_our_own_tests_is_taken_for_a_misspelt_option(
    pytester: pytest.Pytester,
) -> None:
    top = Path(__file__).parents[3]
    files = [top / "Makefile", *(top / "tests").rglob("*.py")]
    named = {name for file in files for name in re.findall(r"LLMPERF_[A-Z_]+", file.read_text())}
    ours = named - {variable for _, variable, _, _ in ALL.values()}
    assert "LLMPERF_BROWSER" in ours
    made_up = {"LLMPERF_RECROD", "LLMPERF_X", "LLMPERF_EMPTY", "LLMPERF_"}
    config, warned = pytester.parseconfig("--llmperf"), Warned()
    config.pluginmanager.register(warned)
    read_settings(config, dict.fromkeys(ours - made_up, "1"))
    assert warned.texts == []


@pytest.mark.parametrize(("field", "text", "message"), BAD)
def test_a_bad_value_in_the_ini_file_is_named_with_its_key(
    pytester: pytest.Pytester, field: str, text: str, message: str
) -> None:
    key = ALL[field][1].lower()
    ini(pytester, **{key: text})
    with pytest.raises(BadOption) as caught:
        settings(pytester, switch=field != "enabled")
    assert str(caught.value).startswith(f"ini option {key}: {message}")


@pytest.mark.parametrize(
    ("field", "text", "message"), [case for case in BAD if case[0] not in {"enabled", "strict"}]
)
def test_a_bad_value_on_the_command_line_is_named(
    pytester: pytest.Pytester, field: str, text: str, message: str
) -> None:
    option = flag(field).partition("=")[0]
    with pytest.raises(BadOption) as caught:
        settings(pytester, f"{option}={text}")
    assert str(caught.value).startswith(f"command line: {message}")
