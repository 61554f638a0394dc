"""How does the page become one file? Template, style, script and charts, and a way to write it.

The file holds everything it needs. Its content security policy names the page's own two scripts by
their hashes, so that no other can run whatever a test is called, and forbids every request. Vega
compiles its expressions (``unsafe-eval``) from specifications that are all ours.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from pytest_llmperf.report.html import drawing, figures, tokens
from pytest_llmperf.report.html.model import Page
from pytest_llmperf.report.html.one_test import told
from pytest_llmperf.report.html.overview import labels, machine_view, overview
from pytest_llmperf.report.html.sessions import Past, kept
from pytest_llmperf.report.html.several import chapters
from pytest_llmperf.report.merged import Machine

_PARTS = {"jinja2": "jinja2", "vl_convert": "vl-convert-python"}
REMEDY = 'pip install "pytest-llmperf[html]"'


def missing_parts() -> str | None:
    """What the page is made with and is not installed here, with the line that installs it."""
    missing = [name for part, name in _PARTS.items() if importlib.util.find_spec(part) is None]
    return f"needs {' and '.join(missing)}: {REMEDY}" if missing else None


def write_html(machines: Sequence[Machine], path: Path, past: Past = kept) -> None:
    """Write the page beside ``path`` and rename it there. Raises OSError, and what ``past`` may."""
    text = render(page_of(machines, past))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        beside.write_text(text, encoding="utf-8", errors="replace")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def page_of(machines: Sequence[Machine], past: Past = kept) -> Page:
    """Everything that is told of ``machines``."""
    names = labels(machines)
    dates = sorted({each.created[:10] for each in machines})
    tests = [
        told(test, machine, number, past)
        for number, machine in enumerate(machines)
        for test in machine.tests
    ]
    view = overview(machines)
    return Page(
        title=f"{view.chip.symbol} llmperf: {view.headline}",
        subtitle=f"{' to '.join(dates[:1] + dates[1:][-1:])} · {'; '.join(names)}",
        overview=view,
        machines=tuple(
            machine_view(each, name) for each, name in zip(machines, names, strict=True)
        ),
        tests=tuple(sorted(tests, key=lambda each: -each.rank)),
        chapters=tuple(chapters(machines)),
    )


def render(page: Page) -> str:
    """The page as HTML; everything that was measured or named by somebody is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = as_json
    script, library = _text("page.js"), charts()
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        "style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'unsafe-eval' '{_hash(script)}' '{_hash(library)}'"
    )
    return environment.get_template("page.html.j2").render(
        page=page,
        policy=policy,
        style=_text("style.css"),
        light=tokens.LIGHT,
        dark=tokens.DARK,
        script=script,
        charts=library,
        kinds={"kinds": figures.KINDS, "config": drawing.CONFIG},
    )


@functools.cache
def charts() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the package that carries them."""
    import vl_convert

    text = f"(()=>{{{vl_convert.javascript_bundle('window.vegaEmbed=vegaEmbed;')}}})();"
    if "</script" in text.lower() or "<!--" in text:
        raise RuntimeError("the chart library cannot stand within a page: it holds a script's end")
    return text


def _text(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def as_json(anything: object) -> str:
    """For a script element that is data: no ``<`` can end it."""
    text = json.dumps(anything, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
