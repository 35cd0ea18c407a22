"""Validation of a parsed YAML mapping with pydantic; its errors in one line that says what to write instead."""

import difflib
from itertools import islice
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from fcn.runtime.errors import UserError

MAX_QUOTED = 80  # characters of a value or key quoted in an error message
MAX_ERRORS = 10  # errors listed in one message
Model = type[BaseModel]
M = TypeVar("M", bound=BaseModel)


def check(model: type[M], content: dict[str, Any], where: str) -> M:
    """Validates `content` as a model. A field's description is the advice for an invalid value: "write ...".

    where    names the document in errors
    raises   UserError listing every key that is unknown, missing, of the wrong type, out of range or not finite
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        errors: dict[tuple[str, ...], Any] = {}
        for each in error.errors(include_url=False):
            path = _path(model, each["loc"])
            if each["type"] != "none_required" or path not in errors:  # of a union's members, None says the least
                errors[path] = each
        lines = [f"{where}: {_message(model, path, e, content)}" for path, e in islice(errors.items(), MAX_ERRORS)]
        if more := len(errors) - len(lines):
            lines.append(f"and {more} more")
        raise UserError("; ".join(lines)) from None


def _message(model: Model, path: tuple[str, ...], error: Any, content: dict[str, Any]) -> str:
    key = ".".join(map(str, path))
    key = _short(key) if len(key) > MAX_QUOTED or not key.isprintable() else key
    if error["type"] == "missing":
        return f"{key} is missing; `git diff` or `fcn recipe` shows how it should look"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _section(model, path[:-1]).model_fields, 1, 0.7)
        return f"{key} is unknown; " + (f"did you mean {near[0]}?" if near else "remove it")
    value = content
    for part in path:
        value = value[part]
    return f"{key} is {_short(value)}; {_advice(model, path, error)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def _path(model: Model, location: tuple[Any, ...]) -> tuple[str, ...]:
    """The keys that lead to an error. Drops the union member names that pydantic appends to the location."""
    fields, path = model.model_fields, []
    for part in location:
        path.append(str(part))
        annotation = fields[part].annotation if part in fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        fields = annotation.model_fields
    return tuple(path)


def _section(model: Model, path: tuple[str, ...]) -> Model:
    section: Any = model
    for part in path:
        section = section.model_fields[part].annotation
    return section  # type: ignore[no-any-return]


def _advice(model: Model, path: tuple[str, ...], error: Any) -> str:
    if error["type"] in (
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "finite_number",
    ):
        return str(error["msg"]).replace("Input should be", "it must be")
    field = _section(model, path[:-1]).model_fields[path[-1]]
    if field.description:
        return f"write {field.description}"
    if get_args(field.annotation):
        return f"write {' or '.join(map(str, get_args(field.annotation)))}"
    kind = {bool: "true or false", int: "a whole number"}.get(field.annotation)  # type: ignore[arg-type]
    return f"write {kind or 'a section of keys and values'}"
