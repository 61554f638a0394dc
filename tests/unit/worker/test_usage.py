"""Does the worker tell what it really used?"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

from pytest_llmperf.worker.usage import Usage, read_usage

PAGES = 256


def read() -> Usage:
    usage = read_usage()
    assert usage is not None
    return usage


def test_pages_that_were_dropped_from_the_cache_are_major_faults_once() -> None:
    page = mmap.PAGESIZE
    # On storage, and not in memory as /tmp may be: a page there cannot be dropped.
    with tempfile.NamedTemporaryFile(dir=Path("/var/tmp")) as file:
        file.write(os.urandom(PAGES * page))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            mapped.madvise(mmap.MADV_RANDOM)  # else one fault brings its neighbours along
            start = read()
            sum(mapped[index * page] for index in range(PAGES))
            cold = read()
            sum(mapped[index * page] for index in range(PAGES))
            warm = read()
    assert cold.major_faults - start.major_faults >= PAGES
    assert warm.major_faults - cold.major_faults < PAGES // 10


def test_the_instant_is_that_of_the_given_clock() -> None:
    usage = read_usage(lambda: 42)
    assert usage is not None
    assert usage.at_ns == 42
    assert usage.cpu_s > 0
