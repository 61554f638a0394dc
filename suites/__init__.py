"""Acceptance suites: `pytest --llmperf --llmperf-suite[=NAME]`."""
