"""Does a run say what its models take on the disk, whatever others do to the cache meanwhile?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.models.cache import VARIABLE
from tests.plugin.conftest import Run

VANISHING = """
import shutil
from pathlib import Path

from pytest_llmperf.models import pruning

listed = pruning._folders

def listed_and_gone(folder):
    found = list(listed(folder))
    for each in found:
        if each.name.startswith(".tmp-"):
            shutil.rmtree(each)
    return found

pruning._folders = listed_and_gone
"""
COUNTING = """
import os
from pathlib import Path

from pytest_llmperf import run

def counted(root):
    with Path("scans").open("a") as file:
        print(os.environ.get("PYTEST_XDIST_WORKER", "reports"), file=file)
    return 0

run.model_bytes = counted
"""
GROWING = """
def test_it(load_model, measure):
    from pytest_llmperf.models.cache import cache_root
    folder = cache_root() / "models/llama-F16-b"
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(range(256)) * 8192)
    measure(load(load_model), prompt_tokens=8, new_tokens=8)
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a model and what is being built."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    for name in ("llama-F16-a", ".tmp-llama-F16-b-x1"):
        (tmp_path / "cache/models" / name).mkdir(parents=True)
    return tmp_path / "cache/models"


def test_a_build_that_ends_while_the_cache_is_looked_at(
    llmperf: Run, pytester: pytest.Pytester, models: Path
) -> None:
    pytester.makeconftest(VANISHING)
    result = llmperf(GROWING, apart=True)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["cache 2 MiB of models, 2 MiB more than before *"])
    assert not (models / ".tmp-llama-F16-b-x1").exists()


def test_only_the_process_that_reports_looks(llmperf: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(COUNTING)
    assert llmperf(GROWING.partition("    from")[0] + "    pass", "-n", "2", apart=True).ret == 5
    assert (pytester.path / "scans").read_text().split() == ["reports"] * 2
