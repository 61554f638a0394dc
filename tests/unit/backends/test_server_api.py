"""Does a server's key stay where it belongs, whatever it holds and whoever repeats it?"""

from __future__ import annotations

import json

import pytest

from pytest_llmperf.backends import EngineRefused
from pytest_llmperf.backends.server_api import NoAnswer, ServerApi, read_key

NOBODY = "http://127.0.0.1:9"


def api(monkeypatch: pytest.MonkeyPatch, key: str) -> ServerApi:
    monkeypatch.setenv("THE_KEY", key)
    return ServerApi(NOBODY, "THE_KEY")


def test_the_end_of_the_line_is_no_part_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", " opensesame\r\n")
    assert read_key("THE_KEY") == "opensesame"
    with pytest.raises(NoAnswer, match="no server answers"):  # and not: Illegal header value
        ServerApi(NOBODY, "THE_KEY").status("/v1/models")


@pytest.mark.parametrize("key", ["", " \n"])
def test_a_variable_that_holds_nothing_counts_as_not_set(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineRefused, match=r"variable THE_KEY is not set \(api_key_env\)"):
        api(monkeypatch, key)


@pytest.mark.parametrize("key", ["open\nsesame", "open\x7fsesame", "opensésame", "open\tsesame"])
def test_what_no_key_can_hold_is_refused_by_the_name_of_its_variable(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineRefused, match=r"THE_KEY .* holds what no key can") as caught:
        api(monkeypatch, key)
    assert "open" not in str(caught.value)


@pytest.mark.parametrize("key", ["opensesame", 'a"b\\c/d', "p[a(r.t", "two words="])
def test_a_key_is_found_in_whatever_words_repeat_it(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redacted = api(monkeypatch, key).redacted
    in_json = json.dumps(key)[1:-1]
    for written in (key, in_json, in_json.replace("/", "\\/"), in_json.replace("=", "\\u003d")):
        assert redacted(f"not <{written}>, said {written}.") == "not <[key]>, said [key]."


def test_the_words_of_others_are_quoted_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(api(monkeypatch, "opensesame").redacted("opensesame " * 999)) == 160
