"""YAML from anywhere as plain values: bounded before it is parsed, and refused in one line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fcn.runtime.errors import UserError, in_one_line

SIZE = 10 << 20  # bytes of a document
DEPTH = 100  # levels of nesting; libyaml's composer recurses on the C stack
VALUES = 100_000  # scalars, lists and mappings; an alias counts as all that it stands for
DIGITS = 100  # characters of a number: Python converts long ones in quadratic time, or not at all
LINE = 300  # characters of an error
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast


def read(path: Path) -> str:
    """The text of a UTF-8 file.

    raises   UserError if it is not UTF-8 or larger than a document may be; OSError as `open`
    """
    with path.open("rb") as file:
        return decode(file.read(SIZE + 1), str(path))


def decode(content: bytes, where: str) -> str:
    """Bytes as text.

    raises   UserError if they are not UTF-8, or more than a document may have
    """
    _check_size(len(content), where)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text (byte {error.start})") from None


def load_yaml(text: str, where: str, most: int = VALUES) -> object:
    """A YAML document as dicts with string keys, lists and scalars; None if it is empty.

    where    names the document in errors
    most     values that it may have
    raises   UserError, in one line, if it is not YAML, is too large or too deep, repeats a key, merges mappings,
             has a tag, or an alias that contains itself
    """
    _check_size(len(text), where)
    try:
        _check(yaml.parse(text, Loader=BASE), most)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # also a date such as 2026-99-99
        line = in_one_line(error).replace(' in "<unicode string>",', " at")
        raise UserError(f"{where}: {line if len(line) <= LINE else f'{line[:LINE]}…'}") from None


def _check_size(size: int, where: str) -> None:
    if size > SIZE:
        raise UserError(f"{where} is larger than {SIZE >> 20} MiB")


def _check(events: Iterator[Any], most: int) -> None:
    """Refuses a document that is too deep or has too many values, from its events, which need no recursion."""
    anchors: dict[str, tuple[int, int]] = {}  # values and levels of what an alias stands for
    nested: list[tuple[str | None, int, int]] = [(None, 0, 0)]  # anchor, values and levels of what is not closed yet
    for event in events:
        if getattr(event, "tag", None) not in (None, "!"):
            raise _refusal(f"tag {event.tag!r}; write the value without it", event)
        if isinstance(event, yaml.CollectionStartEvent):
            nested.append((event.anchor, 1, 1))
            anchor, values, levels = event.anchor, 0, 0
        elif isinstance(event, yaml.ScalarEvent):
            anchor, values, levels = event.anchor, 1, 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values, levels = nested.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise _refusal(f"alias *{event.anchor} is undefined or contains itself", event)
            anchor, (values, levels) = None, anchors[event.anchor]
        else:
            continue
        if anchor is not None and not isinstance(event, yaml.CollectionStartEvent):
            anchors[anchor] = values, levels
        above, total, deepest = nested[-1]
        nested[-1] = above, total + values, max(deepest, levels + 1)
        if len(nested) - 1 + levels > DEPTH:
            raise _refusal(f"more than {DEPTH} levels of nesting", event)
        if sum(size for _, size, _ in nested) > most:
            raise _refusal(f"more than {most} values, its aliases written out", event)


def _refusal(problem: str, place: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


class _Loader(BASE):  # type: ignore[misc]
    """Safe YAML that refuses a repeated key, of which one value would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _refusal("key '<<' merges mappings; write the keys out", key_node)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refusal(f"key {key!r} is not a string", key_node)
            if key in seen:
                raise _refusal(f"key {key!r} is duplicated", key_node)
            seen.add(key)
        return dict(super().construct_mapping(node, deep))

    def construct_number(self, node: yaml.ScalarNode) -> object:
        if len(node.value) > DIGITS:
            raise _refusal(f"a number of more than {DIGITS} characters", node)
        value = yaml.SafeLoader.yaml_constructors[node.tag](self, node)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _refusal("a whole number of more than 64 bits", node)
        return value


for tag in NUMBERS:
    _Loader.add_constructor(tag, _Loader.construct_number)
