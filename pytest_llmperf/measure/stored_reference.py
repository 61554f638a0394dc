"""What did a reference say of a text? Kept in a file, for where it does not fit or is not.

The file is a numpy archive: ``head``, JSON in bytes, and for each window an array of float16,
(scored positions, vocabulary): the logarithm of each token's probability. It is read without
trust: nothing in it is unpickled, and what does not agree with its head is refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from pytest_llmperf.measure.archive import BadArchive, read_array
from pytest_llmperf.measure.quality import log_shares
from pytest_llmperf.measure.reading import LEAST_WINDOW, TextRequest, find_text
from pytest_llmperf.measure.scoring import (
    Passage,
    read_logits,
    read_passage,
    require_one_vocabulary,
    require_room,
)
from pytest_llmperf.worker.errors import EngineRefusal
from pytest_llmperf.worker.pool import LoadedModel

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from pytest_llmperf.measure.quality import Logits

SUFFIX = ".llmperf-logits"
FORMAT = "pytest-llmperf-logits"
VERSION = 1
_LEAST = -60000.0
"""The smallest logarithm that is stored; float16 ends at −65504."""
_BLOCK_ROWS = 64
_Count = Annotated[int, msgspec.Meta(ge=1)]


class BadReference(Exception):
    """A stored reference cannot be used; the message names the file and what to do."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the file is of."""

    format: str
    version: int
    model: str
    """In words."""
    text: str
    """Name of the text."""
    passage: str
    """Digest of its windows' tokens."""
    windows: _Count
    window_tokens: Annotated[int, msgspec.Meta(ge=LEAST_WINDOW)]
    vocab_size: _Count


class StoredReference:
    """A :class:`pytest_llmperf.measure.reference.Reference` from a file."""

    def __init__(self, path: Path) -> None:
        """Raises BadReference."""
        self._path = path
        if not path.is_file():
            raise BadReference(f"against={path}: no such file; {_how_to_make(path)}")
        self._head = self._read_head()

    def _read_head(self) -> Head:
        data = self._array("head", np.uint8).tobytes()
        try:
            kind = msgspec.json.decode(data, type=_Kind)
            if (kind.format, kind.version) == (FORMAT, VERSION):
                return msgspec.json.decode(data, type=Head)
        except msgspec.DecodeError as error:
            raise self._broken(error) from error
        raise BadReference(
            f"{self._path}: is {kind.format} {kind.version}, this release reads {FORMAT} "
            f"{VERSION}; {_how_to_make(self._path)}"
        )

    @property
    def title(self) -> str:
        """Which model it is, in words."""
        return self._head.model

    @property
    def vocab_size(self) -> int:
        """Columns of its logits."""
        return self._head.vocab_size

    @property
    def window_tokens(self) -> int | None:
        """Those of the file: another length would give other windows."""
        return self._head.window_tokens

    def require_same_tokens(self, model: LoadedModel, passage: Passage) -> None:
        """Raises EngineRefusal for another text or another vocabulary."""
        head = self._head
        if passage.digest != head.passage:
            raise EngineRefusal(
                f"{self._path} is of other tokens: of {head.windows} windows of {head.text}, by "
                f"{head.model}. Read the same text (text=…) with a model of the same vocabulary"
            )
        require_one_vocabulary(model, head.vocab_size, str(self._path))

    def logits(self, passage: Passage, number: int) -> Logits:
        """Of the scored positions of one window, (positions, vocabulary). Raises BadReference."""
        shape = (len(passage.windows[number]) - passage.first, self.vocab_size)
        shares = self._array(f"window_{number}", np.float16, shape)
        if not np.isfinite(shares).all():
            raise self._broken(f"window_{number} holds what is no finite number")
        return shares.astype(np.float32)

    def _array(
        self, name: str, kind: DTypeLike, shape: tuple[int, ...] | None = None
    ) -> np.ndarray:
        try:
            return read_array(self._path, name, kind, shape)
        except BadArchive as error:
            raise self._broken(error) from error

    def _broken(self, why: object) -> BadReference:
        return BadReference(
            f"{self._path}: no stored reference, or not all of one ({why}); "
            f"{_how_to_make(self._path)}"
        )


class _Kind(msgspec.Struct):
    format: str
    version: int


def _how_to_make(path: Path) -> str:
    return f"pytest-llmperf reference MODEL {path.name} makes one"


def store(
    model: LoadedModel,
    text: TextRequest,
    target: Path,
    timeout_s: float,
    say: Callable[[str], None],
) -> Head:
    """Have ``model`` read a text, and keep what it says.

    Written beside the target and renamed. Raises BadText, WorkerError, NoDistribution, OSError.
    """
    require_room(model, text.window_tokens, "windows are asked for")
    passage = read_passage(model, find_text(text.name), timeout_s, text.window_tokens)
    model.has_read = True
    head = Head(
        format=FORMAT,
        version=VERSION,
        model=model.loading.title,
        text=passage.name,
        passage=passage.digest,
        windows=len(passage.windows),
        window_tokens=len(passage.windows[0]),
        vocab_size=model.engine.vocab_size,
    )
    beside = target.with_name(f".{target.name}.tmp")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            _write(archive, "head", np.frombuffer(msgspec.json.encode(head), np.uint8))
            for number in range(head.windows):
                say(f"reads window {number + 1} of {head.windows}")
                said = read_logits(model, passage, number, timeout_s)
                _write(archive, f"window_{number}", _rounded(said))
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return head


def _write(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _rounded(logits: Logits) -> np.ndarray:
    """As float16, block by block: a whole window in float64 takes four times as much."""
    blocks = (logits[at : at + _BLOCK_ROWS] for at in range(0, len(logits), _BLOCK_ROWS))
    return np.concatenate(
        [np.maximum(log_shares(block), _LEAST).astype(np.float16) for block in blocks]
    )
