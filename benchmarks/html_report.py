"""How large is a page of the HTML report, and how soon is it there?

    python benchmarks/html_report.py [--quick] [--json FILE]
    python benchmarks/html_report.py --measure RESULT.json
    python benchmarks/html_report.py --screenshots FOLDER RESULT.json …

The page of 200 tests with 50 sessions each, on two machines (made up, the same every time), is
opened from the disk in a fresh Chromium without network. First paint is the browser's own
``first-contentful-paint``, counted from the start of the navigation; a test counts as open when
the last of its charts is drawn. A filter is timed from the word to the next frame.

--measure makes a result like that of the pictures in docs: four sessions of html_example, one
after the other, recorded in a baseline of their own. --screenshots takes the pictures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from paired import Benchmark, Spread, Target, option_parser
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pytest_llmperf.report.html.writing import write_html  # noqa: E402 - the path comes first
from pytest_llmperf.report.merged import merge  # noqa: E402 - the path comes first
from pytest_llmperf.report.result import read_json  # noqa: E402 - the path comes first
from tests.unit.report.many_results import many_results  # noqa: E402 - the path comes first

TESTS, SESSIONS = 200, 50
RUNS, RUNS_QUICK = 20, 5
SIZE_MB = Target(most=5.0)
PAINT_S = Target(most=1.0)
CHROMIUM = os.environ.get("LLMPERF_BROWSER", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
EXAMPLE_SESSIONS = 4

_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_OPEN = """async () => {
  const test = document.querySelector("details.test[data-verdict=REGRESSED]");
  const began = performance.now();
  test.open = true;
  drawAll(test);
  const drawings = [...test.querySelectorAll(".drawing")];
  while (drawings.some((each) => each.dataset.drawn !== "done"))
    await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""
_FILTER = """async () => {
  const began = performance.now();
  document.getElementById("find").value = "mistral";
  filter();
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


def main() -> int:
    """Print the table, or take the pictures; the exit code is 1 when a target is missed."""
    parser = option_parser(__doc__)
    parser.add_argument("--measure", type=Path, metavar="RESULT")
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER")
    parser.add_argument("results", type=Path, nargs="*")
    options = parser.parse_args()
    if options.measure is not None:
        return measure(options.measure)
    if options.screenshots is not None:
        if not options.results:
            parser.error("--screenshots: name the results that the pictures are to show")
        return take_screenshots(options.screenshots, options.results)
    return time_the_page(options)


def time_the_page(options: argparse.Namespace) -> int:
    """Write the large page, and open it again and again."""
    assert __doc__ is not None
    benchmark = Benchmark(__doc__, options)
    runs = RUNS_QUICK if benchmark.quick else RUNS
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        page = Path(folder) / "report.html"
        machines = merge(many_results(Path(folder) / "machine", TESTS, SESSIONS))
        began = time.perf_counter()
        write_html(machines, page)
        writing_s = time.perf_counter() - began
        opened = [_times(page) for _ in range(runs)]
        size_mb = page.stat().st_size / 1e6
    benchmark.head("what:44", "median:12", "quartiles:16", "target:8")
    _tell(benchmark, f"{TESTS} tests × {SESSIONS} sessions, MB", [size_mb], SIZE_MB)
    _tell(benchmark, "written, s", [writing_s])
    for at, (what, target) in enumerate(
        [
            ("first paint, s", PAINT_S),
            ("the first test opened, its charts drawn, s", None),
            ("filtered by a word, s", None),
        ]
    ):
        _tell(benchmark, what, [each[at] for each in opened], target)
    return benchmark.finish()


def _times(file: Path) -> tuple[float, float, float]:
    """Of one fresh browser: first paint, a test opened, a filter; in seconds."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(offline=True).new_page()
        page.goto(file.as_uri())
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        found = tuple(page.evaluate(each) / 1e3 for each in (_PAINT, _OPEN, _FILTER))
        browser.close()
    return found[0], found[1], found[2]


def _tell(
    benchmark: Benchmark, what: str, values: list[float], target: Target | None = None
) -> None:
    spread = Spread.of(values)
    benchmark.row(
        what,
        f"{spread.median:.3g}",
        f"{spread.low:.3g}–{spread.high:.3g}" if len(values) > 1 else "",
        "–" if target is None else str(target),
        what=what,
        values=values,
        spread=spread,
    )
    if target is not None:
        benchmark.check(what, spread.median, target)


def measure(result: Path) -> int:
    """Run the example's sessions; red tests are part of it."""
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as folder:
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder,
            "-c", os.devnull, str(ROOT / "benchmarks" / "html_example"), "--llmperf",
            f"--llmperf-baselines={folder}/baselines", "--llmperf-record",
            "--llmperf-history=off", f"--llmperf-json={result.absolute()}",
        ]  # fmt: skip
        for _ in range(EXAMPLE_SESSIONS):
            code = subprocess.run(command, check=False).returncode
            if code not in {0, 1}:
                return code
    return 0


def take_screenshots(folder: Path, results: list[Path]) -> int:
    """The overview, a test in both themes, and what stands side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="llmperf-bench-") as place, sync_playwright() as driver:
        file = Path(place) / "report.html"
        write_html(merge({str(each): read_json(each) for each in results}), file)
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        _open(browser, file).screenshot(path=folder / "report-overview.png")
        for name, scheme in (("report-test", "light"), ("report-dark", "dark")):
            page = _open(browser, file, scheme)
            page.fill("#find", "test_chat[Q8_0]")
            page.locator("details.test:visible > summary").first.click()
            shown = "details[open]" if scheme == "light" else "details[open] .charts"
            _show(page, shown)
            page.screenshot(path=folder / f"{name}.png")
        page = _open(browser, file)
        _show(page, "#tradeoffs" if page.locator("#tradeoffs").count() else "#sweeps")
        page.screenshot(path=folder / "report-tradeoff.png")
        browser.close()
    return 0


def _open(browser: Browser, file: Path, scheme: str = "light") -> Page:
    context = browser.new_context(
        viewport={"width": 1120, "height": 740}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_function("![...document.querySelectorAll('[data-drawn=begun]')].length")
    page.wait_for_timeout(300)
    return page


def _show(page: Page, selector: str) -> None:
    """Scroll there; its charts are drawn when this returns."""
    page.locator(selector).first.evaluate("e => { drawAll(e); e.scrollIntoView(); }")
    page.wait_for_function("![...document.querySelectorAll('[data-drawn=begun]')].length")
    page.wait_for_timeout(300)


if __name__ == "__main__":
    sys.exit(main())
