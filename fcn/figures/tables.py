"""Escape names in CSV tables, so that spreadsheets do not interpret them as formulas.

A name that begins with one of FORMULA, or with an apostrophe, is written with a leading apostrophe. Readers of the
table remove one apostrophe.
"""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(name: str) -> str:
    """The escaped form of a name."""
    return f"'{name}" if name.startswith((*FORMULA, "'")) else name


def name(cell: str) -> str:
    """The name of an escaped cell."""
    return cell.removeprefix("'")
