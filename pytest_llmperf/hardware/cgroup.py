"""Which control groups confine this process?

A limit may sit on the process's own group or on any group above it; the tightest one counts.
Inside a container the group's path may be hidden by a namespace (``0::/``) or may name a folder
of the host that is not mounted; then the files lie at the mount point itself.
Sources: the kernel's cgroup-v2.rst and cgroup-v1/memory.rst, cgroups(7), cgroup_namespaces(7).
"""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.hardware import files


def v2_groups(root: Path) -> tuple[Path, ...]:
    """Folders of the process's v2 group and of those above it, own group first."""
    for mount in (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"):
        if (mount / "cgroup.controllers").exists():
            return _upwards(mount, _memberships(root).get("", "/"))
    return ()


def v1_groups(root: Path, controller: str) -> tuple[Path, ...]:
    """Folders of the process's v1 group of ``controller`` and of those above it."""
    path = _memberships(root).get(controller)
    for mount in sorted((root / "sys/fs/cgroup").glob(f"*{controller}*")):
        # Controllers are mounted together as "cpu,cpuacct", not always with a link named "cpu".
        if path is not None and controller in mount.name.split(","):
            return _upwards(mount, path)
    return ()


def _memberships(root: Path) -> dict[str, str]:
    """Controller → path of the process's group. The v2 hierarchy has the empty name."""
    found: dict[str, str] = {}
    for line in (files.text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            found.setdefault(controller, path)
    return found


def _upwards(mount: Path, path: str) -> tuple[Path, ...]:
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # a process outside the root of its own cgroup namespace
        parts = []
    groups = (mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))
    return tuple(group for group in groups if group.is_dir())
