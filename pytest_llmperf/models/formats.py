"""In which formats do models lie on the disk?"""

from __future__ import annotations

from typing import Literal

Format = Literal["gguf", "hf", "onnx"]
"""``gguf``: one GGUF file (or its shards). ``hf``: a Hugging Face folder of safetensors. ``onnx``:
a folder of onnxruntime-genai."""
