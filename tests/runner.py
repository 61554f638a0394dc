"""Which lines of a log does the runner of GitHub Actions take for commands?

As its source has it (actions/runner, ActionCommand and ActionCommandManager): ``::name …::`` at the
start of a line, blanks before it left out, or ``##[name …]`` anywhere in it; none between
``::stop-commands::WORD`` and ``::WORD::``.
"""

from __future__ import annotations

import re

_COMMAND = re.compile(r"\s*::(?P<new>[^:\s]+)(?: [^\n]*?)?::|.*?##\[(?P<old>[^\]\s]+)[^\]]*\]")


def commands_in(log: str) -> list[str]:
    """The lines that are commands and are not hushed, nor hush others."""
    found = []
    resume: str | None = None
    for line in re.split(r"\r\n|\r|\n", log):
        seen = _COMMAND.match(line)
        name = seen and (seen["new"] or seen["old"])
        if resume is not None:
            resume = None if name == resume else resume
        elif name == "stop-commands":
            resume = line.rpartition("::")[2]
        elif name:
            found.append(line)
    return found
