"""Which classes a folder's masks hold: as its table says, or as their codes suggest."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fcn.data.labels import Labels
from fcn.datasets.class_list import coded
from fcn.inspection.class_table import Row, Table
from fcn.runtime.errors import UserError, counted

MOST = 64  # colours without a table that are taken for classes; more come from soft edges or a lossy format
LARGE = 0.1  # of the pixels: so much void without a declaration is more likely a class
VOC_BORDER = 0xE0E0C0  # 224,224,192: void in VOC's colours
BACKGROUND = "_background_"  # labelme's class 0
Class = str | dict[str, int | str]


@dataclass
class Code:
    """How common a code is over all masks, and in which of them it comes first."""

    pixels: int = 0
    masks: int = 0
    first: str = ""


@dataclass
class Guess:
    """Classes and void as params.yaml wants them, with what is wrong, what is doubtful and what is good to know.

    where   the file that says so, if one does
    """

    classes: list[Class]
    void: list[str]
    where: str = "masks"
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def labels(self) -> Labels | None:
        """The classes as they will be read; None, and one more error, if they can't be."""
        try:
            return coded(self.classes, " ".join(self.void) or "none", self.where)
        except UserError as error:
            if not self.errors:  # else it follows from them
                self.errors.append(str(error))
            return None


def guess(table: Table | None, codes: Mapping[int, Code], colours: bool) -> Guess:
    """The classes of masks that hold `codes`, of a folder that may have a table of them."""
    spell = Labels((), (), colours=colours).spell
    spelt = {spell(code): seen for code, seen in sorted(codes.items())}
    border = spell(VOC_BORDER)
    voids = [code for code in ((border,) if colours else ("255", "65535")) if code in spelt]
    return _from_table(table, spelt, voids, colours) if table else _numbered(spelt, voids, colours)


def _from_table(table: Table, spelt: Mapping[str, Code], voids: list[str], colours: bool) -> Guess:
    found = Guess([], [], table.name, list(table.errors), notes=list(table.notes))
    if table.errors:
        return found
    given = {row: row.colour if colours else row.code for row in table.rows}
    named = [row for row in table.rows if not row.is_void]
    lacking = [row for row in named if not given[row]]
    if colours and lacking:
        found.errors.append(
            f"{table.name}: {lacking[0].name} has no colour, the masks are in colours; write NAME,R,G,B"
        )
    elif lacking and len(lacking) < len(named):
        found.errors.append(f"{table.name}: {lacking[0].name} has no code, other classes have one; write NAME,CODE")
    elif lacking:
        given |= _counted_from_0([row for row in table.rows if not given[row]], spelt, found)
    for row, code in given.items():
        if not row.is_void:
            found.classes.append({row.name: code if colours else int(code or -1)})
        elif code:
            found.void.append(code)
            found.notes.append(f"{code} is void: {table.name} calls it {row.name!r}")
        else:
            found.notes.append(f"{row.name!r} of {table.name} has no code and is left out")
    if found.errors or not found.labels():
        return found
    _compare(found, [given[row] for row in named], spelt, voids, colours)
    if not colours and [given[row] for row in named] == [str(i) for i in range(len(named))]:
        found.classes = [row.name for row in named]
    return found


def _counted_from_0(rows: list[Row], spelt: Mapping[str, Code], found: Guess) -> dict[Row, str]:
    """The codes of lines that have none: a line's place, from 0. Only labelme's `__ignore__` has no place."""
    left_out = rows[:1] if rows[0].name == "__ignore__" else []
    counted_rows = rows[len(left_out) :]
    codes = {row: str(i) for i, row in enumerate(counted_rows)} | dict.fromkeys(left_out, "")
    void = next((row for row in counted_rows if row.is_void), None)
    background = next((row for row in counted_rows[1:] if row.name == BACKGROUND), None)
    advice = "write NAME,CODE on every line"
    if background:
        found.errors.append(
            f"{found.where}: {BACKGROUND}, code 0 to labelme, is on line {background.line}; put it first, or {advice}"
        )
    if void and void.name == "__ignore__":
        found.errors.append(
            f"{found.where}: '__ignore__' is on line {void.line}; labelme has it on the first line alone; {advice}"
        )
    elif void and any(not row.is_void for row in counted_rows[int(codes[void]) :]) and codes[rows[-1]] not in spelt:
        found.errors.append(
            f"{found.where}: {void.name!r} is on line {void.line} without a code, and no mask holds {codes[rows[-1]]}, "
            f"the code of the last line; does {void.name!r} count? {advice}, such as {void.name},{codes[void]}"
        )
    return codes


def _compare(found: Guess, declared: list[str], spelt: Mapping[str, Code], voids: list[str], colours: bool) -> None:
    """What the masks hold beside what the table declares."""
    absent = [code for code in declared if code not in spelt]
    total = sum(seen.pixels for seen in spelt.values())
    for code in voids:
        if code in declared or code in found.void:
            continue
        share = spelt[code].pixels / total
        text = f"{code} is not in {found.where} and taken for void, {share:.1%} of the pixels"
        if absent and (share >= LARGE or len(spelt) == len(declared)):
            found.errors.append(_unclaimed(found, code, share, spelt))
        else:
            (found.warnings if share >= LARGE else found.notes).append(text)
        found.void.append(code)
    unknown = {code: seen for code, seen in spelt.items() if code not in declared and code not in found.void}
    if unknown:
        listed = [f"{code} ({counted(c.pixels, 'pixel')}, first in {c.first})" for code, c in _commonest(unknown)[:5]]
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        hint = ""
        if colours and all(len(set(code.split(","))) == 1 for code in unknown):
            hint = "; if these masks hold codes, write NAME,CODE"
        found.errors.append(f"{_kinds(len(unknown), colours)} not in {found.where}: {', '.join(listed)}{more}{hint}")


def _unclaimed(found: Guess, code: str, share: float, spelt: Mapping[str, Code]) -> str:
    """Void that is likely a class: some class is in no mask, and the code has many pixels or fills the gap."""
    codes = list(spelt)
    names = [next(iter(c)) if isinstance(c, dict) else c for c in found.classes]
    if len(codes) == len(names):
        lines = " and ".join(f"{name},{code}" for name, code in zip(names, codes, strict=True))
    else:
        lines = f"NAME,{code} for a class"
    # As void it would leave the masks a single class, of which nothing can be learned.
    void = f", or void,{code} if {code} is no class" if len(codes) > 2 else ""
    return (
        f"the masks hold {_some(codes)}, {code} in {share:.1%} of the pixels, but {found.where} has no class of code "
        f"{code}; write {lines} in it{void}"
    )


def _some(codes: list[str]) -> str:
    shown = codes if len(codes) <= 8 else [*codes[:6], "…", codes[-1]]
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]


def _kinds(count: int, colours: bool) -> str:
    return counted(count, "colour" if colours else "code")


def _commonest(codes: Mapping[str, Code]) -> list[tuple[str, Code]]:
    return sorted(codes.items(), key=lambda item: -item[1].pixels)


def _numbered(spelt: Mapping[str, Code], voids: list[str], colours: bool) -> Guess:
    """Classes class_0, class_1, … for what the masks hold."""
    found = Guess([], voids)
    if set(spelt) == {"0", "255"}:
        found.void = []
        found.warnings.append(
            "masks hold 0 and 255 alone: taken for two classes, neither for void; to name them, write the lines "
            "NAME,0 and NAME,255 in classes.csv"
        )
    elif voids:
        share = sum(spelt[code].pixels for code in voids) / sum(seen.pixels for seen in spelt.values())
        text = f"{' and '.join(voids)} is taken for void, {share:.1%} of the pixels; if it is a class, list it"
        (found.warnings if share >= LARGE else found.notes).append(text)
    codes = [code for code in spelt if code not in found.void]
    if not codes and spelt:
        found.errors.append(f"masks hold {' and '.join(spelt)} alone, which is void; list the classes in classes.csv")
    if len(codes) > MOST:
        rare = [f"{code} (first in {c.first})" for code, c in _commonest(spelt)[-3:]]
        found.errors.append(
            f"{len(codes)} unknown {'colours' if colours else 'codes'} in the masks, such as {', '.join(rare)}: drawn "
            "with soft edges, or saved in a lossy format? If they are classes, list them in classes.csv"
        )
        codes = codes[:MOST]
    if codes == [str(i) for i in range(len(codes))]:
        found.classes = [f"class_{code}" for code in codes]
    else:
        found.classes = [
            {f"class_{i}": code} if colours else {f"class_{code}": int(code)} for i, code in enumerate(codes)
        ]
    return found
