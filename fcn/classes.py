"""Which classes a folder's masks hold: as its table says, or as their codes suggest."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcn import files
from fcn.declared import coded
from fcn.errors import UserError
from fcn.labels import Labels

MOST = 64  # colours without a table that are taken for classes; more come from soft edges or a lossy format
VOC_BORDER = 0xE0E0C0  # 224,224,192: void in VOC's colours
VOIDS = ("void", "unlabelled", "unlabeled", "ignore", "ignored", "__ignore__")
TABLES = ("classes.csv", "class_dict.csv", "classes.txt")
Class = str | dict[str, int | str]


@dataclass
class Code:
    """How common a code is over all masks, and in which of them it comes first."""

    pixels: int = 0
    masks: int = 0
    first: str = ""


@dataclass
class Guess:
    """Classes and void as params.yaml wants them, with what is wrong and what is good to know."""

    classes: list[Class]
    void: list[str]
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def labels(self) -> Labels | None:
        """The classes as they will be read; None, and one more error, if they can't be."""
        try:
            return coded(self.classes, " ".join(self.void) or "none")
        except UserError as error:
            self.errors.append(str(error))
            return None


def guess(folder: Path, names: Sequence[str], codes: Mapping[int, Code], colours: bool) -> Guess:
    """The classes of masks that hold `codes`, of a folder that may have a table of them."""
    spell = Labels((), (), colours=colours).spell
    spelt = {spell(code): seen for code, seen in sorted(codes.items())}
    border = spell(VOC_BORDER)
    voids = [code for code in ((border,) if colours else ("255", "65535")) if code in spelt]
    table = next((name for name in TABLES if name in names), None)
    return _from_table(folder, table, spelt, voids, colours) if table else _numbered(spelt, voids, colours)


def _from_table(folder: Path, name: str, spelt: Mapping[str, Code], voids: list[str], colours: bool) -> Guess:
    found = _table(folder / name, colours)
    found.notes.append(f"the classes are those of {name}")
    texts = [str(next(iter(c.values()))) if isinstance(c, dict) else str(i) for i, c in enumerate(found.classes)]
    declared = {code for text in texts for code in text.split()} | set(found.void)
    for code in voids:
        if code not in declared:
            found.void.append(code)
            found.notes.append(f"{code} is not in {name} and taken for void")
    unknown = {code: seen for code, seen in spelt.items() if code not in declared | set(found.void)}
    if unknown:
        listed = [f"{code} ({c.pixels} pixels, first in {c.first})" for code, c in _commonest(unknown)[:5]]
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        found.errors.append(f"{_kind(colours)} not in {name}: {len(unknown)}, {', '.join(listed)}{more}")
    return found


def _kind(colours: bool) -> str:
    return "colours" if colours else "codes"


def _commonest(codes: Mapping[str, Code]) -> list[tuple[str, Code]]:
    return sorted(codes.items(), key=lambda item: -item[1].pixels)


def _numbered(spelt: Mapping[str, Code], voids: list[str], colours: bool) -> Guess:
    """Classes class_0, class_1, … for what the masks hold."""
    found = Guess([], voids)
    if set(spelt) == {"0", "255"}:
        found.void = []
        found.notes.append("masks hold 0 and 255 alone: taken for two classes, neither for void")
    elif voids:
        found.notes.append(f"{' and '.join(voids)} is taken for void; if it is a class, list it in classes.csv")
    codes = [code for code in spelt if code not in found.void]
    if len(codes) > MOST:
        rare = [f"{code} (first in {c.first})" for code, c in _commonest(spelt)[-3:]]
        found.errors.append(
            f"unknown {_kind(colours)} in the masks: {len(codes)}, such as {', '.join(rare)}: drawn with soft edges, "
            "or saved in a lossy format? If they are classes, list them in classes.csv"
        )
        codes = codes[:MOST]
    if codes == [str(i) for i in range(len(codes))]:
        found.classes = [f"class_{code}" for code in codes]
    else:
        found.classes = [
            {f"class_{i}": code} if colours else {f"class_{code}": int(code)} for i, code in enumerate(codes)
        ]
    return found


def _table(path: Path, colours: bool) -> Guess:
    """A class a line, NAME or NAME,CODE or NAME,R,G,B; one called void, ignored or unlabelled is none."""
    found = Guess([], [])
    text = files.read_text(path)
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(row)]
    if len(rows) > 1 and len(rows[0]) > 1 and not any(cell.isdecimal() for cell in rows[0]):
        rows = rows[1:]  # a head line
    for row in rows:
        if len(row) not in (1, 2, 4) or not all(cell.isdecimal() for cell in row[1:]):
            found.errors.append(f"{path.name}: {','.join(row)!r} is no class; write NAME, NAME,CODE or NAME,R,G,B")
        elif colours and len(row) != 4:
            found.errors.append(f"{path.name}: {row[0]} has no colour, the masks are in colours; write NAME,R,G,B")
        elif len(row) == 1:
            found.classes.append(row[0])
        elif row[0].lower() in VOIDS:
            found.void.append(",".join(str(int(cell)) for cell in row[1:]))
        else:
            found.classes.append({row[0]: int(row[1]) if len(row) == 2 else ",".join(str(int(c)) for c in row[1:])})
    return found
