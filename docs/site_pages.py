"""What does the site show that is no file of docs/? Files that pages link to, and helps.

A hook of MkDocs (mkdocs.yml). A link that leaves docs/ is followed into the repository: the file
becomes a page. ``<!-- help: pytest-llmperf run -->`` becomes what that command says of itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
from pathlib import Path
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
WHOLE_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages that stand beside docs/, and where the site has them."""
_LEAVING = re.compile(r"\]\(\.\./([^)#\s]+)\)")
_HELP = re.compile(r"^<!-- help: (.+?) -->$", re.MULTILINE)
_INTO_DOCS = re.compile(r"\]\(docs/")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside docs/, and every file of the repository that a page links to."""
    linked: set[str] = set()
    for page in files.documentation_pages():
        linked |= set(_LEAVING.findall(page.content_string))
    for name, uri in WHOLE_PAGES.items():
        text = _INTO_DOCS.sub("](", (ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, uri, content=text))
    for name in sorted(linked - set(WHOLE_PAGES)):
        text = f"# {name}\n\n```python\n{(ROOT / name).read_text(encoding='utf-8')}```\n"
        place = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, _page_of(name), content=text, inclusion=place))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point what leaves docs/ to the pages made above, and put the helps in their places."""
    del config, files
    folder = posixpath.dirname(page.file.src_uri)

    def inside(link: re.Match[str]) -> str:
        return f"]({posixpath.relpath(_page_of(link[1]), folder or '.')})"

    def told(place: re.Match[str]) -> str:
        return f"```text\n{help_of(place[1])}```"

    return _HELP.sub(told, _LEAVING.sub(inside, markdown))


def help_of(command: str) -> str:
    """What ``pytest-llmperf …`` prints with ``--help``, 80 columns wide."""
    from pytest_llmperf.cli import main

    program, *words = command.split()
    if program != "pytest-llmperf":
        raise ValueError(f"help of {command!r}: only pytest-llmperf's own is known here")
    output = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        main([*words, "--help"])
    return output.getvalue()


def _page_of(name: str) -> str:
    return WHOLE_PAGES.get(name, f"repository/{name}.md")
