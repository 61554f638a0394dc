"""Are the blocks of a page found, with what is said of them, and the commands in them?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import blocks
from tests.docs.blocks import Block, blocks_of, commands_of

PAGE = """
# A page

<!-- not run: it needs a GPU of its own -->
```python
load_model("x")
```

<!-- run: red -->

```python title="x"
pass
```

    pass  # not fenced

- in a list:

  ```console
  $ make test   # all
  done
  ```
"""
JOBS = """
jobs:
  perf:
    steps:
      - run: |
          pip install .
          exec pytest --llmperf \\
            --llmperf-json=${{ matrix.name }}.json
      - uses: actions/checkout
perf:
  script:
    - pytest-llmperf doctor
"""
PIPELINE = """
steps {
    sh 'python3 -m venv env'
    sh 'exec env/bin/pytest --llmperf'
}
"""


def test_blocks_are_found_with_what_stands_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert list(blocks_of(page)) == [
        Block("page.md", 5, "python", 'load_model("x")\n', "not run", "it needs a GPU of its own"),
        Block("page.md", 11, "python", "pass\n", "run", "red"),
        Block("page.md", 19, "console", "$ make test   # all\ndone\n"),
    ]


@pytest.mark.parametrize(
    ("language", "text", "lines"),
    [
        ("console", "$ pytest \\\n    -x\n1 passed\n", ["pytest      -x"]),
        ("sh", "# first\npytest -x\n\n", ["pytest -x"]),
        ("yaml", JOBS, ["exec pytest --llmperf    --llmperf-json=X.json", "pytest-llmperf doctor"]),
        ("yaml", 'run: exec "$BIN/pytest" -x\n', ['exec "$BIN/pytest" -x']),
        ("groovy", PIPELINE, ["exec env/bin/pytest --llmperf"]),
        ("text", "$ pytest\n", []),
    ],
)
def test_the_commands_of_a_block(language: str, text: str, lines: list[str]) -> None:
    found = [" ".join(line.split()) for line in commands_of(Block("p", 1, language, text))]
    assert found == [" ".join(line.split()) for line in lines]
