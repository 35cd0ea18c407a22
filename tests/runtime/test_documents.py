"""YAML from anywhere: what is read, and what is refused in one line before it costs time, memory or the process."""

from pathlib import Path

import pytest

from fcn.runtime import documents
from fcn.runtime.errors import UserError


def test_scalars_lists_and_mappings_become_plain_values() -> None:
    text = "a: 1\nb: [x, 0.5, true, null]\nc: &c {d: '2'}\ne: *c\n"
    expected = {"a": 1, "b": ["x", 0.5, True, None], "c": {"d": "2"}, "e": {"d": "2"}}
    assert documents.load_yaml(text, "a.yaml") == expected
    assert documents.load_yaml("", "a.yaml") is None


def test_a_hundred_levels_are_read() -> None:
    assert str(documents.load_yaml("[" * 100 + "]" * 100, "a.yaml")) == "[" * 100 + "]" * 100


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[" * 100_000, "more than 100 levels of nesting at line 1, column 101"),
        ("- " * 100_000, "more than 100 levels of nesting"),
        ("".join(f"k{i}: 1\n" for i in range(200_000)), "more than 100000 values"),
        ("a: &a [1, 1]\n" + "".join(f"b{i}: &a [*a, *a]\n" for i in range(60)), "more than 100000 values"),
        ("a: &a [1]\n" + "".join(f"b{i}: &a [*a]\n" for i in range(200)), "more than 100 levels of nesting"),
        ("a: &a [*a]", "alias *a is undefined or contains itself"),
        ("a: " + "9" * 5000, "a number of more than 100 characters"),
        ("a: 0x" + "f" * 5000, "a number of more than 100 characters"),
        ("a: 1" + ":59" * 5000, "a number of more than 100 characters"),
        ("a: 1" + ":59" * 5000 + ".5", "a number of more than 100 characters"),
        ("a: 9223372036854775808", "a whole number of more than 64 bits at line 1, column 4"),
        ("a: !!bool x", "tag 'tag:yaml.org,2002:bool'; write the value without it"),
        ("a: !!float ''", "tag 'tag:yaml.org,2002:float'; write the value without it"),
        ("a: 1\na: 2\n", "key 'a' is duplicated at line 2, column 1"),
        ("a: &a {b: 1}\nc: {<<: *a}", "key '<<' merges mappings"),
        ("1: 2", "key 1 is not a string"),
        ("a: 2026-99-99", "month must be in 1..12"),
        ("a: 1\n---\nb: 1\n", "expected a single document"),
        ("a: \0", "unacceptable character"),
        (("? " + "k" * 4000 + "\n: 1\n") * 2, "key 'kkk"),
    ],
)
def test_what_cannot_be_believed_is_refused_in_one_line(text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        documents.load_yaml(text, "a.yaml")
    assert str(caught.value).startswith(f"a.yaml: {line}")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_a_file_that_is_too_large_or_not_utf8_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(UserError, match=r"a\.yaml is not UTF-8 text \(byte 3\)"):
        documents.read(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it whole would take a terabyte
    with pytest.raises(UserError, match=r"a\.yaml is larger than 10 MiB"):
        documents.read(path)
    with pytest.raises(UserError, match="b is larger than 10 MiB"):
        documents.load_yaml("a" * (11 << 20), "b")
