"""Comparisons as Markdown for a pull request, with two pictures each: the images that gained and lost most."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fcn.comparison import text
from fcn.comparison.comparison import Comparison, Image, titles
from fcn.comparison.text import NONE
from fcn.figures import sheets
from fcn.ladder import NETS
from fcn.report.markdown import plain
from fcn.runtime import files
from fcn.runtime.errors import counted

ROWS = 30  # params and files listed of each comparison
CHARACTERS = 200  # of a value; GitHub refuses a comment of more than 65,536 characters


def write(found: Sequence[Comparison], path: Path) -> list[Path]:
    """Writes the comparisons as Markdown, and their pictures beside it as PNG.

    returns   the paths of the Markdown file and its pictures
    """
    pictures: list[list[tuple[str, str]]] = []
    for i, each in enumerate(found, 1):
        pictures.append([])
        for kind, chosen in (("gained", each.gained), ("lost", each.lost)):
            if chosen and each.labels:
                name = "-".join([path.stem, *([str(i)] if len(found) > 1 else []), kind]) + ".png"
                _draw(each, chosen, path.with_name(name))
                pictures[-1].append((f"Images that {kind} most with {NETS[each.net]}", name))
    files.write_text(path, markdown(found, pictures))
    return [path, *(path.with_name(name) for shown in pictures for _, name in shown)]


def _draw(found: Comparison, chosen: Sequence[Image], path: Path) -> None:
    assert found.labels is not None
    changes = ["{} to {} ({})".format(*text.changed(image.one, image.other)) for image in chosen]
    # The font of pictures has no minus sign.
    notes = [[image.name, change.replace("\N{MINUS SIGN}", "-")] for image, change in zip(chosen, changes, strict=True)]
    names = ["image", "truth", found.one.first.name, found.other.first.name]
    shown = np.sum([image.shown for image in chosen], 0)
    sheets.sheet([list(image.pictures) for image in chosen], found.labels, path, shown, names, notes)


def markdown(found: Sequence[Comparison], pictures: Sequence[Sequence[tuple[str, str]]] = ()) -> str:
    """The comparisons as Markdown. Names and values are escaped.

    pictures   of each comparison: title and file name
    """
    sections = [list(_section(each)) for each in found]
    for lines, shown in zip(sections, pictures, strict=False):
        lines += [f"![{title}]({name})\n" for title, name in shown]
    return "\n".join(line for lines in sections for line in lines)


def _section(found: Comparison) -> Iterator[str]:
    names = [_code(found.one.name), _code(found.other.name)]
    yield f"## {names[0]} → {names[1]}\n"
    yield f"**{_text(summary(found))}**\n"
    yield from _table(["params", *names], [[_code(cell) for cell in row] for row in found.params[:ROWS]])
    yield from _more(len(found.params), "param")
    yield from _code_lines(found)
    heads = ["scores, %", *names, *text.heads(found)[2:]]
    yield from _table(heads, [[title, *cells] for title, cells in text.rows(found)])
    if found.method:
        yield f"95 % intervals: {found.method}\n"
    yield from (f"- {_text(note)}\n" for note in found.notes)
    if found.classes:
        rows = [[_code(name), *text.changed(one, other)] for name, one, other in text.ends(found.classes)]
        yield from _table([f"IU by class, {NETS[found.net]}, %", *names, "difference"], rows)


def summary(found: Comparison) -> str:
    """One sentence: the verdict, or why there is none."""
    if found.reason:
        return f"Not comparable: {found.reason}"
    if sentence := text.verdict(found):
        return sentence
    score = next((score for score in found.scores if score.name == f"{found.net}.mean_iu"), None)
    if score is None:
        return "Not comparable: no net has a score on both sides"
    why = "" if found.method else "; no interval, for the reason below"
    return f"{' '.join(titles(score.name))}: difference {text.signed(score.difference)} points{why}"


def _code_lines(found: Comparison) -> Iterator[str]:
    """The files of the code and the inputs that differ."""
    if not found.params:
        yield "No params differ.\n"
    if found.code:
        yield f"Code that stages depend on differs in {counted(len(found.code), 'file')}:\n"
        for file in found.code[:ROWS]:
            yield f"- {_code(file.path)} +{file.added} −{file.removed} ({plain(', '.join(file.stages) or 'graph')})"
        yield ""
        yield from _more(len(found.code), "file")
    if found.inputs:
        yield f"Inputs that differ: {', '.join(map(_code, found.inputs[:ROWS]))}\n"


def _more(count: int, what: str) -> Iterator[str]:
    if count > ROWS:
        yield f"and {counted(count - ROWS, 'more ' + what)}\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table whose cells are right-aligned but for the first of each row; nothing without rows."""
    if rows:
        yield f"| {' | '.join(heads)} |"
        yield f"|---|{'---:|' * (len(heads) - 1)}"
        yield from (f"| {' | '.join(cell or NONE for cell in row)} |" for row in rows)
        yield ""


def _text(sentence: str) -> str:
    """A sentence, in which words that GitHub might link as a user or an issue are code."""
    return " ".join(_code(word) if {"@", "#"} & set(word) else plain(word) for word in sentence.split())


def _code(name: str) -> str:
    """A name or value as code, in which GitHub links no user and no issue."""
    short = name if len(name) <= CHARACTERS else f"{name[:CHARACTERS]}…"
    return f"<code>{plain(short)}</code>"
