"""Parse a folder's class table, in the formats that people and labelling tools write.

One class per line: a name alone, or with a code, a colour or both. An ambiguous line is an error.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcn.runtime import files
from fcn.runtime.errors import UserError, counted

TABLES = (
    "classes.csv",
    "class_dict.csv",
    "classes.txt",
    "class_names.txt",
    "labels.txt",
)  # the first one is read
MAX_SIZE = 1 << 16  # bytes; 253 classes need a tenth of that
MAX_NAME = 100  # characters of a class name
VOIDS = ("void", "unlabelled", "unlabeled", "ignore", "ignored", "__ignore__")
DELIMITERS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
ROLES = {
    **dict.fromkeys(("name", "names", "class", "classes", "class_name", "class_names", "classname"), "name"),
    **dict.fromkeys(("label", "labels", "label_name", "category", "categories"), "name"),
    **dict.fromkeys(("code", "id", "index", "idx", "value", "class_id", "label_id", "number"), "code"),
    **dict.fromkeys(("r", "red"), "r"),
    **dict.fromkeys(("g", "green"), "g"),
    **dict.fromkeys(("b", "blue"), "b"),
    **dict.fromkeys(("rgb", "color", "colour"), "rgb"),
}
NUMBER = re.compile(r"-?[0-9]+")
COLOUR = re.compile(r"[0-9]+[, ]+[0-9]+[, ]+[0-9]+")
NUMBER_FIRST = re.compile(r"(\d+)(?:\s*[:=.)]\s*|\s+)(\D.*)")
NUMBER_LAST = re.compile(r"(.*[^\d\s:=])(?:\s*[:=]\s*|\s+)(\d+(?:[\s,]+\d+[\s,]+\d+)?)")


@dataclass(frozen=True)
class Row:
    """A line of the table. `colour` is "R,G,B"; fields that the line does not give are empty."""

    line: int
    name: str
    code: str = ""
    colour: str = ""

    @property
    def is_void(self) -> bool:
        return self.name.lower() in VOIDS


@dataclass
class Table:
    """The content of the file `name`, with errors and notes on assumptions made."""

    name: str
    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def in_colours(self) -> bool:
        """Whether classes are declared by colours only."""
        return any(row.colour for row in self.rows) and not any(row.code for row in self.rows)


def find(folder: Path, names: Sequence[str]) -> Table | None:
    """The class table in the top folder, whose files are `names`; None if it has none."""
    candidates = [name for known in TABLES for name in names if name.lower() == known]
    if not candidates:
        return None
    table = read(folder / candidates[0])
    table.notes.insert(0, f"the classes are those of {table.name}")
    if others := candidates[1:]:
        table.notes.append(f"not read, because there is {table.name}: {', '.join(others)}")
    return table


def read(path: Path) -> Table:
    """Parse a table with the best delimiter of tabs, semicolons and commas: fewest errors, then most codes."""
    try:
        text = _text(path)
        delimiters = [sign for sign in DELIMITERS if sign in text] or [","]
        tables = [_parsed(path.name, text, sign) for sign in delimiters]
    except UserError as error:
        return Table(path.name, errors=[str(error)])

    def order(i: int) -> tuple[int, int]:
        return len(tables[i].errors), -sum(bool(row.code or row.colour) for row in tables[i].rows)

    best = min(range(len(tables)), key=order)
    if delimiters[best] != ",":
        tables[best].notes.append(f"{path.name} is read with {DELIMITERS[delimiters[best]]} between its columns")
    return tables[best]


def _text(path: Path) -> str:
    """The file's text: UTF-8, or UTF-16 as exported by spreadsheets."""
    try:
        content = files.read_regular(path, MAX_SIZE)
    except UserError as error:
        raise UserError(str(error).replace(f"{path.parent}/", "")) from None
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _parsed(name: str, text: str, delimiter: str) -> Table:
    table = Table(name)
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            cells = [" ".join(cell.split()) for cell in cells]
            while cells and not cells[-1]:
                cells.pop()
            lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise UserError(f"{name}: line {reader.line_num} cannot be read ({error})") from None
    while lines and not lines[-1][1]:
        lines.pop()
    blank = [number for number, cells in lines if not cells]
    lines = [(number, cells) for number, cells in lines if cells and not cells[0].startswith("#")]
    if roles := _header(lines, table):
        lines = lines[1:]
    for number, cells in lines:
        where = f"{name}: line {number}"
        try:
            row = _by_header(number, cells, roles) if roles else _by_content(number, cells)
        except UserError as error:
            table.errors.append(f"{where} {error}")
        else:
            table.rows.append(row)
    if blank and any(not (row.code or row.colour or row.is_void) for row in table.rows):
        table.errors.append(f"{name}: line {blank[0]} is empty; delete it, or write NAME,CODE on every line")
    _refuse_numbers_in_names(table)
    return table


def _header(lines: list[tuple[int, list[str]]], table: Table) -> list[str]:
    """The role of each column, if the first line is a header; else an empty list."""
    if not lines:
        return []
    first, rest = lines[0][1], [cells for _, cells in lines[1:]]
    roles = [ROLES.get(cell.lower(), "") for cell in first]
    if len(first) == 1 and roles != ["name"]:
        return []
    if not rest or any(map(_is_number, first)):
        return []
    for i, role in enumerate(roles):  # in `class,name`, the column `class` holds numbers
        if role == "name" and roles.count("name") > 1 and all(NUMBER.fullmatch(c[i]) for c in rest if len(c) > i):
            roles[i] = "code"
    once = all(roles.count(role) == 1 for role in roles)
    if not once or "name" not in roles or "" in roles or len({"r", "g", "b"} & set(roles)) not in (0, 3):
        table.errors.append(
            f"{table.name}: the header {','.join(first)!r} is not understood; write name,code or name,r,g,b"
        )
    table.notes.append(f"line {lines[0][0]} of {table.name}, {','.join(first)!r}, is treated as its header")
    return roles


def _by_header(number: int, cells: list[str], roles: list[str]) -> Row:
    if len(cells) > len(roles):
        raise UserError(f"has {counted(len(cells), 'cell')}, the header {len(roles)}: {','.join(cells)!r}")
    values = dict(zip(roles, cells, strict=False))
    colour = values.get("rgb", "")
    if "r" in values:
        colour = ",".join(values.get(channel, "") for channel in "rgb")
    return _row(number, values.get("name", ""), values.get("code", ""), colour)


def _by_content(number: int, cells: list[str]) -> Row:
    """NAME, NAME,CODE or NAME,R,G,B; the name may also come last."""
    names = [cell for cell in cells if not _is_number(cell)]
    numbers = [cell for cell in cells if _is_number(cell)]
    if len(names) != 1 or names[0] not in (cells[0], cells[-1]) or len(numbers) not in (0, 1, 3):
        what = "holds no name" if not names else "is not NAME, NAME,CODE or NAME,R,G,B"
        more = "; put quotes around a name that contains the delimiter" if len(names) > 1 else ""
        raise UserError(f"{what}: {','.join(cells)!r}{more}")
    value = ",".join(numbers)
    return _row(number, names[0], "", value) if COLOUR.fullmatch(value) else _row(number, names[0], value, "")


def _row(number: int, name: str, code: str, colour: str) -> Row:
    if not name:
        raise UserError("has no name; delete it, or write NAME,CODE")
    if len(name) > MAX_NAME or not name.isprintable():
        raise UserError(f"has a name of {len(name)} characters; at most {MAX_NAME} printable ones are allowed")
    if code == "-1" and name.lower() in VOIDS:  # labelme's code of `__ignore__`
        code = ""
    if code and not (code.isdecimal() and code.isascii() and len(code) <= 5 and int(code) < 1 << 16):
        raise UserError(f"has the code {code[:20]!r}; a code is a number up to 65535")
    channels = re.split("[, ]+", colour) if colour else []
    if colour and not (COLOUR.fullmatch(colour) and all(len(c) <= 3 and int(c) < 256 for c in channels)):
        raise UserError(f"has the colour {colour[:20]!r}; a colour is three numbers up to 255")
    return Row(number, name, str(int(code)) if code else "", ",".join(str(int(c)) for c in channels))


def _is_number(cell: str) -> bool:
    """Whether a cell is a code or a colour."""
    return bool(NUMBER.fullmatch(cell) or COLOUR.fullmatch(cell))


def _refuse_numbers_in_names(table: Table) -> None:
    """Add an error for names such as `1 road` or `road: 1`, whose numbers are codes but would be read as names."""
    names = [row.name for row in table.rows if not (row.code or row.colour or row.is_void)]
    first = [NUMBER_FIRST.fullmatch(name) for name in names]
    last = [NUMBER_LAST.fullmatch(name) for name in names]
    if names and all(first) and first[0]:
        corrected = f"{first[0][2]},{first[0][1]}"
    elif len(names) > 1 and all(last) and last[0] and len({match[1] for match in last if match}) > 1:
        corrected = f"{last[0][1]},{re.sub('[, ]+', ',', last[0][2])}"  # but not for class 1, class 2
    else:
        return
    table.errors.append(f"{table.name}: {names[0]!r} holds a name and a number; write {corrected}")
