"""Does a skip say what is needed and what is there?"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.hardware import BadRequirement, Requirement, read_requirement, unmet
from pytest_llmperf.hardware.detect import detect
from pytest_llmperf.hardware.facts import Accelerator, Hardware
from pytest_llmperf.hardware.nvidia import Look
from pytest_llmperf.hardware.visible import in_sight
from tests.unit.hardware import trees


def gpu(name: str = "RTX 4060 Ti", mib: int = 16380, capability: str = "8.9") -> Accelerator:
    return Accelerator(
        kind="cuda",
        vendor="nvidia",
        name=name,
        integrated=False,
        memory_bytes=mib * 2**20,
        compute_capability=capability,
    )


def laptop(root: Path, *gpus: Accelerator, findings: tuple[str, ...] = ()) -> Hardware:
    trees.laptop(root)
    look = Look(accelerators=gpus, findings=findings)
    return detect(root, host=trees.host("x86_64", 16, nvidia=look))


def test_nothing_required_is_met(tmp_path: Path) -> None:
    assert unmet(Requirement(backend="vllm"), laptop(tmp_path)) is None


def test_vram_names_the_card(tmp_path: Path) -> None:
    here = laptop(tmp_path, gpu())
    assert unmet(Requirement(vram_gb=24), here) == (
        "needs 24.0 GB VRAM on one GPU, has 16.0 GB (RTX 4060 Ti)"
    )
    assert unmet(Requirement(vram_gb=16), here) is None


@pytest.mark.parametrize(
    ("card", "mib", "label_gb"),
    [("RTX 4090", 24564, 24), ("L4", 23034, 24), ("T4", 15360, 16), ("H100", 81559, 80)],
)
def test_card_meets_its_own_label(tmp_path: Path, card: str, mib: int, label_gb: int) -> None:
    here = laptop(tmp_path, gpu(card, mib))
    assert unmet(Requirement(vram_gb=label_gb), here) is None
    assert unmet(Requirement(vram_gb=label_gb * 1.25), here) is not None


def test_memory_of_two_cards_is_not_added_up(tmp_path: Path) -> None:
    here = laptop(tmp_path, gpu(), gpu())
    assert unmet(Requirement(vram_gb=24, gpu=True), here) is not None
    assert unmet(Requirement(vram_gb=16, gpus=2), here) is None


def test_each_of_several_gpus_must_be_good_enough(tmp_path: Path) -> None:
    here = laptop(tmp_path, gpu(), gpu("RTX 3050", 8192, "8.6"))
    assert unmet(Requirement(gpus=2, vram_gb=16), here) == (
        "needs 16.0 GB VRAM on each of 2 GPUs, has 16.0 GB (RTX 4060 Ti), 8.0 GB (RTX 3050)"
    )
    assert unmet(Requirement(gpus=3), here) == "needs 3 GPUs, has RTX 4060 Ti, RTX 3050"


def test_compute_capability_compares_as_numbers(tmp_path: Path) -> None:
    blackwell = laptop(tmp_path, gpu("B200", 183000, "10.0"))
    assert unmet(Requirement(compute_capability="8.9"), blackwell) is None
    ada = laptop(tmp_path, gpu())
    assert unmet(Requirement(compute_capability="10.0"), ada) == (
        "needs 1 GPU with compute capability 10.0, has 8.9 (RTX 4060 Ti)"
    )


def test_compute_capability_asks_for_cuda(tmp_path: Path) -> None:
    trees.amd_box(tmp_path)
    here = detect(tmp_path, host=trees.host("x86_64", 32))
    line = unmet(Requirement(compute_capability="8.0"), here)
    assert line is not None
    assert "no CUDA GPU (Radeon RX 7900 XTX)" in line


def test_broken_driver_is_the_reason_for_no_gpu(tmp_path: Path) -> None:
    trouble = "NVIDIA driver and library differ in version: reboot"
    line = unmet(Requirement(gpu=True), laptop(tmp_path, findings=(trouble,)))
    assert line is not None
    assert line.startswith("needs a GPU, has none")
    assert trouble in line


def test_display_gpu_is_no_gpu_and_is_named(tmp_path: Path) -> None:
    line = unmet(Requirement(gpu=True, vram_gb=8), laptop(tmp_path))
    assert line is not None
    assert line.startswith("needs a GPU with 8.0 GB VRAM, has none (only the display GPU intel")


def test_shared_pool_counts_as_vram_and_is_called_shared(tmp_path: Path) -> None:
    trees.jetson_orin_nano(tmp_path)
    here = detect(tmp_path, host=trees.host("aarch64", 6))
    assert unmet(Requirement(vram_gb=8, device="jetson"), here) is None
    assert unmet(Requirement(vram_gb=12), here) == (
        "needs 12.0 GB VRAM on one GPU, has 7.4 GB (Jetson Orin Nano, shared with the CPU)"
    )


def test_ram_is_what_the_container_may_have(tmp_path: Path) -> None:
    trees.container(tmp_path)
    here = detect(tmp_path, host=trees.host("x86_64", 64))
    assert unmet(Requirement(ram_gb=32), here) == (
        "needs 32.0 GB RAM, has 4.0 GB (limit of the control group)"
    )


@pytest.mark.parametrize("name", ["avx2", "avx_vnni", "fma", "f16c"])
def test_cpu_that_offers_it(tmp_path: Path, name: str) -> None:
    assert unmet(Requirement(cpu=name), laptop(tmp_path)) is None


def test_cpu_that_does_not(tmp_path: Path) -> None:
    assert unmet(Requirement(cpu="avx512"), laptop(tmp_path)) == (
        "needs a CPU with avx512, has avx_vnni (12th Gen Intel(R) Core(TM) i7-1260P)"
    )


def test_higher_tier_offers_the_lower(tmp_path: Path) -> None:
    trees.arm_server(tmp_path)
    here = detect(tmp_path, host=trees.host("aarch64", 64))
    for name in ("neon", "dotprod", "i8mm", "sve"):
        assert unmet(Requirement(cpu=name), here) is None
    assert unmet(Requirement(cpu="sve2"), here) is not None


@pytest.mark.parametrize("device", ["jetson", "jetson-orin", "jetson-orin-nano", "Jetson"])
def test_device_by_its_first_words(tmp_path: Path, device: str) -> None:
    trees.jetson_orin_nano(tmp_path)
    here = detect(tmp_path, host=trees.host("aarch64", 6))
    assert unmet(Requirement(device=device), here) is None
    assert unmet(Requirement(device="jetson-orin-n"), here) is not None
    assert unmet(Requirement(device="jetson"), laptop(tmp_path / "laptop")) == (
        "needs device jetson, is no known board"
    )


def test_all_that_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    line = unmet(Requirement(gpu=True, ram_gb=64, cpu="amx"), laptop(tmp_path))
    assert line is not None
    assert line.count("needs") == 3
    assert "\n" not in line


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"vram": 24}, "did you mean 'vram_gb'"),
        ({"cpu": "AVX-512"}, "Did you mean 'avx512'"),
        ({"cpu": "fast"}, "Known: amx"),
        ({"gpus": True}, "whole number"),
        ({"gpus": 0}, "at least 1"),
        ({"vram_gb": "24"}, "number of GiB"),
        ({"vram_gb": -1}, "greater than 0"),
        ({"ram_gb": float("nan")}, "greater than 0"),
        ({"compute_capability": 8.0}, "'8.0'"),
        ({"compute_capability": "8"}, "'8.0'"),
    ],
)
def test_bad_value_is_refused_with_what_would_do(given: dict[str, object], words: str) -> None:
    with pytest.raises(BadRequirement, match=words):
        read_requirement(given)


def test_marker_keywords_become_a_requirement() -> None:
    given: dict[str, object] = {"gpu": True, "vram_gb": 24, "backend": "vllm"}
    assert read_requirement(given) == Requirement(gpu=True, vram_gb=24, backend="vllm")
    assert read_requirement({}) == Requirement()
    wire = msgspec.json.encode(read_requirement(given))
    assert msgspec.json.decode(wire, type=Requirement) == read_requirement(given)


@pytest.mark.parametrize(
    ("listed", "lacking"),
    [
        ("0,1", None),
        ("1", "needs 2 GPUs, has RTX 4060 Ti"),
        (
            "",
            (
                "needs 2 GPUs, has none (only the display GPU intel GPU 0x46a6; "
                "CUDA_VISIBLE_DEVICES= hides 3 GPUs)"
            ),
        ),
    ],
)
def test_what_is_hidden_meets_no_requirement(
    listed: str, lacking: str | None, tmp_path: Path
) -> None:
    cards = [msgspec.structs.replace(gpu(), uuid=f"GPU-{each}") for each in range(3)]
    here = laptop(tmp_path, *cards)
    assert unmet(Requirement(gpus=2), in_sight(here, {"CUDA_VISIBLE_DEVICES": listed})) == lacking
    assert in_sight(here, {}) is here
