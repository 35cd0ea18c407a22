"""A comparison as text for a terminal."""

from collections.abc import Iterator, Sequence

import numpy as np

from fcn.comparison.comparison import Comparison, Score, titles
from fcn.runtime.errors import counted, printable

NONE = "—"
LISTED = 3  # classes and images listed that gained, and that lost
FILES = 12  # files of the code listed


def lines(found: Comparison) -> Iterator[str]:
    """The comparison, line by line."""
    names = [found.one.name, found.other.name]
    yield f"{names[0]} → {names[1]}"
    yield ""
    yield from _grid("params", names, [(key, [one, other]) for key, one, other in found.params])
    if not found.params:
        yield "params: no difference"
    yield from _code(found)
    for path in found.inputs:
        yield f"input: {path} differs"
    yield ""
    yield from _grid("scores, %", heads(found), rows(found))
    if found.reason:
        yield f"not comparable: {found.reason}"
    if found.method:
        yield f"95 % intervals: {found.method}"
    for note in found.notes:
        yield f"note: {note}"
    if found.classes:
        yield ""
        yield from _grid(
            f"IU by class, {titles(found.net + '.mean_iu')[0]}, %",
            [*names, "difference"],
            [(name, changed(one, other)) for name, one, other in ends(found.classes)],
        )
    if found.gained or found.lost:
        yield ""
        images = [*found.gained[:LISTED], *reversed(found.lost[:LISTED])]
        values = [(image.name, changed(image.one, image.other)) for image in images]
        yield from _grid("mean IU by image, %", [*names, "difference"], values)


def _code(found: Comparison) -> Iterator[str]:
    if found.code is None:
        missing = [side.name for side in (found.one, found.other) if side.first.state is None]
        yield f"code: not recorded for {' and '.join(missing)}"
    elif not found.code:
        yield "code: no difference in what stages depend on"
    else:
        yield f"code: {counted(len(found.code), 'file')}"
        for file in found.code[:FILES]:
            yield f"  {file.path}  +{file.added} −{file.removed}  ({', '.join(file.stages) or 'graph'})"
        if len(found.code) > FILES:
            yield f"  and {len(found.code) - FILES} more"


def heads(found: Comparison) -> list[str]:
    """Column heads of the scores."""
    columns = [found.one.name, found.other.name]
    if found.reason:
        return columns
    test = ["p"] if any(score.interval and score.interval.p is not None for score in found.scores) else []
    return [*columns, "difference", *(["95 % interval"] if found.method else []), *test]


def rows(found: Comparison) -> list[tuple[str, list[str]]]:
    """The title of each score, and its cells below `heads`."""
    columns = len(heads(found))
    filled = [(" ".join(titles(score.name)), [*_cells(score), *[""] * columns]) for score in found.scores]
    return [(title, cells[:columns]) for title, cells in filled]


def _cells(score: Score) -> list[str]:
    texts = [_values(score.one), _values(score.other), signed(score.difference)]
    if score.interval:
        texts.append(f"{signed(score.interval.low)} to {signed(score.interval.high)}")
        texts += [f"{score.interval.p:.2g}"] if score.interval.p is not None else []
    return texts


def verdict(found: Comparison) -> str:
    """A sentence on the mean IU of the finest net; empty if nothing was tested."""
    score = next((score for score in found.scores if score.name == f"{found.net}.mean_iu"), None)
    if score is None or score.interval is None:
        return ""
    net, interval = titles(score.name)[0], score.interval
    if not interval.is_difference:
        return f"{net}: no difference in mean IU is shown; the interval contains 0"
    better, worse = (found.other, found.one) if interval.difference > 0 else (found.one, found.other)
    return f"{net}: {better.name} has a higher mean IU than {worse.name}; the interval excludes 0"


def _values(values: Sequence[float]) -> str:
    if not values:
        return NONE
    mean = 100 * float(np.mean(values))
    return f"{mean:.1f} ± {100 * float(np.std(values, ddof=1)):.1f}" if len(values) > 1 else f"{mean:.1f}"


def changed(one: float, other: float) -> list[str]:
    """Two fractions in per cent, and their difference."""
    return [f"{100 * one:.1f}", f"{100 * other:.1f}", signed(other - one)]


def signed(fraction: float | None) -> str:
    """A difference in per cent with its sign."""
    if fraction is None:
        return NONE
    text = f"{100 * fraction:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def ends(rows: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The first and the last rows: the classes that gained and lost most."""
    return list(rows) if len(rows) <= 2 * LISTED else [*rows[:LISTED], *rows[-LISTED:]]


def _grid(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """A table: names at the left, cells right-aligned below the column heads."""
    if not rows:
        return
    table = [[title, *columns], *([f"  {printable(name)}", *map(printable, values)] for name, values in rows)]
    widths = [max(len(line[i]) if i < len(line) else 0 for line in table) for i in range(len(table[0]))]
    for line in table:
        padded = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=False))
        yield "  ".join([line[0].ljust(widths[0]), *padded]).rstrip()
