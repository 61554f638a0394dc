"""What would a machine's system files say?

Each builder writes the files of one machine under a folder. All are *constructed* from the
documentation that the builder cites: none was captured on the device.
"""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.hardware.detect import Host
from pytest_llmperf.hardware.nvidia import Look

X86_64_V4 = (
    "fpu sse2 sse4_2 avx f16c fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_vnni"
)
LAPTOP_FLAGS = "fpu sse2 sse4_2 avx f16c fma avx2 avx_vnni"


def write(root: Path, files: dict[str, str]) -> None:
    """Write ``files``, path below ``root`` → content."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def host(machine: str, cores: int, *, nvidia: Look | None = None) -> Host:
    """A Linux host that may use ``cores`` processors; NVML answers ``nvidia``."""
    return Host(
        system="Linux",
        machine=machine,
        kernel="6.8.0-45-generic",
        os_version="",
        affinity=frozenset(range(cores)),
        nvidia=lambda root: nvidia or Look(),
    )


def x86_cpuinfo(vendor: str, family: int, model: int, name: str, flags: str, cores: int) -> str:
    """/proc/cpuinfo as proc(5) and arch/x86/kernel/cpu/proc.c lay it out. Constructed."""
    return "".join(
        f"processor\t: {index}\nvendor_id\t: {vendor}\ncpu family\t: {family}\n"
        f"model\t\t: {model}\nmodel name\t: {name}\ncpu MHz\t\t: 2400.000\nflags\t\t: {flags}\n\n"
        for index in range(cores)
    )


def arm_cpuinfo(parts: list[str], features: str) -> str:
    """/proc/cpuinfo as arch/arm64/kernel/cpuinfo.c lays it out. Constructed."""
    return "".join(
        f"processor\t: {index}\nBogoMIPS\t: 62.50\nFeatures\t: {features}\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {part}\nCPU revision\t: 1\n\n"
        for index, part in enumerate(parts)
    )


def meminfo(total_kib: int, available_kib: int) -> dict[str, str]:
    """/proc/meminfo as proc(5) describes it. Constructed."""
    return {
        "proc/meminfo": f"MemTotal:       {total_kib} kB\nMemFree:        1000 kB\n"
        f"MemAvailable:   {available_kib} kB\nHugePages_Total:       0\n"
    }


def caches(cores: int, shared_by: int) -> dict[str, str]:
    """Each core with own L1 and L2, ``shared_by`` neighbours with one 16 MiB L3. Constructed
    from the kernel's Documentation/ABI/testing/sysfs-devices-system-cpu."""
    files: dict[str, str] = {}
    for cpu in range(cores):
        first = cpu - cpu % shared_by
        levels = [
            ("1", "Data", "32K", str(cpu)),
            ("1", "Instruction", "32K", str(cpu)),
            ("2", "Unified", "1024K", str(cpu)),
            ("3", "Unified", "16384K", f"{first}-{first + shared_by - 1}"),
        ]
        for index, (level, kind, size, shared) in enumerate(levels):
            folder = f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
            files |= {
                f"{folder}/level": f"{level}\n",
                f"{folder}/type": f"{kind}\n",
                f"{folder}/size": f"{size}\n",
                f"{folder}/shared_cpu_list": f"{shared}\n",
            }
    return files


def jetson_orin_nano(root: Path) -> None:
    """Jetson Orin Nano 8 GB developer kit, Jetson Linux 36.4.3. Constructed from NVIDIA's Jetson
    Linux Developer Guide (module names, /etc/nv_tegra_release) and the compatible strings of the
    kernel's tegra234-p3768-0000+p3767-0005.dts; strings in a device tree end with NUL."""
    features = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm asimddp"
    write(
        root,
        {
            "proc/cpuinfo": arm_cpuinfo(["0xd42"] * 6, features),
            **meminfo(7_802_000, 6_000_000),
            "proc/device-tree/model": (
                "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"
            ),
            "proc/device-tree/compatible": (
                "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
            ),
            "etc/nv_tegra_release": (
                "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
            ),
            "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        },
    )


def amd_box(root: Path) -> None:
    """Desktop with a Radeon RX 7900 XTX and the small GPU of its Ryzen 7950X. Constructed from
    the kernel's Documentation/gpu/amdgpu/driver-misc.rst, drivers/gpu/drm/amd/amdkfd/
    kfd_topology.c (properties) and libdrm's data/amdgpu.ids."""
    cpuinfo = x86_cpuinfo("AuthenticAMD", 25, 97, "AMD Ryzen 9 7950X", X86_64_V4, 32)
    card, display = "sys/class/drm/card0/device", "sys/class/drm/card1/device"
    nodes = "sys/class/kfd/kfd/topology/nodes"
    write(
        root,
        {
            "proc/cpuinfo": cpuinfo,
            **meminfo(64 * 2**20 - 1_000_000, 60 * 2**20),
            "sys/class/drm/card0-DP-1/status": "connected\n",
            f"{card}/vendor": "0x1002\n",
            f"{card}/device": "0x744c\n",
            f"{card}/revision": "0xc8\n",
            f"{card}/uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n",
            f"{card}/mem_info_vram_total": f"{24560 * 2**20}\n",
            f"{card}/unique_id": "4a6b0c1d2e3f4051\n",
            f"{card}/product_name": "\n",
            f"{card}/drm/renderD128/dev": "226:128\n",
            f"{display}/vendor": "0x1002\n",
            f"{display}/device": "0x164e\n",
            f"{display}/revision": "0xc1\n",
            f"{display}/uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:0e:00.0\n",
            f"{display}/mem_info_vram_total": f"{512 * 2**20}\n",
            f"{display}/drm/renderD129/dev": "226:129\n",
            f"{nodes}/0/properties": "cpu_cores_count 32\nsimd_count 0\ngfx_target_version 0\n",
            f"{nodes}/1/properties": "gfx_target_version 110000\ndrm_render_minor 128\n",
            f"{nodes}/2/properties": "gfx_target_version 100306\ndrm_render_minor 129\n",
            "usr/share/libdrm/amdgpu.ids": (
                "# List of AMDGPU IDs\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n"
                "744C,\tCC,\tAMD Radeon RX 7900 XT\n"
            ),
            "dev/dri/renderD128": "",
            "dev/dri/renderD129": "",
            "dev/kfd": "",
        },
    )


def laptop(root: Path) -> None:
    """Laptop with an Intel Core i7-1260P, whose display GPU is its only one. Constructed from
    proc(5), os-release(5) and the kernel's Documentation/gpu/i915.rst."""
    cpuinfo = x86_cpuinfo(
        "GenuineIntel", 6, 154, "12th Gen Intel(R) Core(TM) i7-1260P", LAPTOP_FLAGS, 16
    )
    device = "sys/class/drm/card0/device"
    write(
        root,
        {
            "proc/cpuinfo": cpuinfo,
            **meminfo(16_065_000, 9_000_000),
            "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n",
            "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
            "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/memory.max": "max\n",
            f"{device}/vendor": "0x8086\n",
            f"{device}/device": "0x46a6\n",
            f"{device}/uevent": "DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0\n",
            f"{device}/drm/renderD128/dev": "226:128\n",
            "dev/dri/renderD128": "",
            "etc/os-release": 'PRETTY_NAME="Fedora Linux 41 (Workstation Edition)"\n',
        },
    )


def container(root: Path, *, cpu_max: str = "150000 100000") -> None:
    """Container on a 64-core server, 1.5 CPUs and 4 GiB, 3 GiB of that page cache. Constructed
    from the kernel's cgroup-v2.rst and cgroup_namespaces(7): the process sees its own group as
    the root, so the limits lie at the mount point."""
    cpuinfo = x86_cpuinfo("GenuineIntel", 6, 143, "INTEL(R) XEON(R) PLATINUM", X86_64_V4, 64)
    write(
        root,
        {
            "proc/cpuinfo": cpuinfo,
            **meminfo(256 * 2**20, 200 * 2**20),
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
            "sys/fs/cgroup/cpu.max": f"{cpu_max}\n",
            "sys/fs/cgroup/memory.max": f"{4 * 2**30}\n",
            "sys/fs/cgroup/memory.current": f"{3 * 2**30 + 2**29}\n",
            "sys/fs/cgroup/memory.stat": (
                f"anon {2**29}\nfile {3 * 2**30}\ninactive_file {2 * 2**30}\n"
                f"active_file {2**30}\nslab 1000\n"
            ),
        },
    )


def old_container(root: Path) -> None:
    """Docker on cgroup v1, 2 CPUs and 8 GiB; the parent's memory is unlimited. Constructed from
    the kernel's cgroup-v1/memory.rst and sched-bwc.rst: /proc/self/cgroup names the group as the
    host knows it, while the container's mount shows its files at the top."""
    cpuinfo = x86_cpuinfo("GenuineIntel", 6, 85, "Intel(R) Xeon(R) Gold 6248", X86_64_V4, 40)
    write(
        root,
        {
            "proc/cpuinfo": cpuinfo,
            **meminfo(64 * 2**20, 60 * 2**20),
            "proc/self/cgroup": "4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * 2**30}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * 2**30}\n",
            "sys/fs/cgroup/memory/memory.stat": (
                f"total_inactive_file {2**30}\ntotal_active_file 0\n"
            ),
        },
    )


def arm_server(root: Path) -> None:
    """64-core Graviton3 (Neoverse V1) instance. Constructed from Arm's Neoverse V1 technical
    reference manual (MIDR) and the kernel's Documentation/arch/arm64/elf_hwcaps.rst."""
    features = "fp asimd aes sha2 crc32 atomics fphp asimdhp asimddp sve svei8mm svebf16 i8mm bf16"
    write(
        root,
        {
            "proc/cpuinfo": arm_cpuinfo(["0xd40"] * 64, features),
            **meminfo(128 * 2**20 - 2_000_000, 120 * 2**20),
        },
    )
