"""A page of the report in a real Chromium: opened from the disk, offline, every request noted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from pytest_llmperf.report.html.writing import write_html
from pytest_llmperf.report.merged import merge
from pytest_llmperf.report.result import RunResult
from tests.unit.report.many_results import many_results

DEBIANS = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class Opened:
    """A page, and what it did that it should not."""

    page: Page
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """On the console, or as an error that nobody caught."""


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Skips where there is none; ``make browser`` names one, whose absence is an error."""
    named = os.environ.get("LLMPERF_BROWSER")
    path = Path(named) if named else DEBIANS
    if not path.exists():
        if named:
            pytest.fail(f"LLMPERF_BROWSER: there is no {named}")
        pytest.skip(f"there is no {path}: apt-get install chromium, or set LLMPERF_BROWSER")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a file as somebody would who has no network; it must ask for nothing else."""
    opened: list[Opened] = []

    def open_it(
        file: Path,
        *,
        fragment: str = "",
        width: int = 1280,
        height: int = 900,
        scheme: Literal["light", "dark"] = "light",
    ) -> Opened:
        context = browser.new_context(
            offline=True, viewport={"width": width, "height": height}, color_scheme=scheme
        )
        found = Opened(context.new_page())
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.goto(f"{file.as_uri()}{fragment}")
        opened.append(found)
        return found

    yield open_it
    for each in opened:
        asked = [url for url in each.requests if not url.startswith("file:")]
        files = [url for url in each.requests if url.startswith("file:")]
        each.page.context.close()
        assert not asked, "the page asked for something"
        assert len(set(files)) == 1, f"the page asked for other files: {files}"
        assert not each.said, "the console is silent"


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """88 tests on two machines."""
    return many_results(tmp_path_factory.mktemp("machine"), tests=88, sessions=12)


@pytest.fixture(scope="session")
def report(results: dict[str, RunResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_html(merge(results), path)
    return path


@pytest.fixture
def page_of_one(results: dict[str, RunResult], tmp_path: Path) -> Callable[..., Path]:
    """The page of one result with changes."""

    def write(**changes: object) -> Path:
        result = msgspec.structs.replace(results["here.json"], **changes)
        write_html(merge({"here.json": result}), tmp_path / "one.html")
        return tmp_path / "one.html"

    return write
