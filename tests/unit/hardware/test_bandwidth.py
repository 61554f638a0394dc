"""What do the times of many reads say about bandwidth? All reads are made up."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pytest_llmperf.hardware.bandwidth import divide, stream, window_rates


def test_threads_add_up_over_the_time_in_which_all_of_them_read() -> None:
    # 100 bytes each second by one, each two seconds by the other, which begins at 2 and ends at 8.
    fast = [(float(i), float(i + 1)) for i in range(10)]
    slow = [(2.0, 4.0), (4.0, 6.0), (6.0, 8.0)]
    assert window_rates([fast, slow], 100, 3) == pytest.approx((150.0, 150.0, 150.0))


def test_a_read_counts_in_each_window_by_its_share() -> None:
    rates = window_rates([[(0.0, 1.0), (1.0, 4.0)]], 90, 2)
    # In the first two seconds one read and a third of the next, in the others two thirds.
    assert rates == pytest.approx(((90 + 30) / 2, 60 / 2))


def test_a_neighbour_spoils_a_window_and_not_the_best() -> None:
    reads = [(0.0, 1.0), (1.0, 2.0), (3.0, 4.0), (4.0, 5.0)]
    assert window_rates([reads], 10, 5) == pytest.approx((10, 10, 0, 10, 10))


def test_every_thread_reads_whole_pieces_one_after_the_other() -> None:
    reads = stream(2, 3, 4096, 0.0)
    assert [len(mine) for mine in reads] == [3, 3]
    for mine in reads:
        assert all(began <= ended for began, ended in mine)
        assert all(before[1] <= after[0] for before, after in pairwise(mine))


@pytest.mark.parametrize("threads", [1, 2, 3, 96])
@pytest.mark.parametrize("mib", [1, 256, 960])
def test_the_threads_read_the_working_set_and_hardly_more(mib: int, threads: int) -> None:
    pieces, piece_bytes = divide(mib * 2**20, threads)
    assert piece_bytes <= 8 * 2**20
    assert mib * 2**20 <= threads * pieces * piece_bytes < mib * 2**20 * 1.01
