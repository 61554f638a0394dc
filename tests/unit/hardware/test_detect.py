"""Does detection name each machine as its owner would?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pytest_llmperf.hardware.detect import Host, detect
from pytest_llmperf.hardware.facts import Accelerator, Hardware
from pytest_llmperf.hardware.nvidia import Look
from tests.unit.hardware import trees

GIB = 2**30
REPO = Path(__file__).parents[3]


def nvidia_gpu(**changes: object) -> Accelerator:
    gpu = Accelerator(
        kind="cuda",
        vendor="nvidia",
        name="RTX 4060 Ti",
        integrated=False,
        memory_bytes=16380 * 2**20,
        compute_capability="8.9",
    )
    return msgspec.structs.replace(gpu, **changes)


def test_jetson_is_one_gpu_in_one_pool_of_memory(tmp_path: Path) -> None:
    trees.jetson_orin_nano(tmp_path)
    found = detect(tmp_path, host=trees.host("aarch64", 6))
    assert found.device == "jetson-orin-nano"
    (gpu,) = found.gpus
    assert (gpu.name, gpu.compute_capability) == ("Jetson Orin Nano", "8.7")
    assert gpu.integrated
    assert gpu.memory_bytes is None
    assert gpu.driver == "L4T 36.4.3"
    assert found.cpu.model_name == "Cortex-A78AE"
    assert found.cpu.isa == "dotprod"
    assert found.fingerprint == "linux-aarch64-1x-nvidia-jetson-orin-nano-8g-unified-cc8.7"
    assert found.findings == ()


def test_jetson_gpu_is_not_counted_again_when_the_driver_library_reports_it(tmp_path: Path) -> None:
    trees.jetson_orin_nano(tmp_path)
    again = nvidia_gpu(name="Orin (nvgpu)", integrated=True, memory_bytes=None)
    look = Look(accelerators=(again, nvidia_gpu()))
    found = detect(tmp_path, host=trees.host("aarch64", 6, nvidia=look))
    assert [gpu.name for gpu in found.gpus] == ["Jetson Orin Nano", "RTX 4060 Ti"]


@pytest.mark.parametrize(
    ("model", "chip", "device", "capability"),
    [
        ("NVIDIA Jetson AGX Orin Developer Kit", "tegra234", "jetson-agx-orin", "8.7"),
        ("NVIDIA Orin NX Developer Kit", "tegra234", "jetson-orin-nx", "8.7"),
        ("Jetson-AGX", "tegra194", "jetson-agx-xavier", "7.2"),
        ("quill", "tegra186", "jetson-tx2", "6.2"),
        ("NVIDIA Jetson Nano Developer Kit", "tegra210", "jetson-nano", "5.3"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "tegra264", "jetson-agx-thor", "11.0"),
    ],
)
def test_jetson_models(tmp_path: Path, model: str, chip: str, device: str, capability: str) -> None:
    trees.jetson_orin_nano(tmp_path)
    tree = tmp_path / "proc/device-tree"
    (tree / "model").write_text(f"{model}\0")
    (tree / "compatible").write_text(f"nvidia,board\0nvidia,{chip}\0")
    found = detect(tmp_path, host=trees.host("aarch64", 6))
    assert found.device == device
    assert found.gpus[0].compute_capability == capability


def test_another_arm_board_is_no_jetson(tmp_path: Path) -> None:
    trees.arm_server(tmp_path)
    (tmp_path / "proc/device-tree").mkdir()
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    (tmp_path / "proc/device-tree/compatible").write_text("raspberrypi,5-model-b\0brcm,bcm2712\0")
    found = detect(tmp_path, host=trees.host("aarch64", 4))
    assert (found.device, found.gpus) == (None, ())


def test_amd_card_by_its_marketing_name_beside_a_display_gpu(tmp_path: Path) -> None:
    trees.amd_box(tmp_path)
    found = detect(tmp_path, host=trees.host("x86_64", 32))
    card, display = found.accelerators
    assert (card.name, card.compute_capability) == ("Radeon RX 7900 XTX", "gfx1100")
    assert (card.memory_bytes, card.uuid) == (24560 * 2**20, "4a6b0c1d2e3f4051")
    assert display.integrated
    assert display.memory_bytes is None
    assert found.gpus == (card,)
    assert found.fingerprint == "linux-x86_64-1x-amd-radeon-rx-7900-xtx-24g-gfx1100"
    assert found.cpu_fingerprint == "linux-x86_64-amd-25-97-32c-avx512_vnni"
    assert found.findings == ()


def test_amd_card_that_the_container_was_not_given_is_a_finding_not_a_gpu(tmp_path: Path) -> None:
    trees.amd_box(tmp_path)
    (tmp_path / "dev/kfd").unlink()
    found = detect(tmp_path, host=trees.host("x86_64", 32))
    assert found.gpus == ()
    assert "Radeon RX 7900 XTX" in found.findings[0]
    assert "/dev/kfd" in found.findings[0]


def test_laptop_is_measured_on_its_cpu(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    found = detect(tmp_path, host=trees.host("x86_64", 16))
    assert found.system == "Fedora Linux 41 (Workstation Edition)"
    assert [each.vendor for each in found.accelerators] == ["intel"]
    assert found.gpus == ()
    assert found.fingerprint == "linux-x86_64-intel-6-154-16c-avx_vnni"
    assert found.cpu.cpu_quota is None
    assert found.memory.cgroup_limit_bytes is None
    assert found.memory.usable_bytes == 9_000_000 * 1024


def test_intel_card_with_and_without_known_memory(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    card = tmp_path / "sys/class/drm/card0"
    (card / "device/uevent").write_text("DRIVER=i915\nPCI_SLOT_NAME=0000:03:00.0\n")
    (card / "device/device").write_text("0x56a0\n")
    unknown = detect(tmp_path, host=trees.host("x86_64", 16))
    assert unknown.gpus[0].memory_bytes is None
    assert "memory size" in unknown.findings[0]
    (card / "lmem_total_bytes").write_text(f"{16 * GIB}\n")
    known = detect(tmp_path, host=trees.host("x86_64", 16))
    assert known.fingerprint == "linux-x86_64-1x-intel-arc-a770-16g"


def test_container_counts_its_quota_and_limit_and_not_its_page_cache(tmp_path: Path) -> None:
    trees.container(tmp_path)
    found = detect(tmp_path, host=trees.host("x86_64", 64))
    assert found.cpu.logical_cores == 64
    assert (found.cpu.cpu_quota, found.cpu.usable_cores) == (1.5, 1)
    assert found.memory.cgroup_limit_bytes == 4 * GIB
    assert found.memory.usable_bytes == 4 * GIB - GIB // 2
    assert found.fingerprint == "linux-x86_64-intel-6-143-1.5c-avx512_vnni"


def test_quota_above_the_affinity_does_not_add_cores(tmp_path: Path) -> None:
    trees.container(tmp_path, cpu_max="2500000 100000")
    found = detect(tmp_path, host=trees.host("x86_64", 2))
    assert found.cpu.usable_cores == 2
    assert "-2c-" in found.fingerprint


def test_tightest_limit_of_all_groups_above_counts(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    session = "sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope"
    trees.write(
        tmp_path,
        {
            f"{session}/cpu.max": "800000 100000\n",
            f"{session}/memory.max": f"{8 * GIB}\n",
            f"{session}/memory.current": "0\n",
            "sys/fs/cgroup/user.slice/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/user.slice/memory.max": f"{6 * GIB}\n",
            "sys/fs/cgroup/user.slice/memory.current": f"{5 * GIB}\n",
        },
    )
    found = detect(tmp_path, host=trees.host("x86_64", 16))
    assert found.cpu.usable_cores == 4
    assert found.memory.cgroup_limit_bytes == 6 * GIB
    assert found.memory.usable_bytes == GIB


def test_version_1_groups_whose_path_is_not_mounted(tmp_path: Path) -> None:
    trees.old_container(tmp_path)
    found = detect(tmp_path, host=trees.host("x86_64", 40))
    assert found.cpu.usable_cores == 2
    assert found.memory.cgroup_limit_bytes == 8 * GIB
    assert found.memory.usable_bytes == 6 * GIB


def test_version_1_sentinel_is_no_limit(tmp_path: Path) -> None:
    trees.old_container(tmp_path)
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us").write_text("-1\n")
    found = detect(tmp_path, host=trees.host("x86_64", 40))
    assert found.cpu.cpu_quota is None
    assert found.memory.cgroup_limit_bytes is None


def test_group_outside_the_namespace_is_looked_up_at_its_root(tmp_path: Path) -> None:
    trees.container(tmp_path)
    (tmp_path / "proc/self/cgroup").write_text("0::/../../other\n")
    assert detect(tmp_path, host=trees.host("x86_64", 64)).cpu.cpu_quota == 1.5


def test_arm_server(tmp_path: Path) -> None:
    trees.arm_server(tmp_path)
    found = detect(tmp_path, host=trees.host("aarch64", 64))
    assert found.cpu.isa == "sve"
    assert found.fingerprint == "linux-aarch64-arm-neoverse-v1-64c-sve"


def test_mixed_cluster_offers_what_every_core_offers(tmp_path: Path) -> None:
    big = trees.arm_cpuinfo(["0xd0b"], "fp asimd asimddp")
    little = trees.arm_cpuinfo(["0xd03"], "fp asimd")
    trees.write(tmp_path, {"proc/cpuinfo": big + little, **trees.meminfo(4_000_000, 3_000_000)})
    found = detect(tmp_path, host=trees.host("aarch64", 2))
    assert found.cpu.isa == "neon"
    assert found.cpu.model_name == "Cortex-A53 + Cortex-A76"
    assert found.cpu.logical_cores == 2


def test_each_cache_counts_once_and_only_within_the_affinity(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    trees.write(tmp_path, trees.caches(cores=16, shared_by=8))
    everything = detect(tmp_path, host=trees.host("x86_64", 16)).cpu
    assert everything.l1d_cache_bytes == 16 * 32 * 2**10
    assert everything.l3_cache_bytes == 2 * 16 * 2**20
    four = detect(tmp_path, host=trees.host("x86_64", 4)).cpu
    assert (four.l2_cache_bytes, four.l3_cache_bytes) == (4 * 2**20, 16 * 2**20)


def test_fingerprint_counts_equal_gpus_and_ignores_what_may_change(tmp_path: Path) -> None:
    trees.laptop(tmp_path)

    def fingerprint(*gpus: Accelerator, kernel: str = "6.8") -> str:
        host = trees.host("x86_64", 16, nvidia=Look(accelerators=gpus))
        return detect(tmp_path, host=replace(host, kernel=kernel)).fingerprint

    pair = fingerprint(nvidia_gpu(uuid="GPU-1", driver="550"), nvidia_gpu(uuid="GPU-2"))
    assert pair == "linux-x86_64-2x-nvidia-rtx-4060-ti-16g-cc8.9"
    assert pair == fingerprint(nvidia_gpu(driver="570"), nvidia_gpu(), kernel="6.14")
    slice_of_gpu = nvidia_gpu(name="A100-SXM4-40GB", mig="1g.5gb", memory_bytes=4864 * 2**20)
    assert fingerprint(slice_of_gpu) == (
        "linux-x86_64-1x-nvidia-a100-sxm4-40gb-mig-1g.5gb-5g-cc8.9"
    )
    other = nvidia_gpu(name="A2")
    assert fingerprint(other, nvidia_gpu()) == fingerprint(nvidia_gpu(), other)


def test_tag_replaces_both_fingerprints_and_must_be_a_folder_name(tmp_path: Path) -> None:
    trees.amd_box(tmp_path)
    host = trees.host("x86_64", 32)
    found = detect(tmp_path, host=host, tag="Lab.box_3")
    assert found.fingerprint == found.cpu_fingerprint == "Lab.box_3"
    for bad in ("", "../up", "a b", ".hidden", "end."):
        with pytest.raises(ValueError, match="machine tag"):
            detect(tmp_path, host=host, tag=bad)


APPLE = {
    "hw.optional.arm64": "1",
    "machdep.cpu.brand_string": "Apple M2 Pro",
    "hw.logicalcpu": "12",
    "hw.optional.arm.FEAT_DotProd": "1",
    "hw.optional.arm.FEAT_I8MM": "1",
    "hw.optional.arm.FEAT_SME": "0",
}
"""Constructed from Apple's "Determining instruction set characteristics"."""


def mac(values: dict[str, str], machine: str = "arm64") -> Host:
    return Host(
        system="Darwin",
        machine=machine,
        kernel="24.1.0",
        os_version="15.1",
        ram=lambda: (32 * GIB, 20 * GIB),
        sysctl=values.get,
    )


@pytest.mark.parametrize("machine", ["arm64", "x86_64"], ids=["native", "under Rosetta"])
def test_apple_silicon(tmp_path: Path, machine: str) -> None:
    found = detect(tmp_path, host=mac(APPLE, machine))
    assert (found.system, found.arch) == ("macOS 15.1", "aarch64")
    assert found.cpu.isa == "i8mm"
    assert found.memory.usable_bytes == 20 * GIB
    (gpu,) = found.gpus
    assert (gpu.kind, gpu.integrated, gpu.memory_bytes) == ("metal", True, None)
    assert found.fingerprint == "macos-aarch64-1x-apple-m2-pro-32g-unified-12c"
    assert found.cpu_fingerprint == "macos-aarch64-apple-m2-pro-12c-i8mm"


def test_intel_mac_has_no_gpu_and_says_so(tmp_path: Path) -> None:
    values = {
        "machdep.cpu.brand_string": "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz",
        "machdep.cpu.family": "6",
        "machdep.cpu.model": "158",
        "machdep.cpu.features": "FPU SSE2 SSE4.2 AVX1.0 FMA F16C",
        "machdep.cpu.leaf7_features": "AVX2 BMI1",
        "hw.logicalcpu": "12",
    }
    found = detect(tmp_path, host=mac(values, "x86_64"))
    assert found.fingerprint == "macos-x86_64-intel-6-158-12c-avx2"
    assert "Intel Mac" in found.findings[0]


def test_windows_is_described_without_files(tmp_path: Path) -> None:
    host = Host(
        system="Windows",
        machine="AMD64",
        kernel="11",
        os_version="10.0.26100",
        processor="Intel64 Family 6 Model 154 Stepping 3, GenuineIntel",
        affinity=None,
        logical_cores=16,
        ram=lambda: (16 * GIB, 8 * GIB),
    )
    found = detect(tmp_path, host=host)
    assert found.fingerprint == "windows-x86_64-intel-6-154-16c-unknown"
    assert found.memory.usable_bytes == 8 * GIB
    assert "Windows" in found.findings[0]


def test_import_and_detection_need_nothing_that_only_posix_has() -> None:
    """Windows itself is not at hand: the modules that it lacks are taken away."""
    program = (
        "import sys\n"
        "import filelock, psutil\n"  # these know Windows themselves
        "for name in ('fcntl', 'pwd', 'grp', 'resource', 'termios'):\n"
        "    sys.modules[name] = None\n"
        "import pytest_llmperf.hardware.lease\n"
        "from pytest_llmperf.hardware.detect import Host, detect\n"
        "from pathlib import Path\n"
        "print(detect(Path('/nowhere'), host=Host(system='Windows', machine='AMD64')).os_family)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, text=True, cwd=REPO
    )
    assert (done.stdout, done.stderr) == ("windows\n", "")


def test_empty_tree_gives_findings_and_no_traceback(tmp_path: Path) -> None:
    found = detect(tmp_path, host=trees.host("riscv64", 4))
    assert found.cpu.vendor == "unknown"
    assert found.memory.total_bytes == 0
    assert len(found.findings) == 2


def test_this_machine_survives_json_and_needs_no_engine() -> None:
    program = (
        "import sys, msgspec\n"
        "from pytest_llmperf.hardware.detect import detect\n"
        "sys.stdout.buffer.write(msgspec.json.encode(detect()))\n"
        "heavy = {'torch', 'pynvml', 'numpy', 'llama_cpp', 'scipy'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, cwd=REPO
    )
    assert done.returncode == 0, done.stderr.decode()
    found = msgspec.json.decode(done.stdout, type=Hardware)
    assert 1 <= found.cpu.usable_cores <= found.cpu.logical_cores
    assert 0 < found.memory.usable_bytes <= found.memory.total_bytes
    assert found.fingerprint.startswith(f"{found.os_family}-{found.arch}-")
    assert found.fingerprint == detect().fingerprint
