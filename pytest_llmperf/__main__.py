"""Entry point of ``python -m pytest_llmperf``."""

import sys

from pytest_llmperf.cli import main

sys.exit(main())
