"""Does a worker get the user's environment less what would disturb it, and a Python that can?"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pytest_llmperf.worker.environment import WrongPython, require_python, worker_environment


@pytest.mark.parametrize(
    "name",
    [
        "RUNNER_TRACKING_ID",
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "HF_HOME",
        "HTTPS_PROXY",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "MY_PYTEST_DIR",
    ],
)
def test_kept(name: str) -> None:
    assert worker_environment({name: "value"})[name] == "value"


@pytest.mark.parametrize(
    "name",
    [
        "PYTEST_ADDOPTS",
        "PYTEST_CURRENT_TEST",
        "PYTEST_XDIST_WORKER",
        "TOX_ENV_NAME",
        "PYTHONPROFILEIMPORTTIME",
        "PYTHONTRACEMALLOC",
        "PYTHONMALLOC",
        "PYTHONDEVMODE",
        "MALLOC_PERTURB_",
    ],
)
def test_dropped(name: str) -> None:
    assert name not in worker_environment({name: "1"})


@pytest.mark.parametrize(("name", "forced"), [("PYTHONUNBUFFERED", "1"), ("PYTHONSAFEPATH", "1")])
def test_set_whatever_the_user_has(name: str, forced: str) -> None:
    assert worker_environment({})[name] == forced
    assert worker_environment({name: ""})[name] == forced


@pytest.mark.parametrize(
    ("name", "default", "users"),
    [
        ("HF_HUB_OFFLINE", "1", "0"),
        ("HF_HUB_DISABLE_TELEMETRY", "1", "0"),
        ("TOKENIZERS_PARALLELISM", "false", "true"),
    ],
)
def test_set_unless_the_user_has_it(name: str, default: str, users: str) -> None:
    assert worker_environment({})[name] == default
    assert worker_environment({name: users})[name] == users


def test_the_users_own_mapping_is_left_alone() -> None:
    user = {"PYTEST_ADDOPTS": "-x", "HOME": "/root"}
    worker_environment(user)
    assert user == {"PYTEST_ADDOPTS": "-x", "HOME": "/root"}


def test_an_interpreter_that_can_run_a_worker_is_not_refused() -> None:
    try:
        require_python(sys.executable)
    except WrongPython as error:
        pytest.fail(str(error))


def test_an_environment_that_lacks_a_package_is_told_the_line_that_installs_it(
    tmp_path: Path,
) -> None:
    venv.create(tmp_path, symlinks=True)
    python = str(tmp_path / "bin" / "python")
    with pytest.raises(WrongPython) as caught:
        require_python(python)
    told = str(caught.value)
    assert told.startswith(f"{python} has no module msgspec, which a worker needs")
    assert told.endswith(f"\n  {python} -m pip install --no-deps msgspec")


def test_a_worker_needs_msgspec_and_nothing_else_that_is_not_pythons_own() -> None:
    code = (
        "import sys, pytest_llmperf.worker.process\n"
        "tops = {each.partition('.')[0] for each in sys.modules} - sys.stdlib_module_names\n"
        "print(sorted(each for each in tops if not each.startswith('_')))"
    )
    # Coverage, where these tests run under it, enters every child that inherits its variables.
    uncovered = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    told = subprocess.run(
        [sys.executable, "-c", code], env=uncovered, capture_output=True, text=True, check=True
    )
    # msgspec's, if it is there, and what a system has every Python import.
    not_ours = {"typing_extensions", "sitecustomize", "usercustomize", "apport_python_hook"}
    found = set(ast.literal_eval(told.stdout)) - not_ours
    assert found == {"msgspec", "pytest_llmperf"}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\nexit 0\n", "is no Python that can run a worker: it says nothing"),
        ("#!/bin/sh\necho no such thing >&2\nexit 1\n", "run a worker: no such thing"),
        ("#!/bin/sh\necho is Python 3.9 >&2\nexit 1\n", "python is Python 3.9"),
        ("nonsense", "cannot be started: "),
    ],
)
def test_what_is_no_python_is_told(script: str, said: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    with pytest.raises(WrongPython) as caught:
        require_python(str(python))
    assert said in str(caught.value)
