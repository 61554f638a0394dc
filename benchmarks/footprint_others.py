"""What do others say before a load? Run as a child process: it imports torch.

    python benchmarks/footprint_others.py FOLDER

Prints, as JSON by the name of each folder in FOLDER that holds a config.json, the elements of the
model that accelerate's `estimate-memory` counts (`calculate_maximum_sizes` of the model on the meta
device, in bytes of float32).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    """Print one object."""
    import torch
    import transformers
    from accelerate.utils import calculate_maximum_sizes

    found = {}
    for path in sorted(Path(sys.argv[1]).glob("*/config.json")):
        config = transformers.AutoConfig.from_pretrained(path.parent)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        total, _ = calculate_maximum_sizes(model)
        found[path.parent.name] = total
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
