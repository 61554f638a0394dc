"""A model in several GGUF files: what counts together, and what does not belong together."""

from __future__ import annotations

from pathlib import Path

import gguf as reference
import numpy as np
import pytest

from pytest_llmperf.models import BrokenModelFile, ModelFiles, ModelSpec, resolve
from pytest_llmperf.models.weight_files import weight_paths
from tests.unit.models.gguf_encoder import F32, INT32, TEXT, UINT16, Encoder

Said = dict[str, int | str]


def name(number: int, count: int = 3) -> str:
    return f"m-{number:05}-of-{count:05}.gguf"


def shard(path: Path, number: int, said: Said | None = None, *tensors: str) -> Path:
    """Shard ``number`` of three with one tensor, or what ``said`` has instead."""
    keys: Said = {"split.no": number - 1, "split.count": 3, "split.tensors.count": 3}
    if number == 1:
        keys["general.architecture"] = "llama"
    made = Encoder()
    for key, value in (keys | (said or {})).items():
        kind = TEXT if isinstance(value, str) else INT32 if "tensors" in key else UINT16
        made.entry(key, kind, value)
    for tensor in tensors or (f"t{number}",):
        made.tensor(tensor, (8,), F32, 32)
    path.write_bytes(made.file())
    return path


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [shard(tmp_path / name(number), number) for number in (1, 2, 3)]


def read(path: Path) -> ModelFiles:
    return resolve(ModelSpec(str(path)), "gguf")


def test_shards_count_together_and_a_missing_one_is_named(shards: list[Path]) -> None:
    found = read(shards[0])
    assert (found.parameters, found.weight_bytes) == (24, 96)
    assert read(shards[0].parent) == found
    assert weight_paths(found) == shards
    with pytest.raises(BrokenModelFile, match="00001-of-00003"):
        read(shards[1])
    shards[2].unlink()
    with pytest.raises(BrokenModelFile, match=r"shard m-00003-of-00003\.gguf is missing"):
        read(shards[0])


def test_what_the_reference_package_splits_is_read(tmp_path: Path) -> None:
    writer = reference.GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=1)
    for number in range(3):
        writer.add_tensor(f"t{number}", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read(tmp_path / name(1)).parameters == 24


@pytest.mark.parametrize(
    ("number", "said", "finding"),
    [
        (1, {"split.no": 1}, "named as shard 1, but its header says 2"),
        (2, {"split.no": 2}, "named as shard 2, but its header says 3"),
        (2, {"split.no": "1"}, "its split.no is '1'"),
        (2, {"split.count": 4}, "shard of another model: its split.count is 4, of shard 1 3"),
        (3, {"general.architecture": "qwen2"}, "general.architecture is 'qwen2', of shard 1 'llam"),
        (3, {"split.tensors.count": 9}, "another model: its split.tensors.count is 9"),
        (1, {"split.count": 2}, r"Give the file …-00001-of-00002\.gguf"),
        (1, {"split.count": 65535}, r"one of 65535 shards, but not named"),
        (1, {"split.count": "3"}, "its split.count is '3'"),
        (1, {"split.count": 1}, "named as one of 3 shards, but its header tells of one"),
        (1, {"split.count": 0}, "named as one of 3 shards, but its header tells of one"),
    ],
)
def test_a_shard_that_does_not_belong_is_named(
    shards: list[Path], number: int, said: Said, finding: str
) -> None:
    shard(shards[number - 1], number, said)
    with pytest.raises(BrokenModelFile, match=finding) as caught:
        read(shards[0])
    assert str(caught.value).startswith(str(shards[number - 1]))


def test_a_shard_that_does_not_say_its_number_is_named(shards: list[Path]) -> None:
    made = Encoder()
    made.tensor("t2", (8,), F32, 32)
    shards[1].write_bytes(made.file())
    with pytest.raises(BrokenModelFile, match=r"m-00002-of-00003\.gguf: .* its split.no is None"):
        read(shards[0])


def test_a_shard_of_the_other_byte_order_is_named(shards: list[Path]) -> None:
    made = Encoder("big")
    made.entry("split.no", UINT16, 1)
    made.entry("split.count", UINT16, 3)
    shards[1].write_bytes(made.file())
    with pytest.raises(BrokenModelFile, match=r"00002-of-00003\.gguf: big-endian, unlike shard 1"):
        read(shards[0])


def test_a_tensor_in_two_shards_is_named_with_both(shards: list[Path]) -> None:
    shard(shards[2], 3, None, "t1")
    with pytest.raises(BrokenModelFile, match=r"00003.*tensor 't1' is also in m-00001-of-00003"):
        read(shards[0])


def test_a_lost_tensor_is_counted(shards: list[Path]) -> None:
    for number, path in enumerate(shards, 1):
        shard(path, number, {"split.tensors.count": 4})
    with pytest.raises(BrokenModelFile, match=r"split.tensors.count is 4, but the shards hold 3"):
        read(shards[0])


def test_shards_that_are_one_and_the_same_file_end(shards: list[Path]) -> None:
    """A link to the first shard, or to itself, instead of the second."""
    for target in (shards[0], shards[1]):
        shards[1].unlink()
        shards[1].symlink_to(target)
        with pytest.raises(BrokenModelFile, match=r"header says 1|is missing beside it"):
            read(shards[0])


def test_a_very_long_claim_ends_at_the_first_missing_shard(tmp_path: Path) -> None:
    path = shard(tmp_path / name(1, 65535), 1, {"split.count": 65535})
    with pytest.raises(BrokenModelFile, match=r"00002-of-65535\.gguf is missing"):
        read(path)


@pytest.mark.parametrize("numbers", [(1, 1), (1, 0), (3, 1)])
def test_one_of_one_is_a_whole_model(tmp_path: Path, numbers: tuple[int, int]) -> None:
    made = Encoder()
    made.entry("general.architecture", TEXT, "llama")
    made.tensor("t", (8,), F32, 32)
    path = tmp_path / name(*numbers)
    path.write_bytes(made.file())
    found = read(path)
    assert weight_paths(found) == [path]


def test_digits_of_other_scripts_are_letters(tmp_path: Path) -> None:
    path = tmp_path / "m-٠٠٠٠١-of-٠٠٠٠٣.gguf"
    made = Encoder()
    made.entry("general.architecture", TEXT, "llama")
    made.tensor("t", (8,), F32, 32)
    path.write_bytes(made.file())
    assert weight_paths(read(path)) == [path]
