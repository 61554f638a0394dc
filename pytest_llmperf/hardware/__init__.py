"""What machine is this?

``detect`` finds the facts (one file per vendor), ``facts`` names them, ``fingerprint`` says which
machines are comparable, ``requirement`` says what a test needs and lacks, ``lease`` keeps two
measurements on one machine apart. The names here are those that cost next to nothing to import.
"""

from pytest_llmperf.hardware.cpu import usable_cores
from pytest_llmperf.hardware.facts import Accelerator, Cpu, Hardware, Memory
from pytest_llmperf.hardware.requirement import (
    BadRequirement,
    Requirement,
    read_requirement,
    unmet,
)

__all__ = [
    "Accelerator",
    "BadRequirement",
    "Cpu",
    "Hardware",
    "Memory",
    "Requirement",
    "read_requirement",
    "unmet",
    "usable_cores",
]
