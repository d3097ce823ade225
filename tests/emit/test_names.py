import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwgen.emit.names import IDENTIFIER_LIMIT, PREFIX_LIMIT, RESERVED, TEXT_LIMIT, check_prefix, identifier, model_prefix, plain, unique_identifiers
from hwgen.errors import ConfigError

HOSTILE = [
    "",
    " ",
    "*/",
    "/*",
    '"',
    "'",
    "\\",
    "\n#error x",
    "??/",
    "int",
    "INT",
    "_Bool",
    "1x1",
    "__x__",
    "日本",
    "a\0b",
    "%s",
    "${HOME}",
    "<script>",
    "x" * 1000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_is_harmless_in_comments_and_strings(text: str) -> None:
    result = plain(text)
    assert re.fullmatch(r"[ -~]+", result)
    assert not set(result) & set("*\"'\\?%$<>&\n")
    assert len(result) <= TEXT_LIMIT


def test_plain_keeps_ordinary_names() -> None:
    assert plain("model/layer_1/Conv2D:0 (fused)") == "model/layer_1/Conv2D:0 (fused)"
    assert plain("") == "unnamed"


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_identifiers_are_identifiers(text: str) -> None:
    result = identifier(text)
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", result)
    assert result not in RESERVED
    assert len(result) <= IDENTIFIER_LIMIT + 2


def test_keywords_and_digits_get_a_prefix() -> None:
    assert [identifier(text) for text in ("int", "While", "3x3", "npu", "a//b")] == ["n_int", "n_while", "n_3x3", "n_npu", "a_b"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "A", "a ", "a_2", "a 2", "a_2_2", "*/", "/*", "", "int"])))
def test_names_that_collide_after_sanitizing_stay_apart(texts: list[str]) -> None:
    result = unique_identifiers(texts)
    assert len(set(result)) == len(texts)


def test_first_of_equal_names_keeps_it() -> None:
    assert unique_identifiers(["a", "a_2", "A", "a"]) == ("a", "a_2", "a_3", "a_4")


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_every_model_name_gives_a_legal_prefix(text: str) -> None:
    assert check_prefix(model_prefix(text)) == model_prefix(text)
    assert len(model_prefix(text)) <= PREFIX_LIMIT + 2


def test_prefix_does_not_enter_the_drivers_names() -> None:
    assert model_prefix("npu") == "n_npu"
    assert model_prefix("npu_crc") == "n_npu_crc"


@pytest.mark.parametrize(("prefix", "proposal"), [("int", "n_int"), ("My Net", "my_net"), ("", "unnamed"), ("a*/b", "a_b"), ("npu_x", "n_npu_x")])
def test_illegal_prefix(prefix: str, proposal: str) -> None:
    expected = f"prefix {plain(prefix)!r}: must be a lower-case C identifier, not reserved, at most {PREFIX_LIMIT} characters; try {proposal!r}"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        check_prefix(prefix)
