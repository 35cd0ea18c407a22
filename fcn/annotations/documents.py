"""Read untrusted annotation files, JSON or XML; every error is one line."""

import json
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree
from xml.parsers import expat

from pydantic import BaseModel, ValidationError

from fcn.runtime import files
from fcn.runtime.errors import UserError, in_one_line, shortened

MAX_SIZE = 512 << 20  # bytes; COCO's largest file has 470 MB
MAX_DEPTH = 100  # levels of nested elements
M = TypeVar("M", bound=BaseModel)


def load_json(path: Path) -> object:
    """A JSON document. NaN and Infinity, which are not JSON, are refused.

    raises   UserError if it is not JSON, too large or nested too deeply
    """
    content = files.read_regular(path, MAX_SIZE)
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise UserError(f"{path} is nested too deeply") from None
    except ValueError as error:  # also of bytes that are not UTF-8, and of numbers with thousands of digits
        raise UserError(f"{path} is not JSON ({in_one_line(error)[:100]})") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def load_xml(path: Path) -> ElementTree.Element:
    """The root of an XML document. Document types, which declare entities, are refused; nothing else is opened.

    raises   UserError if it is not XML, has a document type, is too large or nested too deeply
    """
    content = files.read_regular(path, MAX_SIZE)
    builder, parser, depth = ElementTree.TreeBuilder(), expat.ParserCreate(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise UserError(f"{path} has elements nested more than {MAX_DEPTH} levels deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise UserError(f"{path} has a document type, which may declare entities; delete the line <!DOCTYPE …>")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not XML ({in_one_line(error)[:100]})") from None


def checked(model: type[M], document: Any, file: str) -> M:
    """The document as a model.

    raises   UserError that names the first value that is missing or invalid
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        value = "" if isinstance(first["input"], dict | list) else f" {shortened(str(first['input']), 40)}"
        raise UserError(f"{file}: {shortened(place, 100)[1:-1]}{value}: {first['msg']}") from None
