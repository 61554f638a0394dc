"""A *constructed* stand-in for ollama: it streams as the published description says, and no more.

    python tests/backends/ollama_stand_in.py PORT FAULT

It proves that our adapter understands that description, not that ollama keeps to it. Sources:
docs/api.md of github.com/ollama/ollama (fields of ``/api/generate``, ``/api/tags``,
``/api/version``; durations in nanoseconds); ``logprobs`` as in ollama/_types.py of
github.com/ollama/ollama-python. Words are tokens, with one token before every prompt.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULT = sys.argv[2]
STEP_S = 0.01
loaded: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        pages: dict[str, object] = {
            "/api/version": {"version": "0.0.0"},
            "/api/tags": {"models": [{"name": "tiny:latest", "size": 1}]},
            "/api/ps": {"models": [{"name": name} for name in sorted(loaded)]},
        }
        text = json.dumps(pages[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_goodbye = body.get("keep_alive") == 0
        if is_goodbye and FAULT == "hangs-at-the-end":
            time.sleep(3600)
        self.send_response(500 if is_goodbye and FAULT == "refuses-at-the-end" else 200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if "prompt" not in body:
            (loaded.discard if is_goodbye else loaded.add)(body["model"])
            self.line({"response": "", "done": True})
            return
        assert body["raw"]
        assert body["stream"]
        self.stream(len(body["prompt"].split()) + 1, body["options"]["num_predict"])

    def stream(self, prompt_tokens: int, count: int) -> None:
        began = time.perf_counter_ns()
        time.sleep(STEP_S)
        read = time.perf_counter_ns()
        made = count - 1 if FAULT == "ends-early" and count > 2 else count
        for position in range(made):
            line: dict[str, Any] = {"response": " word", "done": False}
            if FAULT != "no-logprobs":
                line["logprobs"] = [{"token": " word", "logprob": -1.0}]
            self.line(line)
            if position < made - 1:
                time.sleep(STEP_S)
        self.line(
            {
                "response": "",
                "done": True,
                "done_reason": "stop" if made < count else "length",
                "prompt_eval_count": prompt_tokens + (FAULT == "cached" and prompt_tokens > 40),
                "prompt_eval_duration": read - began,
                "eval_count": made,
                "eval_duration": time.perf_counter_ns() - read,
            }
        )

    def line(self, values: dict[str, Any]) -> None:
        self.wfile.write(json.dumps({"model": "tiny:latest", **values}).encode() + b"\n")
        self.wfile.flush()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
