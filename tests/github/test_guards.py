"""Are the workflows that use a machine of our own as guarded as docs/ci.md says?"""

from __future__ import annotations

from typing import Any

from tests.github.job import ROOT, read


def workflow(name: str) -> dict[str, Any]:
    return read(ROOT / ".github" / "workflows" / name)


def test_a_night_waits_for_no_reviewer() -> None:
    """A pull request does: of its environment docs/ci.md requires it."""
    assert workflow("gpu.yml")["jobs"]["measure"]["environment"] == "gpu"
    assert workflow("nightly.yml")["jobs"]["measure"]["environment"] == "gpu-nightly"
    told = (ROOT / "docs" / "ci.md").read_text()
    assert "`gpu` with *Required reviewers*" in told
    assert "`gpu-nightly`, without reviewers" in told
