"""Infer the classes of a folder's masks, from its class table or from the codes in the masks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fcn.data.labels import Labels
from fcn.datasets.class_list import coded
from fcn.inspection.class_table import Row, Table
from fcn.runtime.errors import UserError, counted

MAX_CODES = 64  # codes or colours accepted as classes without a table; more come from antialiasing or a lossy format
LARGE = 0.1  # fraction of the pixels: an undeclared void code with more is more likely a class
VOC_BORDER = 0xE0E0C0  # 224,224,192: void in VOC's colours
BACKGROUND = "_background_"  # labelme's class 0
Class = str | dict[str, int | str]


@dataclass
class Code:
    """Statistics of a code over all masks: pixels, number of masks, and the first mask with it."""

    pixels: int = 0
    masks: int = 0
    first: str = ""


@dataclass
class Guess:
    """Classes and void in the format of params.yaml, with errors, warnings and notes.

    where   the file that declares them, or "masks"
    """

    classes: list[Class]
    void: list[str]
    where: str = "masks"
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def labels(self) -> Labels | None:
        """The parsed classes; None, with an error added, if they are invalid."""
        try:
            return coded(self.classes, " ".join(self.void), self.where)
        except UserError as error:
            if not self.errors:  # else this error is a consequence of them
                self.errors.append(str(error))
            return None


def guess(table: Table | None, codes: Mapping[int, Code], colours: bool) -> Guess:
    """The classes of masks that hold `codes`, for a folder with or without a class table."""
    spell = Labels((), (), colours=colours).spell
    spelt = {spell(code): stats for code, stats in sorted(codes.items())}
    border = spell(VOC_BORDER)
    voids = [code for code in ((border,) if colours else ("255", "65535")) if code in spelt]
    return _from_table(table, spelt, voids, colours) if table else _numbered(spelt, voids, colours)


def _from_table(table: Table, spelt: Mapping[str, Code], voids: list[str], colours: bool) -> Guess:
    result = Guess([], [], table.name, list(table.errors), notes=list(table.notes))
    if table.errors:
        return result
    given = {row: row.colour if colours else row.code for row in table.rows}
    named = [row for row in table.rows if not row.is_void]
    without_code = [row for row in named if not given[row]]
    if colours and without_code:
        result.errors.append(
            f"{table.name}: {without_code[0].name} has no colour, but the masks hold colours; write NAME,R,G,B"
        )
    elif without_code and len(without_code) < len(named):
        result.errors.append(f"{table.name}: {without_code[0].name} has no code, but others have one; write NAME,CODE")
    elif without_code:
        given |= _counted_from_0([row for row in table.rows if not given[row]], spelt, result)
    for row, code in given.items():
        if not row.is_void:
            result.classes.append({row.name: code if colours else int(code or -1)})
        elif code:
            result.void.append(code)
            result.notes.append(f"{code} is void: {table.name} calls it {row.name!r}")
        else:
            result.notes.append(f"{row.name!r} of {table.name} has no code and is skipped")
    if result.errors or not result.labels():
        return result
    _compare(result, [given[row] for row in named], spelt, voids, colours)
    if not colours and [given[row] for row in named] == [str(i) for i in range(len(named))]:
        result.classes = [row.name for row in named]
    return result


def _counted_from_0(rows: list[Row], spelt: Mapping[str, Code], result: Guess) -> dict[Row, str]:
    """Assign codes to lines without one: the line's index, from 0. Only labelme's `__ignore__` is not counted."""
    left_out = rows[:1] if rows[0].name == "__ignore__" else []
    counted_rows = rows[len(left_out) :]
    codes = {row: str(i) for i, row in enumerate(counted_rows)} | dict.fromkeys(left_out, "")
    void = next((row for row in counted_rows if row.is_void), None)
    background = next((row for row in counted_rows[1:] if row.name == BACKGROUND), None)
    advice = "write NAME,CODE on every line"
    if background:
        result.errors.append(
            f"{result.where}: {BACKGROUND}, code 0 in labelme, is on line {background.line}; put it first, or {advice}"
        )
    if void and void.name == "__ignore__":
        result.errors.append(
            f"{result.where}: '__ignore__' is on line {void.line}, not on line 1 as in labelme; {advice}"
        )
    elif void and any(not row.is_void for row in counted_rows[int(codes[void]) :]) and codes[rows[-1]] not in spelt:
        result.errors.append(
            f"{result.where}: {void.name!r} is on line {void.line} without a code, and no mask holds "
            f"{codes[rows[-1]]}, the code of the last line; is {void.name!r} counted? {advice}, "
            f"such as {void.name},{codes[void]}"
        )
    return codes


def _compare(result: Guess, declared: list[str], spelt: Mapping[str, Code], voids: list[str], colours: bool) -> None:
    """Compare the codes in the masks with those that the table declares; undeclared 255 or border colour is void."""
    absent = [code for code in declared if code not in spelt]
    total = sum(stats.pixels for stats in spelt.values())
    for code in voids:
        if code in declared or code in result.void:
            continue
        share = spelt[code].pixels / total
        text = f"{code} is not in {result.where} and treated as void, {share:.1%} of the pixels"
        if absent and (share >= LARGE or len(spelt) == len(declared)):
            result.errors.append(_unclaimed(result, code, share, spelt))
        else:
            (result.warnings if share >= LARGE else result.notes).append(text)
        result.void.append(code)
    unknown = {code: stats for code, stats in spelt.items() if code not in declared and code not in result.void}
    if unknown:
        listed = [f"{code} ({counted(c.pixels, 'pixel')}, first in {c.first})" for code, c in _commonest(unknown)[:5]]
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        hint = ""
        if colours and all(len(set(code.split(","))) == 1 for code in unknown):
            hint = "; if these masks hold codes, write NAME,CODE"
        result.errors.append(f"{_kinds(len(unknown), colours)} not in {result.where}: {', '.join(listed)}{more}{hint}")


def _unclaimed(result: Guess, code: str, share: float, spelt: Mapping[str, Code]) -> str:
    """The error for void that is likely a class: a declared class is in no mask, and this code could be it."""
    codes = list(spelt)
    names = [next(iter(c)) if isinstance(c, dict) else c for c in result.classes]
    if len(codes) == len(names):
        lines = " and ".join(f"{name},{code}" for name, code in zip(names, codes, strict=True))
    else:
        lines = f"NAME,{code} for a class"
    # With two codes, void would leave a single class, which cannot be learned.
    void = f", or void,{code} if {code} is not a class" if len(codes) > 2 else ""
    return (
        f"the masks hold {_some(codes)}, {code} in {share:.1%} of the pixels, but {result.where} has no class of code "
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
    """Classes class_0, class_1, … for the codes in the masks, without a table."""
    result = Guess([], voids)
    if set(spelt) == {"0", "255"}:
        result.void = []
        result.warnings.append(
            "255 IS A CLASS: the masks hold only 0 and 255, so nothing is void; to name both, write the lines "
            "NAME,0 and NAME,255 in classes.csv in this folder"
        )
    elif voids:
        share = sum(spelt[code].pixels for code in voids) / sum(stats.pixels for stats in spelt.values())
        text = f"{' and '.join(voids)} is treated as void, {share:.1%} of the pixels; if it is a class, list it"
        (result.warnings if share >= LARGE else result.notes).append(text)
    codes = [code for code in spelt if code not in result.void]
    if not codes and spelt:
        result.errors.append(
            f"masks hold only {' and '.join(spelt)}, which is void; list the classes, as lines NAME,CODE, in "
            "classes.csv in this folder"
        )
    if len(codes) > MAX_CODES:
        rare = [f"{code} (first in {c.first})" for code, c in _commonest(spelt)[-3:]]
        result.errors.append(
            f"{len(codes)} unknown {'colours' if colours else 'codes'} in the masks, such as {', '.join(rare)}: drawn "
            "with soft edges, saved in a lossy format, or images instead of masks? If they are classes, list them, as "
            "lines NAME,CODE, in classes.csv in this folder"
        )
        codes = codes[:MAX_CODES]
    if codes == [str(i) for i in range(len(codes))]:
        result.classes = [f"class_{code}" for code in codes]
    else:
        result.classes = [
            {f"class_{i}": code} if colours else {f"class_{code}": int(code)} for i, code in enumerate(codes)
        ]
    return result
