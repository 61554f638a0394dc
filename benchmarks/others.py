"""How fast does another program answer the same requests?

    python benchmarks/others.py '{"type": "Streamed", …}'

One process, one model, one untimed request, then the timed ones; prints the median of tokens per
second, each request timed from the call until its last token is there.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import msgspec

from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.worker.environment import worker_environment


class Streamed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`llama_cpp.Llama`, streaming a completion."""

    path: str
    n_ctx: int
    n_threads: int
    n_batch: int
    n_ubatch: int
    vocab_size: int
    workload: Workload
    repeats: int


class Generated(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """transformers' `model.generate`, without a streamer."""

    path: str
    num_threads: int
    attn_implementation: str
    workload: Workload
    repeats: int


def ask(asked: Streamed | Generated) -> float:
    """Answer in a process of its own, with the environment that our workers have."""
    command = [sys.executable, __file__, msgspec.json.encode(asked).decode()]
    return float(output(command))


def output(command: list[str]) -> str:
    """What a program prints; its log is shown when it fails. Raises CalledProcessError."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=worker_environment(os.environ)
    )
    if done.returncode != 0:
        sys.stderr.write(done.stderr[-8000:])
    done.check_returncode()
    return done.stdout


def stream(asked: Streamed) -> float:
    """Tokens/s. A request that meets an end of sequence does not count; the next takes its place.

    Raises RuntimeError when too many do.
    """
    import llama_cpp

    llama = llama_cpp.Llama(
        asked.path,
        n_ctx=asked.n_ctx,
        n_threads=asked.n_threads,
        n_threads_batch=asked.n_threads,
        n_batch=asked.n_batch,
        n_ubatch=asked.n_ubatch,
        flash_attn=True,
        verbose=False,
    )
    new, values = asked.workload.new_tokens, []
    most = 3 * (asked.repeats + 1)
    for position in range(most):
        (prompt,) = asked.workload.request(position, asked.vocab_size).prompts
        began, last = time.perf_counter(), {}
        for part in llama.create_completion(prompt, stream=True, max_tokens=new, temperature=0.0):
            last = part
        seconds = time.perf_counter() - began
        if last["choices"][0]["finish_reason"] == "length":
            values.append(new / seconds)
        if len(values) > asked.repeats:
            return statistics.median(values[1:])
    raise RuntimeError(f"of {most} requests most ended before {new} tokens")


def generate(asked: Generated) -> float:
    """Tokens/s of greedy decoding that ignores the end of a sequence."""
    import torch
    import transformers

    torch.set_num_threads(asked.num_threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        asked.path,
        dtype="auto",
        attn_implementation=asked.attn_implementation,
        local_files_only=True,
    )
    model.eval()
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, num_beams=1, use_cache=True, eos_token_id=None, pad_token_id=0
    )
    vocabulary = model.get_input_embeddings().weight.shape[0]
    new, values = asked.workload.new_tokens, []
    for position in range(asked.repeats + 1):
        inputs = torch.tensor(asked.workload.request(position, vocabulary).prompts)
        mask = torch.ones_like(inputs)
        with torch.inference_mode():
            began = time.perf_counter()
            answer = model.generate(inputs, attention_mask=mask, max_new_tokens=new)
            seconds = time.perf_counter() - began
        if answer.shape[1] != inputs.shape[1] + new:
            raise RuntimeError(f"{answer.shape[1] - inputs.shape[1]} tokens instead of {new}")
        values.append(new / seconds)
    return statistics.median(values[1:])


def main() -> None:
    """Answer the request on the command line."""
    either: type[Streamed | Generated] = Streamed | Generated  # type: ignore[assignment]  # mypy reads a union as no type
    asked = msgspec.json.decode(sys.argv[1], type=either)
    print(stream(asked) if isinstance(asked, Streamed) else generate(asked))


if __name__ == "__main__":
    main()
