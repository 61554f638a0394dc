"""Which GPUs does an engine see under ``CUDA_VISIBLE_DEVICES``?

Source of the rules: NVIDIA's CUDA programming guide, "CUDA environment variables", and its MIG user
guide, "CUDA visible devices"; that a device named twice hides all of them is what torch.cuda says
of it. CUDA hides what it does not understand, and everything after it, without a word. Here it is
a trouble in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pytest_llmperf.hardware.facts import Accelerator, Hardware

VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER_VARIABLE = "CUDA_DEVICE_ORDER"


class Visible(msgspec.Struct, frozen=True, kw_only=True):
    """The GPUs that an engine sees."""

    gpus: tuple[Accelerator, ...] = ()
    """In its own order as far as that is known; those of other makers than NVIDIA last."""
    names: tuple[str | None, ...] = ()
    """How each is named in the variable; None: it cannot be."""
    trouble: str | None = None
    """What is wrong with the variable, and what to do."""
    is_ordered: bool = True
    """Whether it is known which number means which card."""


def visible(gpus: Sequence[Accelerator], environment: Mapping[str, str]) -> Visible:
    """Those of ``gpus``, in NVML's order, that an engine in this environment sees."""
    cuda = [each for each in gpus if each.kind == "cuda"]
    others = tuple(each for each in gpus if each.kind != "cuda")
    listed = environment.get(VARIABLE)
    found: list[tuple[Accelerator, str | None]] = [(each, each.uuid) for each in cuda]
    trouble = None
    if listed is not None:
        found, trouble = _listed(cuda, [part.strip() for part in listed.split(",")])
    by_number = listed is None or listed.lstrip()[:1].isdigit()
    alike = len({(each.name, each.memory_bytes) for each in cuda}) < 2
    return Visible(
        gpus=(*(gpu for gpu, _ in found), *others),
        names=(*(name for _, name in found), *(None for _ in others)),
        trouble=trouble and f"{VARIABLE}={listed}: {trouble}",
        is_ordered=alike or not by_number or environment.get(ORDER_VARIABLE) == "PCI_BUS_ID",
    )


def in_sight(hardware: Hardware, environment: Mapping[str, str]) -> Hardware:
    """``hardware`` without the GPUs that an engine in this environment does not see."""
    seen = visible(hardware.gpus, environment).gpus
    hidden = [gpu for gpu in hardware.gpus if all(gpu is not each for each in seen)]
    if not hidden:
        return hardware
    what = "a GPU" if len(hidden) == 1 else f"{len(hidden)} GPUs"
    return msgspec.structs.replace(
        hardware,
        accelerators=tuple(
            each for each in hardware.accelerators if all(each is not gpu for gpu in hidden)
        ),
        findings=(*hardware.findings, f"{VARIABLE}={environment[VARIABLE]} hides {what}"),
    )


def _listed(
    gpus: Sequence[Accelerator], parts: Sequence[str]
) -> tuple[list[tuple[Accelerator, str | None]], str | None]:
    """What CUDA makes of the list, and what is wrong with it."""
    found: list[tuple[Accelerator, str | None]] = []
    if parts == [""] or not gpus:
        return found, None
    kind = _kind(parts[0])
    for part in parts:
        if part == "-1":  # the usual way to end the list
            return found, None
        if _kind(part) != kind:
            return found, (
                f"{part!r} is another kind of name than {parts[0]!r}: use numbers, UUIDs or MIG "
                "names alone; CUDA hides what comes after"
            )
        gpu = _find(gpus, part)
        if isinstance(gpu, str):
            return found, f"{gpu}; CUDA hides it and what comes after. See 'nvidia-smi -L'"
        if gpu in [each for each, _ in found]:
            return [], f"{part!r} is named twice, and CUDA then shows no GPU at all"
        found.append((gpu, part))
    return found, None


def _kind(part: str) -> str:
    return part[:4] if part.startswith(("GPU-", "MIG-")) else ""


def _find(gpus: Sequence[Accelerator], part: str) -> Accelerator | str:
    """The GPU that is meant, or what is wrong."""
    if part.startswith("MIG-"):
        return _instance(gpus, part)
    if part.startswith("GPU-"):
        return _one(part, [each for each in gpus if (each.uuid or "").startswith(part)])
    if not part.isdecimal():
        return f"{part!r} is neither a number nor GPU-… nor MIG-…"
    cards = _cards(gpus)
    number = int(part)
    if number >= len(cards):
        have = f"there is {len(cards)}" if len(cards) == 1 else f"there are {len(cards)}"
        return f"there is no GPU number {part}: {have}, and the first is 0"
    return _one(part, cards[number])


def _instance(gpus: Sequence[Accelerator], part: str) -> Accelerator | str:
    for each in gpus:
        if each.mig is not None and part in (each.uuid, each.mig_name):
            return each
    return f"no MIG instance here is called {part!r} (its name cannot be abbreviated)"


def _one(part: str, found: Sequence[Accelerator]) -> Accelerator | str:
    if len(found) == 1:
        return found[0]
    if not found:
        return f"no GPU here is called {part!r}"
    if found[0].mig is not None:
        return f"GPU {part} is divided: name one of its {len(found)} MIG instances"
    return f"{part!r} is the beginning of {len(found)} names"


def _cards(gpus: Sequence[Accelerator]) -> list[list[Accelerator]]:
    """The instances of a divided card have one number together."""
    cards: list[list[Accelerator]] = []
    for each in gpus:
        if each.mig is not None and cards and cards[-1][0].mig and cards[-1][0].pci == each.pci:
            cards[-1].append(each)
        else:
            cards.append([each])
    return cards
