"""How are a server's pages asked for and its streams read, without ever telling its key?

httpx carries the requests: one connection, no proxy, no retries, no time limit for an answer (the
host of the worker has one). A stream is handed on in the parts in which it was sent, each as soon
as it is here.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pytest_llmperf.backends.protocol import EngineEnded, EngineMissing, EngineRefused

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

MET_CAVEAT = (
    "the server was not started here: its memory is not seen, and a second look asks the same "
    "process again"
)
_CONNECT_S = 5.0
_PAGE_S = 10.0
"""How long a page may take that is no stream of tokens."""
_FEW_TOKENS = 8
_AT_ONCE_NS = 1_000_000
_QUOTED = 160
"""Characters of a server's own words that are quoted."""


def import_httpx() -> str:
    """Return its version. Raises EngineMissing."""
    try:
        import httpx
    except ImportError as error:
        raise EngineMissing(f"cannot import httpx: {error}") from error
    return str(httpx.__version__)


class NoAnswer(Exception):
    """Nobody answers at the address, or not as a server of this kind does."""


class ServerRefused(EngineRefused):
    """The server answered, and not with HTTP 200."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(f"the server answered HTTP {status}: {told}")
        self.status = status


class ServerApi:
    """The pages and streams of one server."""

    def __init__(self, url: str, key_variable: str | None = None) -> None:
        """``key_variable``: the environment variable that holds its key. Raises EngineRefused."""
        import httpx

        self.url = url
        self._errors = httpx.TransportError
        key = None if key_variable is None else read_key(key_variable)
        self._secret = None if key is None else _as_any_would_write(key)
        headers = {"Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=1, keepalive_expiry=None),
            trust_env=False,
        )

    def status(self, path: str) -> int:
        """HTTP status of a page. Raises NoAnswer."""
        return self._ask(path).status_code

    def get(self, path: str, kind: type[T]) -> T:
        """A page's JSON. Raises NoAnswer."""
        answer = self._ask(path)
        if answer.status_code != 200:
            raise NoAnswer(f"{self.url}{path} answers with HTTP {answer.status_code}")
        return self._decoded(path, answer.content, kind)

    def ask(self, path: str, body: object, kind: type[T]) -> T:
        """The JSON that answers a request. Raises NoAnswer, ServerRefused, EngineEnded."""
        lines = [line for part in self.post(path, body).lines() for line in part]
        return self._decoded(path, b"\n".join(lines), kind)

    def _decoded(self, path: str, content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            told = self.redacted(str(error))
            raise NoAnswer(f"{self.url}{path} answers with something else: {told}") from None

    def _ask(self, path: str) -> httpx.Response:
        try:
            return self._client.get(path, timeout=_PAGE_S)
        except self._errors as error:
            told = self.redacted(str(error))
            raise NoAnswer(f"no server answers at {self.url}: {told}") from None

    def post(self, path: str, body: object, timeout_s: float | None = None) -> Stream:
        """A request that is ready to be sent. ``timeout_s``: for each of its parts."""
        headers = {"Content-Type": "application/json"}
        content = msgspec.json.encode(body)
        request = self._client.build_request(
            "POST",
            path,
            content=content,
            headers=headers,
            timeout=(timeout_s or _CONNECT_S, timeout_s, timeout_s, timeout_s),  # to connect first
        )
        return Stream(self, request)

    @contextlib.contextmanager
    def sent(self, request: Any) -> Iterator[httpx.Response]:
        """The answer, its body still to come. Raises ServerRefused, EngineEnded."""
        try:
            answer = self._client.send(request, stream=True)
            try:
                if answer.status_code != 200:
                    told = answer.read().decode(errors="replace")
                    raise ServerRefused(answer.status_code, self.redacted(told))
                yield answer
            finally:
                answer.close()
        except self._errors as error:
            told = self.redacted(str(error))
            raise EngineEnded(f"the server at {self.url} broke off its answer: {told}") from None

    def redacted(self, text: str) -> str:
        """The words of others without the key, which some repeat in their errors, and short."""
        text = text if self._secret is None else self._secret.sub("[key]", text)
        return " ".join(text.split())[:_QUOTED]

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


class Stream:
    """One request and its answer, line by line."""

    def __init__(self, api: ServerApi, request: Any) -> None:
        self._api, self._request = api, request

    def lines(self) -> Iterator[list[bytes]]:
        """Send it; the whole lines that each part brought. Raises ServerRefused, EngineEnded."""
        rest = b""
        with self._api.sent(self._request) as answer:
            for part in answer.iter_raw():
                *whole, rest = (rest + part).split(b"\n")
                yield [line for line in whole if line.strip()]
        if rest.strip():
            yield [rest]


def read_key(variable: str) -> str:
    """The key that an environment variable holds. Raises EngineRefused, never quoting it."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise EngineRefused(f"the environment variable {variable} is not set (api_key_env)")
    if not (key.isascii() and key.isprintable()):
        raise EngineRefused(
            f"the environment variable {variable} (api_key_env) holds what no key can: "
            "a control character, or one that is not ASCII"
        )
    return key


def _as_any_would_write(key: str) -> re.Pattern[str]:
    """Finds it in plain text and in JSON, where a character may be escaped."""
    return re.compile("".join(rf"\\*(?:{re.escape(each)}|u00{ord(each):02x})" for each in key))


def held_back(instants_ns: Sequence[int], chunk_tokens: Sequence[int]) -> str | None:
    """Why a stream tells no speed: most of it came with the first token; None: it does.

    A proxy that buffers does this, and a server that lets TCP collect small packets (Nagle's
    algorithm, which waits some 40 ms for an acknowledgement). Of a few tokens nothing is said.
    """
    tokens = sum(chunk_tokens)
    first = sum(
        chunk
        for instant, chunk in zip(instants_ns, chunk_tokens, strict=False)
        if instant <= instants_ns[0] + _AT_ONCE_NS
    )
    if tokens < _FEW_TOKENS or 2 * first <= tokens:
        return None
    return (
        f"{first} of {tokens} tokens came at once: the stream is held back on its way, by a proxy "
        "or by TCP, and tells no times of tokens"
    )


def event_data(lines: list[bytes]) -> list[bytes]:
    """The data of server-sent events, one line each as all these servers write them.

    Comments and the names of events are left out.
    """
    return [line[5:].strip() for line in lines if line.startswith(b"data:")]
