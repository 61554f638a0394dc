"""What memory is there: by a device's name, or on a machine?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.fit import room
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Accelerator
from tests.unit.fit.models import GIB

HERE = detect()
CARD = Accelerator(kind="cuda", vendor="nvidia", name="RTX", integrated=False, memory_bytes=8 * GIB)


def test_a_jetson_has_one_pool_less_what_its_system_needs() -> None:
    jetson = room.room_of("jetson-orin-nano")
    assert (jetson.ram, jetson.vram, jetson.is_shared) == (6 * GIB, (), True)
    assert jetson.gpu_limits.bandwidth == 102e9


def test_a_card_has_memory_of_its_own_and_the_host_is_not_stated() -> None:
    card = room.room_of("RTX-4060")
    assert (card.ram, card.vram, card.is_shared) == (None, (8 * GIB,), False)
    assert (card.gpu_limits.bandwidth, card.cpu_limits.bandwidth) == (272e9, None)


def test_every_profile_has_memory_a_bandwidth_and_a_source() -> None:
    assert len(room.known()) >= 20
    for name in room.known():
        found = room.room_of(name)
        assert (found.ram or 0) + sum(found.vram) >= 3 * GIB, name
        assert found.cpu_limits.bandwidth or found.gpu_limits.bandwidth, name


def test_an_unknown_device_is_refused_with_the_nearest() -> None:
    with pytest.raises(room.UnknownDevice, match=r"Did you mean rtx-4060\? Known: jetson-orin"):
        room.room_of("rtx-4061")


def test_this_machine_without_a_gpu() -> None:
    bare = msgspec.structs.replace(HERE, accelerators=())
    found = room.room_here(bare)
    assert (found.ram, found.vram, found.has_gpu) == (HERE.memory.usable_bytes, (), False)


def test_this_machine_with_cards() -> None:
    found = room.room_here(msgspec.structs.replace(HERE, accelerators=(CARD, CARD)))
    assert (found.vram, found.is_shared, found.has_gpu) == ((8 * GIB, 8 * GIB), False, True)


def test_this_machine_with_a_gpu_that_shares_its_memory() -> None:
    shared = msgspec.structs.replace(CARD, integrated=True, memory_bytes=None)
    found = room.room_here(msgspec.structs.replace(HERE, accelerators=(shared,)))
    assert (found.vram, found.is_shared, found.has_gpu) == ((), True, True)


def test_a_gpu_beside_one_that_shares_memory_has_memory_of_its_own() -> None:
    shared = msgspec.structs.replace(CARD, integrated=True, memory_bytes=None)
    found = room.room_here(msgspec.structs.replace(HERE, accelerators=(CARD, shared)))
    assert (found.vram, found.is_shared) == ((8 * GIB,), False)


FIRST = msgspec.structs.replace(CARD, uuid="GPU-aa11", name="first")
SECOND = msgspec.structs.replace(CARD, uuid="GPU-bb22", name="second", memory_bytes=16 * GIB)
RADEON = msgspec.structs.replace(CARD, kind="rocm", name="radeon", memory_bytes=4 * GIB)
SIZES = {"first": 8 * GIB, "second": 16 * GIB, "radeon": 4 * GIB}


@pytest.mark.parametrize(
    ("listed", "seen"),
    [
        (None, ["first", "second", "radeon"]),
        ("", ["radeon"]),
        ("1", ["second", "radeon"]),
        ("1, 0", ["second", "first", "radeon"]),
        ("GPU-bb", ["second", "radeon"]),
        ("0,7,1", ["first", "radeon"]),
        ("-1", ["radeon"]),
    ],
)
def test_gpus_that_engines_do_not_see_are_no_room(
    listed: str | None, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = msgspec.structs.replace(HERE, accelerators=(FIRST, SECOND, RADEON))
    if listed is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert room.room_here(cards).vram == tuple(SIZES[name] for name in seen)
