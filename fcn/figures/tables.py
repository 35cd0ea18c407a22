"""Names in tables that a spreadsheet may open, so that it takes none of them for a formula.

A name that begins with one of FORMULA, or with an apostrophe, is written with an apostrophe before it; whoever reads
the table takes one apostrophe away.
"""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(name: str) -> str:
    """What is written for a name."""
    return f"'{name}" if name.startswith((*FORMULA, "'")) else name


def name(cell: str) -> str:
    """The name that was written as this cell."""
    return cell.removeprefix("'")
