"""Can the settings that the pages show be read, and do their names exist?"""

from __future__ import annotations

import configparser
import json
import tomllib
from collections.abc import Iterable

import pytest
import yaml

from tests.docs.blocks import BLOCKS, Block

LANGUAGES = {"json", "yaml", "yml", "toml", "ini"}
SETTINGS = [block for block in BLOCKS if block.language in LANGUAGES]


def pytest_names(block: Block) -> Iterable[str]:
    """Names of pytest's settings in a file. Raises what its reader raises."""
    match block.language:
        case "json":
            json.loads(block.text)
        case "yaml" | "yml":
            yaml.safe_load(block.text)
        case "toml":
            table = tomllib.loads(block.text).get("tool", {}).get("pytest", {})
            return list(table.get("ini_options", table))
        case "ini":
            parser = configparser.ConfigParser()
            parser.read_string(block.text)
            return parser["pytest"] if parser.has_section("pytest") else ()
    return ()


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: block.name)
def test_settings_are_read_and_known(block: Block, pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig()
    for name in pytest_names(block):
        config.getini(name)  # raises for a name that is none


def test_there_are_settings() -> None:
    assert any("llmperf_strict" in block.text for block in SETTINGS)


def test_a_name_that_is_none_is_found(pytester: pytest.Pytester) -> None:
    block = Block("page", 1, "toml", '[tool.pytest.ini_options]\nllmperf_strikt = "true"\n')
    with pytest.raises(ValueError, match="llmperf_strikt"):
        test_settings_are_read_and_known(block, pytester)
