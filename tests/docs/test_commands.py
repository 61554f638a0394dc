"""Would the command lines that the pages show be understood?"""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmperf import cli
from tests.docs.blocks import BLOCKS, PAGES, ROOT, Block, commands, parsed

COMMANDS = [
    pytest.param(line, block, id=f"{block.name} {line.split('#')[0].strip()}")
    for block, line in commands()
]
OPTION = r"(?<![\w-])--[a-z][a-z0-9-]*"
OTHERS = {"cd", "cat", "docker", "export", "git", "hf", "ollama", "python3"}
"""Programs that are not ours to check."""
FOREIGN = {
    "--cache-ram": "llama-server",
    "--enable-per-request-metrics": "vLLM's server",
    "--kv-cache-memory-bytes": "vLLM's server",
    "--load-format": "vLLM's server",
    "--kl-divergence": "llama-perplexity",
    "--benchmark-compare-fail": "pytest-benchmark",
    "--all": "nproc",
    "--create-home": "useradd",
    "--ephemeral": "the runner's config.sh",
}
"""Options that pages speak of and that are another program's."""


def checked_out(path: str) -> bool:
    return (ROOT / path).exists()


def targets() -> set[str]:
    """Of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def extras() -> set[str]:
    """Of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


def words_of(line: str) -> list[str]:
    """Of a command line: without the variables before it, ``exec``, and what follows a ``|``."""
    words = shlex.split(line, comments=True)
    while words and (words[0] == "exec" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
        words = words[1:]
    return words[: words.index("|")] if "|" in words else words


@pytest.mark.parametrize(("line", "block"), COMMANDS)
def test_a_command_line_is_understood(line: str, block: Block, pytester: pytest.Pytester) -> None:
    program, *words = words_of(line)
    name = Path(program).name
    if name == "pytest-llmperf":
        cli._parser(words).parse_args(words)
    elif name == "pytest":
        pytester.parseconfig(*words)
    elif name == "make":
        assert set(words) <= targets()
    elif name == "pip":
        for extra in re.findall(r"pytest-llmperf\[([\w,-]+)\]", line):
            assert set(extra.split(",")) <= extras()
    elif name == "python":
        assert words[0] == "-m" or checked_out(words[0]), line
    else:
        assert name in OTHERS, f"{block.name}: {program} is neither ours nor among OTHERS"


PLANS = sorted(
    line
    for _, line in commands()
    if line.startswith("pytest-llmperf plan") and re.search("--(vram|device)", line)
)


@pytest.mark.parametrize("line", PLANS)
def test_a_plan_is_made(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, *words = words_of(line)
    assert cli.main(words) in {0, 1}
    assert "runs on" in capsys.readouterr().out


def cli_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Of a command and of all below it."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from cli_options(each)


def told_options() -> Iterator[tuple[str, str]]:
    """Each ``--option`` that a page speaks of in a word of code, and the page."""
    for page in PAGES:
        for token in parsed(page.read_text(encoding="utf-8")):
            for child in token.children or []:
                if child.type == "code_inline":
                    for option in re.findall(OPTION, child.content):
                        yield option, page.name


def test_every_option_that_a_page_speaks_of_exists(pytester: pytest.Pytester) -> None:
    known = set(re.findall(OPTION, pytester.runpytest_subprocess("--help").stdout.str()))
    known |= set(cli_options(cli._parser([])))
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(rf'"({OPTION})"', script.read_text(encoding="utf-8")))
    strangers = {(option, page) for option, page in told_options() if option not in known}
    assert {option for option, _ in strangers} - set(FOREIGN) == set(), strangers


def test_the_options_of_others_are_still_spoken_of() -> None:
    told = {option for option, _ in told_options()}
    assert set(FOREIGN) <= told


def test_every_command_has_its_help_among_the_commands() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^<!-- help: pytest-llmperf ?(.*?) -->$", page, re.MULTILINE))
    assert shown == {"", *every_command(cli._parser([]), "")}


def test_every_option_says_what_it_is() -> None:
    assert list(silent(cli._parser([]), "pytest-llmperf")) == []


def silent(parser: argparse.ArgumentParser, command: str) -> Iterator[str]:
    """Options without a word of help, of a command and of all below it."""
    for action in parser._actions:
        if action.option_strings and not any(map(str.isalpha, action.help or "")):
            yield f"{command} {action.option_strings[0]}"
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield from silent(each, f"{command} {name}")


def every_command(parser: argparse.ArgumentParser, above: str) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                path = f"{above} {name}".strip()
                yield path
                yield from every_command(each, path)


def test_there_are_command_lines() -> None:
    assert len(COMMANDS) > 30
    assert len(PLANS) > 3
    assert {block.language for block in BLOCKS} >= {"console", "python", "text"}
