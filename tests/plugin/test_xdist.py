"""Under pytest-xdist, on a machine with several GPUs: is every timed section alone on its own?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from tests.plugin.conftest import Run
from tests.scripted_gpus import overlaps, requests, scripted_gpus, sections

CARDS = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
Machine = Callable[..., None]

ONE_GPU = """
@pytest.mark.parametrize("number", range({tests}))
def test_it(load_model, measure, number):
    script = dict(gpu_count={count}, real_s=0.02, journal="journal", n_ctx=4096 + number)
    measure(load(load_model, **script), prompt_tokens=8, new_tokens=8)
"""


@pytest.fixture
def machine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Start from now on on a machine with these GPUs, under these variables."""

    def have(uuids: Sequence[str] = CARDS, **variables: str) -> None:
        path = os.environ.get("PYTHONPATH", "")
        made = scripted_gpus(pytester.path / "gpus", uuids, path)
        monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for name, value in (made | variables).items():
            monkeypatch.setenv(name, value)

    return have


def test_no_two_timed_sections_on_one_gpu_overlap(
    machine: Machine, llmperf: Run, pytester: pytest.Pytester
) -> None:
    machine()
    run = llmperf(ONE_GPU.format(tests=8, count=1), "-n4", apart=True)
    assert run.ret == 0
    found = sections(requests(pytester.path / "journal"))
    assert set(found) == set(CARDS)
    assert sum(map(len, found.values())) == 8
    for spans in found.values():
        assert overlaps(spans) == []


def test_more_processes_than_gpus_share_them_out(
    machine: Machine, llmperf: Run, pytester: pytest.Pytester
) -> None:
    machine(CARDS[:2], CUDA_VISIBLE_DEVICES="1,0")
    run = llmperf(ONE_GPU.format(tests=4, count=1), "-n3", apart=True)
    assert run.ret == 0
    found = sections(requests(pytester.path / "journal"))
    assert set(found) <= {"0", "1"}  # as the user named them
    for spans in found.values():
        assert overlaps(spans) == []


def test_an_engine_that_spans_gpus_has_them_all(
    machine: Machine, llmperf: Run, pytester: pytest.Pytester
) -> None:
    machine(CARDS[:2], CUDA_VISIBLE_DEVICES="GPU-a,GPU-b")
    spanning = ONE_GPU.format(tests=2, count=None)
    single = ONE_GPU.format(tests=3, count=1).replace("test_it", "test_one")
    run = llmperf(spanning + single, "-n3", apart=True)
    assert run.ret == 0
    for spans in sections(requests(pytester.path / "journal")).values():
        assert overlaps(spans) == []


def test_two_runs_on_one_host_leave_each_other_their_gpus(
    machine: Machine, pytester: pytest.Pytester
) -> None:
    machine(CARDS[:1])
    source = "import pytest\n" + ONE_GPU.format(tests=2, count=1).replace(
        "load(load_model,", 'load_model("fake:model", backend="fake",'
    )
    pytester.makepyfile(test_it=source)
    command = [sys.executable, "-m", "pytest", "--llmperf", "-p", "no:cacheprovider"]
    runs = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(120) for run in runs] == [0, 0]
    found = requests(pytester.path / "journal")
    assert {each["gpus"] for each in found} == {None}  # one GPU: nothing to choose
    spans = sections([{**each, "gpus": "all"} for each in found])["all"]
    assert len(spans) == 4
    assert overlaps(spans) == []


def test_a_cpu_is_timed_beside_no_gpu(
    machine: Machine, llmperf: Run, pytester: pytest.Pytester
) -> None:
    machine(CARDS[:2])
    on_cpu = ONE_GPU.format(tests=1, count=0).replace("test_it", "test_cpu")
    run = llmperf(on_cpu + ONE_GPU.format(tests=2, count=1), "-n3", apart=True)
    assert run.ret == 0
    found = requests(pytester.path / "journal")
    (cpu,) = {each["pid"] for each in found if each["gpus"] is None}
    mine = sections([{**each, "gpus": "cpu"} for each in found if each["pid"] == cpu])["cpu"]
    for each in found:
        if each["pid"] != cpu:
            assert overlaps([*mine, (each["began"], each["ended"])]) == []


@pytest.mark.parametrize(
    ("listed", "told"),
    [("0,7", "there is no GPU number 7"), ("1,1", "'1' is named twice")],
)
def test_a_wrong_list_of_gpus_fails_the_test_in_words(
    listed: str, told: str, machine: Machine, llmperf: Run
) -> None:
    machine(CUDA_VISIBLE_DEVICES=listed)
    run = llmperf(ONE_GPU.format(tests=1, count=1), apart=True)
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines([f"CUDA_VISIBLE_DEVICES={listed}: {told}*"])
    assert "Traceback" not in run.stdout.str()


def test_a_wrong_list_of_gpus_skips_nothing_that_requires_one(
    machine: Machine, llmperf: Run
) -> None:
    machine(CUDA_VISIBLE_DEVICES="7")
    required = "import pytest\npytestmark = pytest.mark.requires(gpu=True)\n"
    run = llmperf(required + ONE_GPU.format(tests=1, count=1), apart=True)
    run.assert_outcomes(errors=1)
    run.stdout.fnmatch_lines(["*CUDA_VISIBLE_DEVICES=7: there is no GPU number 7*"])


@pytest.mark.parametrize("count", [0, 1])
def test_a_lease_folder_that_cannot_be_written_fails_the_test_in_words(
    count: int, machine: Machine, llmperf: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "file").touch()  # not a question of rights: root may write anywhere
    machine(XDG_STATE_HOME=str(pytester.path / "file"))
    run = llmperf(ONE_GPU.format(tests=1, count=count), apart=True)
    run.assert_outcomes(failed=1)
    run.stdout.fnmatch_lines(["cannot take the measurement lock in *point XDG_STATE_HOME to *"])
