"""Does a worker get the user's environment, less what would disturb it?"""

from __future__ import annotations

import pytest

from pytest_llmperf.worker.environment import worker_environment


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
    [("HF_HUB_DISABLE_TELEMETRY", "1", "0"), ("TOKENIZERS_PARALLELISM", "false", "true")],
)
def test_set_unless_the_user_has_it(name: str, default: str, users: str) -> None:
    assert worker_environment({})[name] == default
    assert worker_environment({name: users})[name] == users


def test_the_users_own_mapping_is_left_alone() -> None:
    user = {"PYTEST_ADDOPTS": "-x", "HOME": "/root"}
    worker_environment(user)
    assert user == {"PYTEST_ADDOPTS": "-x", "HOME": "/root"}
