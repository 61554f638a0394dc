"""What was it before? The database of all sessions: for trends, never for verdicts.

Importing this room imports SQLAlchemy, which takes longer than the start of the whole plugin:
import it inside the function that needs it.
"""

from pytest_llmperf.history.database import HistoryError
from pytest_llmperf.history.schema import (
    Acceptance,
    Invocation,
    JudgedPair,
    SessionFacts,
    SessionRecord,
    Value,
)
from pytest_llmperf.history.store import History, Point

__all__ = [
    "Acceptance",
    "History",
    "HistoryError",
    "Invocation",
    "JudgedPair",
    "Point",
    "SessionFacts",
    "SessionRecord",
    "Value",
]
