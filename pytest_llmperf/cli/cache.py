"""What lies in the cache, how large is it, and what of it may go?"""

from __future__ import annotations

import argparse
import datetime
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from pytest_llmperf.cli.answer import TOOL_FAILED, complain, print_json, say
from pytest_llmperf.models.cache import cache_root
from pytest_llmperf.models.pruning import Cached, chosen, contents
from pytest_llmperf.models.removal import Outcome, in_use, remove
from pytest_llmperf.report import words
from pytest_llmperf.report.grid import grid

_GIB = 2**30


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    told = "what lies in the cache: look, prune"
    parser = commands.add_parser("cache", help=told, description=told)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_list)
    acts = parser.add_subparsers(title="commands", metavar="COMMAND")
    told = "remove models that nobody uses now, and what dead builds left behind"
    prune = acts.add_parser("prune", help=told, description=told)
    prune.add_argument(
        "--older-than", type=_amount, default=0.0, metavar="DAYS", help="not used for so long"
    )
    prune.add_argument(
        "--keep-gb", type=_amount, default=0.0, metavar="N", help="so much of models may stay"
    )
    prune.add_argument(
        "--environments", action="store_true", help="those too, which make has to make again"
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    prune.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    prune.set_defaults(run=_prune)


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, not {text!r}")
    return value


def _list(options: argparse.Namespace) -> int:
    root = cache_root()
    found = contents(root)
    if options.json:
        print_json({"root": str(root), "contents": [msgspec.to_builtins(each) for each in found]})
        return 0
    say(f"{root}: {words.size(_bytes(found))}", *_lines(found))
    return 0


def _prune(options: argparse.Namespace) -> int:
    choice = chosen(
        contents(cache_root()),
        is_used=in_use,
        now_s=time.time(),
        older_than_days=options.older_than,
        keep_bytes=int(options.keep_gb * _GIB),
        environments=options.environments,
    )
    ended = [(each, Outcome.GONE if options.dry_run else remove(each)) for each in choice.go]
    gone, taken, stuck = (
        [each for each, outcome in ended if outcome is kind]
        for kind in (Outcome.GONE, Outcome.IN_USE, Outcome.STUCK)
    )
    used = [*choice.used, *taken]
    if options.json:
        print_json({"freed": gone, "used": used, "stuck": stuck, "dry_run": options.dry_run})
    else:
        verb = "would free" if options.dry_run else "freed"
        say(f"{verb} {words.size(_bytes(gone))}", *_lines(gone))
        if used:
            say(f"in use, and left alone: {words.size(_bytes(used))}", *_lines(used))
    for each in stuck:
        complain(
            f"pytest-llmperf cache prune: {each.path} could not be removed, or not all of it: is "
            f"it yours, and can {Path(each.path).parent} be written to?"
        )
    return TOOL_FAILED if stuck else 0


def _lines(found: Sequence[Cached]) -> list[str]:
    """The largest first."""
    rows = [
        (Path(each.path).name, each.kind, words.size(each.bytes), _date(each.used_s))
        for each in sorted(found, key=lambda each: -each.bytes)
    ]
    return grid([("", "", "size", "last used"), *rows]) if rows else []


def _date(stamp_s: float) -> str:
    return datetime.datetime.fromtimestamp(stamp_s, datetime.UTC).strftime("%Y-%m-%d")


def _bytes(found: Iterable[Cached]) -> int:
    return sum(each.bytes for each in found)
