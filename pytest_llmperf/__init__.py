"""Gate the speed, memory and output quality of LLM inference in pytest."""

from pytest_llmperf.markers import perf, requires

__all__ = ["perf", "requires"]
