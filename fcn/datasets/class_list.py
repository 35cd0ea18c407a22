"""Classes as a user declares them in params.yaml, under data.folder."""

from collections.abc import Sequence

from fcn.data import palette
from fcn.data.labels import UNKNOWN, Labels
from fcn.datasets.label_maps import MAPS
from fcn.params import Folder
from fcn.runtime.errors import UserError

WHERE = "params.yaml: data.folder.classes"


def labels(own: Folder) -> Labels:
    """The classes of a label map, or of a list of names with codes or colours."""
    if isinstance(own.classes, list):
        return coded(own.classes, str(own.void))
    if own.classes not in MAPS:
        raise UserError(f"{WHERE} is {own.classes!r}; there is {', '.join(MAPS)}; or list the classes")
    return MAPS[own.classes]


def coded(classes: Sequence[str | dict[str, int | str]], void: str, where: str = WHERE) -> Labels:
    """The classes of a list such as [sky, {road: 7}] or [{sky: "0,0,255"}, {road: "90,90,90 91,91,91"}].

    A name alone has its place in the list, from 0, as its code; a class may have several codes, parted by blanks.
    where    the file or key that declares them, named in errors
    raises   UserError if a name or a code stands twice, or codes and colours are mixed
    """
    pairs = [next(iter(c.items())) if isinstance(c, dict) and c else (c, i) for i, c in enumerate(classes)]
    for name, code in pairs:
        if not (isinstance(name, str) and name.strip() and name.isprintable() and str(code).split()):
            raise UserError(f"{where}: {name!r} is no class; write a name, NAME: CODE or NAME: R,G,B")
    if not 0 < len(pairs) < UNKNOWN or any(isinstance(c, dict) and len(c) != 1 for c in classes):
        lines = ", each on a line that begins with -" if where == WHERE else ""
        raise UserError(f"{where} must list 1 to {UNKNOWN - 1} classes{lines}")
    names = [str(name).strip() for name, _ in pairs]
    texts = [str(code).split() for _, code in pairs]
    unscored = [] if void == "none" else void.split()
    every = [text for some in (*texts, unscored) for text in some]
    colours = "," in every[0]
    both = f"{where} and void" if where == WHERE else where
    if any(("," in text) != colours for text in every):
        raise UserError(f"{both}: some are codes, others colours; all must be one or the other")
    for twice in (value for values in (names, every) for value in values if values.count(value) > 1):
        raise UserError(f"{both}: {twice} stands twice")
    codes = [tuple(_code(text, where) for text in some) for some in texts]
    drawn = tuple(_rgb(some[0]) for some in codes) if colours else palette.class_colours(len(codes))
    void_codes = tuple(_code(text, where) for text in unscored)
    labels = Labels(tuple(names), drawn, void_codes, codes=tuple(codes), colours=colours)
    if reason := labels.wrong():
        raise UserError(f"{where}: {reason}")
    return labels


def _code(text: str, where: str) -> int:
    parts = text.split(",")
    limit = 256 if len(parts) == 3 else 1 << 16
    if len(parts) not in (1, 3) or not all(
        p.isascii() and p.isdecimal() and len(p) <= 5 and int(p) < limit for p in parts
    ):
        raise UserError(f"{where}: {text!r} is no code; write a number up to 65535, or a colour such as 128,64,128")
    return int(parts[0]) if len(parts) == 1 else int(parts[0]) << 16 | int(parts[1]) << 8 | int(parts[2])


def _rgb(code: int) -> tuple[int, int, int]:
    return code >> 16, code >> 8 & 255, code & 255
