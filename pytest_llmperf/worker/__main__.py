"""Entry point of ``python -m pytest_llmperf.worker``."""

import sys

from pytest_llmperf.worker.process import main

sys.exit(main(sys.argv[1:]))
