"""A server with OpenAI's completions interface that does one thing wrong, as real ones cannot be
made to.

    python tests/backends/faulty_server.py PORT FAULT

Its tokens are 1, 2, 3 …, told by their ids as vLLM tells them.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULT = sys.argv[2]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(503 if FAULT == "never-ready" else 404, {})
            return
        names = ["one", "two"] if FAULT == "two-models" else ["one"]
        cards = [{"id": name, "meta": {"n_vocab": 100, "n_ctx": 64}} for name in names]
        if FAULT == "says-nothing":
            cards = [{"id": "one"}]
        if FAULT == "wants-a-key" and self.headers["Authorization"] != "Bearer opensesame":
            self.answer(401, {"error": f"wrong key {self.headers['Authorization']}"})
            return
        self.answer(200 if self.path == "/v1/models" else 404, {"data": cards})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told = f"no prompts today, {self.headers['Authorization']}"
        print("key:", os.environ.get("THE_KEY"), self.headers["Authorization"], file=sys.stderr)
        if self.path == "/tokenize":
            begin = [99] if FAULT == "begins" and body["add_special_tokens"] else []
            ids = begin + [each % 90 for each in body["prompt"].encode()]
            self.answer(404 if FAULT == "no-tokens" else 200, {"tokens": ids})
            return
        if "prompt_logprobs" in body:
            self.answer(200, {"choices": [self.shares(body["prompt"])]})
            return
        if FAULT.isdecimal():
            self.answer(int(FAULT), {"error": told})
            return
        if FAULT == "refuses" or (FAULT == "refuses-later" and len(body["prompt"]) > 8):
            self.answer(400, {"error": told})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.stream(body["prompt"], body["max_tokens"])

    def shares(self, prompt: list[int]) -> dict[str, Any]:
        """Each token has a chance of 1/4; an even one is the likeliest, of an odd one the next."""
        if FAULT == "no-shares":
            return {}
        own, first = {"logprob": math.log(0.25)}, {"logprob": math.log(0.5), "rank": 1}
        if FAULT == "wrong-shares":
            own["logprob"] = 0.5
        told: list[Any] = [
            {str(each): own | {"rank": 2}, str(each + 1): first}
            if each % 2
            else {str(each): own | {"rank": 1}}
            for each in prompt
        ]
        return {"prompt_logprobs": [None, *told[1 : -1 if FAULT == "few-shares" else None]]}

    def stream(self, prompt: list[int], count: int) -> None:
        self.held = b""
        is_trial = len(prompt) == 8
        each = 3 if FAULT == "chunks" else 1
        sent = 0
        while sent < count:
            ids = list(range(1, count + 1))[sent : sent + each]
            sent += len(ids)
            choice: dict[str, Any] = {"index": 0, "text": "x" * len(ids)}
            if FAULT != "no-counts":
                choice["token_ids"] = ids
            self.part({"choices": [choice]})
            time.sleep(0.005)
            if not is_trial and sent >= count // 2:
                self.strike()
        usage: dict[str, Any] = {"prompt_tokens": len(prompt), "completion_tokens": count}
        if FAULT == "usage-differs":
            usage["completion_tokens"] += 2
        if FAULT == "prompt-differs":
            usage["prompt_tokens"] += 1
        if FAULT != "silent-cache":
            usage["prompt_tokens_details"] = {"cached_tokens": 5 if FAULT == "cached" else 0}
        if FAULT != "no-usage":
            self.part({"choices": [], "usage": usage})
        self.write(self.held + b"data: [DONE]\n\n")
        self.write(b"")

    def strike(self) -> None:
        if FAULT == "dies":
            print("the faulty server has had enough", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT == "breaks-off":
            told = f"out of cheese, {self.headers['Authorization']}"
            self.part({"error": {"message": told}})
        if FAULT == "hangs":
            time.sleep(3600)

    def part(self, event: dict[str, Any]) -> None:
        text = b": a comment\n" + b"data: " + json.dumps(event).encode() + b"\n\n"
        if FAULT == "held-back":
            self.held += text
        else:
            self.write(text)

    def write(self, chunk: bytes) -> None:
        self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        self.wfile.flush()

    def answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if FAULT == "dies-at-once":
    sys.exit("the faulty server does not even start")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
