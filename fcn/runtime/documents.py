"""Safe loading of untrusted YAML: its size is checked before it is constructed, and errors are one line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fcn.runtime.errors import UserError, in_one_line

MAX_SIZE = 10 << 20  # bytes of a document
MAX_DEPTH = 100  # levels of nesting; libyaml's composer recurses on the C stack
MAX_VALUES = 100_000  # scalars, lists and mappings; an alias counts as everything it expands to
MAX_DIGITS = 100  # characters of a number; Python converts long ones in quadratic time, or refuses to
MAX_ERROR = 300  # characters of an error message
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster


def read(path: Path) -> str:
    """Reads a UTF-8 file.

    raises   UserError if it is not UTF-8 or larger than MAX_SIZE; OSError as `open`
    """
    with path.open("rb") as file:
        return decode(file.read(MAX_SIZE + 1), str(path))


def decode(content: bytes, where: str) -> str:
    """Decodes UTF-8.

    raises   UserError if the bytes are not UTF-8 or more than MAX_SIZE
    """
    _check_size(len(content), where)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text (byte {error.start})") from None


def load_yaml(text: str, where: str, most: int = MAX_VALUES) -> object:
    """Loads a YAML document as dicts with string keys, lists and scalars; None if it is empty.

    where    names the document in errors
    most     maximum number of values
    raises   UserError, in one line, if it is not YAML, too large or nested too deeply, or has repeated keys, merge
             keys, tags or recursive aliases
    """
    _check_size(len(text), where)
    try:
        _check(yaml.parse(text, Loader=BASE), most)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError also for a date such as 2026-99-99
        line = in_one_line(error).replace(' in "<unicode string>",', " at")
        raise UserError(f"{where}: {line if len(line) <= MAX_ERROR else f'{line[:MAX_ERROR]}…'}") from None


def _check_size(size: int, where: str) -> None:
    if size > MAX_SIZE:
        raise UserError(f"{where} is larger than {MAX_SIZE >> 20} MiB")


def _check(events: Iterator[Any], most: int) -> None:
    """Checks depth and number of values on the parser's event stream, which needs no recursion."""
    anchors: dict[str, tuple[int, int]] = {}  # number of values and levels of each anchored node
    nested: list[tuple[str | None, int, int]] = [(None, 0, 0)]  # anchor, values and levels of each open collection
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
        parent_anchor, total, deepest = nested[-1]
        nested[-1] = parent_anchor, total + values, max(deepest, levels + 1)
        if len(nested) - 1 + levels > MAX_DEPTH:
            raise _refusal(f"more than {MAX_DEPTH} levels of nesting", event)
        if sum(size for _, size, _ in nested) > most:
            raise _refusal(f"more than {most} values, with aliases expanded", event)


def _refusal(problem: str, node: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Loader(BASE):  # type: ignore[misc]
    """SafeLoader that rejects repeated keys, merge keys, keys that are not strings, and very large numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _refusal("key '<<' merges mappings; write the keys out", key_node)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refusal(f"key {key!r} is not a string", key_node)
            if key in keys:
                raise _refusal(f"key {key!r} is duplicated", key_node)
            keys.add(key)
        return dict(super().construct_mapping(node, deep))

    def construct_number(self, node: yaml.ScalarNode) -> object:
        if len(node.value) > MAX_DIGITS:
            raise _refusal(f"a number of more than {MAX_DIGITS} characters", node)
        value = yaml.SafeLoader.yaml_constructors[node.tag](self, node)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _refusal("a whole number of more than 64 bits", node)
        return value


for tag in NUMBERS:
    _Loader.add_constructor(tag, _Loader.construct_number)
