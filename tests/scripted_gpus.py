"""How does a test start a process on a machine whose GPUs are scripted?

By the variables that it gives it: a folder with the trace of a driver, and a driver library whose
every answer stands in a file (``tests/unit/hardware/scripted_pynvml.py``).
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent / "unit/hardware/scripted_pynvml.py"


def scripted_gpus(folder: Path, uuids: Sequence[str], path: str = "") -> dict[str, str]:
    """Environment of a machine with these GPUs; ``path``: PYTHONPATH as it was."""
    library = folder / "driver"
    library.mkdir(parents=True)
    shutil.copy(LIBRARY, library / "pynvml.py")
    (library / "libnvidia-ml.so.1").touch()
    state = library / "state.json"
    tell(state, [gpu(uuid) for uuid in uuids])
    return {
        "PYTHONPATH": f"{library}:{path}" if path else str(library),
        "LD_LIBRARY_PATH": str(library),
        "NVML_SCRIPT": "state",
        "NVML_STATE": str(state),
    }


def gpu(uuid: str, **changed: Any) -> dict[str, Any]:
    """What one GPU answers while nobody uses it."""
    return {"uuid": uuid, "used": 1 << 28, "violations": {}, "processes": [], **changed}


def tell(state: Path, gpus: Sequence[dict[str, Any]], act: str | None = None) -> None:
    """Have the driver answer so from now on."""
    changed = state.with_suffix(".new")
    changed.write_text(json.dumps({"act": act, "gpus": list(gpus)}))
    changed.replace(state)


def requests(journal: Path) -> list[dict[str, Any]]:
    """What the scripted engines wrote down: when they computed, and on which GPUs."""
    return [json.loads(line) for line in journal.read_text().splitlines()]


def sections(found: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """By GPU, from the first to the last request of each worker: what lies between is its own."""
    by_worker: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for each in found:
        for gpu in each["gpus"].split(","):
            by_worker.setdefault((gpu, each["pid"]), []).append(each)
    told: dict[str, list[tuple[float, float]]] = {}
    for (gpu, _), mine in by_worker.items():
        section = (min(each["began"] for each in mine), max(each["ended"] for each in mine))
        told.setdefault(gpu, []).append(section)
    return told


def overlaps(spans: Sequence[tuple[float, float]]) -> list[object]:
    """Pairs of them that have a moment in common."""
    return [(a, b) for a, b in itertools.pairwise(sorted(spans)) if b[0] < a[1]]
