"""Which GPUs does an engine see, by every form of name that CUDA knows?"""

from __future__ import annotations

import msgspec
import pytest

from pytest_llmperf.hardware.facts import Accelerator
from pytest_llmperf.hardware.visible import visible

CARD = Accelerator(kind="cuda", vendor="nvidia", name="RTX", integrated=False, memory_bytes=1 << 33)
CARDS = tuple(
    msgspec.structs.replace(CARD, uuid=uuid, pci=f"0000000{place}:01:00.0")
    for place, uuid in enumerate(("GPU-aa11", "GPU-aa22", "GPU-bb33"))
)
RADEON = msgspec.structs.replace(CARD, kind="rocm", uuid=None)
INSTANCES = tuple(
    msgspec.structs.replace(
        CARD, uuid=f"MIG-{each}", mig="1g.10gb", mig_name=f"MIG-GPU-cc44/{each}/0", pci="4"
    )
    for each in (1, 2)
)
LONE = msgspec.structs.replace(CARD, uuid="MIG-9", mig="7g.80gb", mig_name=None, pci="5")


@pytest.mark.parametrize(
    ("listed", "seen", "names"),
    [
        (None, [0, 1, 2], ["GPU-aa11", "GPU-aa22", "GPU-bb33"]),
        ("", [], []),
        ("-1", [], []),
        ("2", [2], ["2"]),
        ("2,0", [2, 0], ["2", "0"]),
        (" 1 , 2 ", [1, 2], ["1", "2"]),
        ("0,2,-1,1", [0, 2], ["0", "2"]),
        ("GPU-bb", [2], ["GPU-bb"]),
        ("GPU-bb33,GPU-aa1", [2, 0], ["GPU-bb33", "GPU-aa1"]),
        ("0,7,1", [0], ["0"]),
        ("GPU-aa11,GPU-zz,GPU-bb", [0], ["GPU-aa11"]),
        ("1,1", [], []),
        ("GPU-bb,GPU-bb33", [], []),
    ],
)
def test_the_list_is_read_as_cuda_does(
    listed: str | None, seen: list[int], names: list[str]
) -> None:
    variables = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    found = visible(CARDS, variables)
    assert found.gpus == tuple(CARDS[each] for each in seen)
    assert found.names == tuple(names)


@pytest.mark.parametrize(
    ("listed", "trouble"),
    [
        ("0,7,1", "there is no GPU number 7: there are 3, and the first is 0"),
        ("3", "there is no GPU number 3"),
        ("1,1", "'1' is named twice, and CUDA then shows no GPU at all"),
        ("GPU-bb,GPU-bb33", "'GPU-bb33' is named twice"),
        ("GPU-aa", "'GPU-aa' is the beginning of 2 names"),
        ("GPU-zz", "no GPU here is called 'GPU-zz'"),
        ("gpu0", "'gpu0' is neither a number nor GPU-… nor MIG-…"),
        ("1gpu", "'1gpu' is neither a number"),
        ("0,GPU-bb", "'GPU-bb' is another kind of name than '0'"),
        ("0,,1", "'' is neither a number"),
        ("MIG-1", "no MIG instance here is called 'MIG-1'"),
    ],
)
def test_what_cuda_would_hide_without_a_word_is_told(listed: str, trouble: str) -> None:
    found = visible(CARDS, {"CUDA_VISIBLE_DEVICES": listed})
    assert found.trouble is not None
    assert found.trouble.startswith(f"CUDA_VISIBLE_DEVICES={listed}: ")
    assert trouble in found.trouble


@pytest.mark.parametrize("listed", [None, "", "-1", "0,2,-1,1", "GPU-bb33"])
def test_what_is_meant_is_no_trouble(listed: str | None) -> None:
    variables = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    assert visible(CARDS, variables).trouble is None


@pytest.mark.parametrize(
    ("listed", "seen"),
    [
        ("MIG-2", [INSTANCES[1]]),
        ("MIG-GPU-cc44/1/0", [INSTANCES[0]]),
        ("MIG-2,MIG-GPU-cc44/1/0", [INSTANCES[1], INSTANCES[0]]),
        ("0", [CARDS[0]]),
        ("2", [LONE]),
    ],
)
def test_mig_instances_go_by_both_of_their_names(listed: str, seen: list[Accelerator]) -> None:
    """And a divided card counts as one number."""
    machine = (CARDS[0], *INSTANCES, LONE)
    assert visible(machine, {"CUDA_VISIBLE_DEVICES": listed}).gpus == tuple(seen)


@pytest.mark.parametrize(
    ("listed", "trouble"),
    [
        ("1", "GPU 1 is divided: name one of its 2 MIG instances"),
        ("MIG-GPU-cc44/7/0", "no MIG instance here is called 'MIG-GPU-cc44/7/0'"),
        ("MIG-", "cannot be abbreviated"),
        ("MIG-1,MIG-GPU-cc44/1/0", "named twice"),
    ],
)
def test_instances_that_are_not_meant_clearly_are_a_trouble(listed: str, trouble: str) -> None:
    found = visible((CARDS[0], *INSTANCES), {"CUDA_VISIBLE_DEVICES": listed})
    assert trouble in (found.trouble or "")


def test_cards_of_other_makers_do_not_obey_it() -> None:
    found = visible((RADEON, CARDS[0]), {"CUDA_VISIBLE_DEVICES": ""})
    assert (found.gpus, found.names) == ((RADEON,), (None,))


def test_without_a_card_any_list_will_do() -> None:
    assert visible((), {"CUDA_VISIBLE_DEVICES": "0,7"}).trouble is None


@pytest.mark.parametrize(
    ("variables", "known"),
    [
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": "1"}, False),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bb33"}, True),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, True),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, True),
    ],
)
def test_cuda_numbers_different_cards_by_a_guess_of_its_own(
    variables: dict[str, str], known: bool
) -> None:
    other = msgspec.structs.replace(CARDS[2], name="GT")
    assert visible((CARDS[0], other), variables).is_ordered is known
    assert visible(CARDS, variables).is_ordered
