"""Parse the classes of a user's data set, declared in params.yaml under data.folder."""

from collections.abc import Sequence

from fcn import palette
from fcn.data.labels import UNKNOWN, Labels
from fcn.datasets.label_maps import MAPS
from fcn.params import Folder
from fcn.runtime.errors import UserError

WHERE = "params.yaml: data.folder.classes"


def labels(params: Folder) -> Labels:
    """The classes of a named label map, or of a list of names with codes or colours."""
    if isinstance(params.classes, list):
        return coded(params.classes, "" if params.void is None else str(params.void))
    if params.classes not in MAPS:
        raise UserError(
            f"{WHERE} is {(params.classes or 'none')!r}; choose from {', '.join(MAPS)}; or list the classes"
        )
    return MAPS[params.classes]


def coded(classes: Sequence[str | dict[str, int | str]], void: str, where: str = WHERE) -> Labels:
    """The classes of a list such as [sky, {road: 7}] or [{sky: "0,0,255"}, {road: "90,90,90 91,91,91"}].

    The code of a bare name is its index in the list, from 0. A class may have several codes, separated by spaces.

    where    the file or key that declares the classes, for error messages
    raises   UserError if a name or a code is duplicated, or codes and colours are mixed
    """
    pairs = [next(iter(c.items())) if isinstance(c, dict) and c else (c, i) for i, c in enumerate(classes)]
    for name, code in pairs:
        if not (isinstance(name, str) and name.strip() and name.isprintable() and str(code).split()):
            raise UserError(f"{where}: {name!r} is not a class; write a name, NAME: CODE or NAME: R,G,B")
    if not 0 < len(pairs) < UNKNOWN or any(isinstance(c, dict) and len(c) != 1 for c in classes):
        lines = ", one per line, each after a -" if where == WHERE else ""
        raise UserError(f"{where} must list 1 to {UNKNOWN - 1} classes{lines}")
    names = [str(name).strip() for name, _ in pairs]
    class_texts = [str(code).split() for _, code in pairs]
    void_texts = void.split()
    texts = [text for group in (*class_texts, void_texts) for text in group]
    colours = "," in texts[0]
    both = f"{where} and void" if where == WHERE else where
    if any(("," in text) != colours for text in texts):
        raise UserError(f"{both}: some are codes, others colours; use one or the other for all")
    for duplicate in (value for values in (names, texts) for value in values if values.count(value) > 1):
        raise UserError(f"{both}: {duplicate} is duplicated; remove one")
    codes = [tuple(_code(text, where) for text in group) for group in class_texts]
    display = tuple(_rgb(group[0]) for group in codes) if colours else palette.class_colours(len(codes))
    void_codes = tuple(_code(text, where) for text in void_texts)
    labels = Labels(tuple(names), display, void_codes, codes=tuple(codes), colours=colours)
    if reason := labels.problem():
        raise UserError(f"{where}: {reason}")
    return labels


def _code(text: str, where: str) -> int:
    parts = text.split(",")
    limit = 256 if len(parts) == 3 else 1 << 16
    if len(parts) not in (1, 3) or not all(
        p.isascii() and p.isdecimal() and len(p) <= 5 and int(p) < limit for p in parts
    ):
        raise UserError(f"{where}: {text!r} is not a code; write a number up to 65535, or a colour such as 128,64,128")
    return int(parts[0]) if len(parts) == 1 else int(parts[0]) << 16 | int(parts[1]) << 8 | int(parts[2])


def _rgb(code: int) -> tuple[int, int, int]:
    return code >> 16, code >> 8 & 255, code & 255
