"""How does a test start a process on a machine whose GPUs are scripted?

By the variables that it gives it: a folder with the trace of a driver, and a driver library whose
every answer stands in a file (``tests/unit/hardware/scripted_pynvml.py``).
"""

from __future__ import annotations

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
