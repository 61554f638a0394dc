"""What does llama.cpp itself say that a model takes, without loading it? Run as a child process.

    python benchmarks/llama_oracle.py FILE OPTIONS

OPTIONS is a JSON object of n_ctx, n_seq_max, type_k, type_v (numbers of GGML types). Loads with
`no_alloc`, which allocates nothing, and prints as JSON the bytes of all tensors and what the log
says of the cache, in MiB as it prints them.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys

_CACHE = re.compile(r"llama_kv_cache\w*: +size = +([0-9.]+) MiB")


def main() -> int:
    """Print one object."""
    import llama_cpp

    lines: list[str] = []

    def keep(_level: int, text: bytes, _data: object) -> None:
        lines.append(text.decode(errors="replace"))

    callback = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.no_alloc = True
    params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), params)
    wanted = llama_cpp.llama_context_default_params()
    for name, value in json.loads(sys.argv[2]).items():
        setattr(wanted, name, value)
    context = llama_cpp.llama_init_from_model(model, wanted)
    told = _CACHE.findall("".join(lines))
    print(json.dumps({
        "made": bool(model and context),
        "tensor_bytes": int(llama_cpp.llama_model_size(model)),
        "cache_mib": [float(each) for each in told],
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
