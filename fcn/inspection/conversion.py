"""Convert a folder with annotations of a labelling tool to one with masks, which is inspected like any other."""

import csv
import io
import os
import posixpath
import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from PIL import Image

from fcn.annotations import coco, cvat, documents, label_studio, labelme, shapes
from fcn.annotations.shapes import Annotated, Annotations, Segment
from fcn.data.labels import MAX_CLASSES, VOID
from fcn.datasets import pairing
from fcn.inspection import arrangements, class_table, inspection, layout, scan
from fcn.inspection.class_guess import MAX_CODES
from fcn.inspection.inspection import Inspection
from fcn.io.images import SUFFIXES
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError, counted, shortened

FORMATS: dict[str, tuple[ModuleType, ...]] = {".json": (labelme, coco, label_studio), ".xml": (cvat,)}
BACKGROUND = ("background", "_background_")
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # that Label Studio puts before the name of an uploaded image
OPTION = "choose with --annotations 'PATTERN'"


@contextmanager
def inspected(
    folder: Path, images: str | None = None, masks: str | None = None, pattern: str | None = None
) -> Iterator[Inspection]:
    """The inspection of a folder with masks or annotations. Converted files exist until the context ends.

    images, masks   patterns as in `inspection.inspect`; with one of them, annotations are not read
    pattern         which annotation files are read, such as 'annotations/instances_*'
    raises          UserError if annotations are damaged, contradict each other or need more than masks can hold
    """
    names = pairing.files(folder)
    known = images is not None or masks is not None
    found = [] if known else find(folder, names, pattern)
    if not found and pattern is not None:
        raise UserError(f"{folder}: no file that matches {shortened(pattern)} has annotations in a known format")
    arrangement = None if known or found else arrangements.find(folder, names)
    if not found and not arrangement:
        yield inspection.inspect(folder, images, masks)
        return
    target = machine.root() / ".fcn" / f"annotations.{os.getpid()}"
    for left in target.parent.glob("annotations.*"):  # of a killed process
        if not files.is_alive(left.suffix[1:]):
            files.remove(left)
    try:
        yield arrangements.inspected(folder, arrangement, target) if arrangement else convert(folder, found, target)
    finally:
        files.remove(target)


def find(folder: Path, names: Sequence[str], pattern: str | None = None) -> list[Annotations]:
    """The content of all annotation files of a folder.

    raises   UserError if a file is damaged or files have different formats; damaged files of a folder in which nothing
             else is an annotation are ignored
    """
    found, damaged = list[Annotations](), ""
    for name in names:
        formats = FORMATS.get(posixpath.splitext(name)[1].lower())
        if formats is None or (pattern is not None and not fnmatch(name, pattern)):
            continue
        try:
            document = _load(folder / name)
        except UserError as error:
            damaged = damaged or str(error)
            continue
        found += [module.read(document, name, names) for module in formats if module.matches(document)]
    if found and damaged:
        raise UserError(damaged)
    if len({one.tool for one in found}) > 1:
        files_of = {one.tool: one.images[0].file for one in found if one.images}
        listed = " and ".join(f"{tool} ({file})" for tool, file in files_of.items())
        raise UserError(f"{folder} has annotations of {listed}; {OPTION}")
    return found


def _load(path: Path) -> Any:
    return documents.load_xml(path) if path.suffix.lower() == ".xml" else documents.load_json(path)


def convert(folder: Path, found: Sequence[Annotations], target: Path) -> Inspection:
    """Write images/, masks/, classes.csv and lists of splits to `target`, and inspect it."""
    names = pairing.files(folder)
    pictures = [name for name in names if name.lower().endswith(SUFFIXES) and name not in _segments(found)]
    located, missing = _located([one for part in found for one in part.images], pictures)
    if not located:
        raise UserError(
            f"{folder}: none of the {counted(len(missing), 'annotated image')} is in it, such as "
            f"{shortened(missing[0]) if missing else 'none'}; put images and annotations into one folder"
        )
    codes, table = _codes(folder, names, found)
    keys = _keys(located)
    errors, used = list[str](), Counter[int]()
    for image, annotated in located.items():
        try:
            used.update(dict.fromkeys(_write(folder, image, keys[image], annotated, codes, target), 1))
        except UserError as error:
            errors.append(str(error).replace(f"{folder}/", ""))
    _write_classes(target, codes, used)
    _write_lists(folder, names, keys, located, target)
    if len(errors) == len(located):
        raise UserError(errors[0])
    result = inspection.inspect(target, "images/*", "masks/*")
    result.source = str(folder)
    result.errors[:0] = errors
    _report(result, pictures, found, located, missing, table)
    result.warnings[:0] = _unused_masks(folder, pictures, found[0].tool)
    return result


def _segments(found: Sequence[Annotations]) -> set[str]:
    """The panoptic PNGs, which are no images."""
    drawn = (shape.area for part in found for one in part.images for shape in one.shapes)
    return {area.path for area in drawn if isinstance(area, Segment)}


def _located(annotated: Iterable[Annotated], pictures: Sequence[str]) -> tuple[dict[str, Annotated], list[str]]:
    """The annotated images by path in the folder, and those that are not in it, as their files have them.

    raises   UserError if a name fits two images, or two files annotate one image
    """
    by_name = defaultdict[str, list[str]](list)
    for name in pictures:
        by_name[unicodedata.normalize("NFC", posixpath.basename(name))].append(name)
    located, missing = dict[str, Annotated](), list[str]()
    for one in annotated:
        image = _image(one, by_name)
        if image is None:
            missing.append(one.image)
        elif image in located:
            raise UserError(f"{image} is annotated in {located[image].file} and again in {one.file}; {OPTION}")
        else:
            located[image] = one
    return dict(sorted(located.items())), missing


def _image(annotated: Annotated, by_name: dict[str, list[str]]) -> str | None:
    """The image that an annotation file names: relative to that file, or by the end of its path, or its name.

    Only files of the folder are considered, so a path cannot lead out of it.
    """
    written = unicodedata.normalize("NFC", annotated.image.replace("\\", "/"))
    base = posixpath.basename(written)
    if base not in by_name:
        base = UPLOADED.sub("", base, count=1)
    candidates = by_name.get(base, [])
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(annotated.file), written))
    if beside in candidates:
        return beside
    parts = [part for part in written.split("/")[:-1] if part not in ("", ".", "..")] + [base]
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        ending = [name for name in candidates if f"/{name}".endswith(f"/{end}")]
        if len(ending) > 1:
            raise UserError(
                f"{annotated.file} has the image {shortened(annotated.image)}, which could be {ending[0]} "
                f"or {ending[1]}; rename one"
            )
        if ending:
            return ending[0]
    return None


def _codes(folder: Path, names: Sequence[str], found: Sequence[Annotations]) -> tuple[dict[str | None, int], str]:
    """The code of each label, and the file that lists the classes.

    Background is 0, void 255 and the classes follow from 1 in the order of the class table, or else of the annotation
    files, or else by name.

    raises   UserError if a label is not in the table, is no name, or there are too many
    """
    labelled = {shape.label: shape.where for part in found for one in part.images for shape in one.shapes}
    used = {label: where for label, where in labelled.items() if label is not None}
    table = class_table.find(folder, names)
    if table and table.errors:
        raise UserError(table.errors[0])
    declared = dict.fromkeys(name for part in found for name in part.classes)
    listed = [row.name for row in table.rows] if table else list(declared) or sorted(used)
    unknown = [label for label in used if label not in listed]
    if unknown:
        where = table.name if table else "the classes of its file"
        raise UserError(f"{used[unknown[0]]}: {shortened(unknown[0])} is not in {where}; add it, or correct the label")
    codes: dict[str | None, int] = {None: VOID}
    for name in listed:
        if name.startswith("#") or not name.strip() or not name.isprintable() or len(name) > class_table.MAX_NAME:
            raise UserError(
                f"the class {shortened(name)} of {found[0].tool} is not a name of up to "
                f"{class_table.MAX_NAME} printable characters that does not begin with #"
            )
        if name.lower() in class_table.VOIDS:
            codes[name] = VOID
        elif name.lower() in BACKGROUND:
            codes[name] = 0
    others = [name for name in dict.fromkeys(listed) if name not in codes]
    if len(others) > MAX_CLASSES - 2:
        raise UserError(f"{folder} has {len(others)} classes; at most {MAX_CLASSES - 2} are possible beside background")
    return codes | {name: code for code, name in enumerate(others, 1)}, table.name if table else ""


def _keys(located: Iterable[str]) -> dict[str, str]:
    """The name of each image's pair: its path without suffix, below the folder that contains all images.

    raises   UserError if two images have the same
    """
    images = list(located)
    common = posixpath.commonpath([posixpath.dirname(image) for image in images])
    keys = {image: posixpath.splitext(posixpath.relpath(image, common or "."))[0] for image in images}
    by_key: dict[str, str] = {}
    for image, key in keys.items():
        if by_key.setdefault(key, image) != image:
            raise UserError(f"{by_key[key]} and {image} differ only in their suffix; rename one, or delete it")
    return keys


def _write(
    folder: Path, image: str, key: str, annotated: Annotated, codes: dict[str | None, int], target: Path
) -> Iterator[int]:
    """Link the image and write its mask; the codes of the mask.

    raises   UserError if the image is broken or has another size, or a shape does not fit it
    """
    info = scan.information(folder / image)
    if annotated.size not in (None, info.size):
        sizes = [f"{width}x{height}" for width, height in (annotated.size or (0, 0), info.size)]
        rotated = " after EXIF orientation" if info.rotated else ""
        raise UserError(f"{annotated.file} was made for {image} of {sizes[0]}; the image is {sizes[1]}{rotated}")
    mask = Image.fromarray(shapes.mask(annotated, info.size, codes, folder))
    written = target / "masks" / f"{key}.png"
    linked = target / "images" / f"{key}{PurePosixPath(image).suffix}"
    written.parent.mkdir(parents=True, exist_ok=True)
    mask.save(written)
    arrangements.link(folder / image, linked)
    return (code for code, pixels in enumerate(mask.histogram()) if pixels)


def _write_classes(target: Path, codes: dict[str | None, int], used: Counter[int]) -> None:
    """Write classes.csv. Background is listed if the annotations do, or a mask has it; so is void."""
    rows = sorted((code, name) for name, code in codes.items() if name is not None and code != VOID)
    if used[0] and not any(code == 0 for code, _ in rows):
        rows.insert(0, (0, BACKGROUND[0]))
    if used[VOID]:
        rows.append((VOID, "void"))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("name", "code"), *((name, code) for code, name in rows)])
    target.mkdir(parents=True, exist_ok=True)
    (target / "classes.csv").write_text(text.getvalue(), encoding="utf-8")


def _write_lists(
    folder: Path, names: Sequence[str], keys: dict[str, str], located: dict[str, Annotated], target: Path
) -> None:
    """Copy the lists of splits; without any, write those of annotation files named after splits."""
    lists = [name for name in names if layout.SPLITS.get(posixpath.basename(name).lower().removesuffix(".txt"))]
    lists = [name for name in lists if name.lower().endswith(".txt")]
    for name in lists:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(files.read_regular(folder / name, files.TEXT))
    members = defaultdict[str, list[str]](list)
    for image, annotated in located.items():
        words = {layout.SPLITS[word] for word in re.findall("[a-z]+", annotated.file.lower()) if word in layout.SPLITS}
        members[words.pop() if len(words) == 1 else ""].append(keys[image])
    if not lists and len(members) > 1 and "" not in members:
        for split, chosen in members.items():
            (target / f"{split}.txt").write_text("".join(f"{key}\n" for key in chosen), encoding="utf-8")


def _unused_masks(folder: Path, pictures: Sequence[str], tool: str) -> Iterator[str]:
    """A warning if the folder has masks besides annotations."""
    with suppress(UserError):
        images, masks, _ = layout.guess(folder, pictures)
        (first, *_) = pairing.match(pictures, images, masks).pairs
        if 0 < len(scan.scan_pair(folder, first).codes) <= MAX_CODES:
            yield (
                f"MASKS BESIDE ANNOTATIONS: those of {tool} were read, not the masks of {masks}; if that is wrong, add "
                f"--images {shlex.quote(images)} --masks {shlex.quote(masks)}"
            )


def _report(
    result: Inspection,
    pictures: Sequence[str],
    found: Sequence[Annotations],
    located: dict[str, Annotated],
    missing: Sequence[str],
    table: str,
) -> None:
    """Add to the notes what was read, and to the warnings what was not."""
    many = sum(len(one.shapes) for one in located.values())
    rest = "void" if all(one.rest_void for one in located.values()) else "background"
    notes = [
        f"{counted(many, 'shape')} of {counted(len(found), f'{found[0].tool} file')} drawn as masks, later shapes over "
        f"earlier ones; pixels without a shape are {rest}"
    ]
    notes += dict.fromkeys(note for part in found for note in part.notes)
    if table:
        notes.append(f"names and order of the classes are those of {table}; the masks have codes of their own")
    if empty := sum(not one.shapes for one in located.values()):
        notes.append(f"without a shape, all {rest}: {counted(empty, 'image')}")
    if left := [name for name in pictures if name not in located]:
        notes.append(f"images without annotations, skipped: {len(left)}, such as {left[0]}")
    result.notes = notes + [note for note in result.notes if "classes.csv" not in note]  # which the user did not write
    skipped = sum((one.skipped for one in located.values()), Counter[str]())
    if skipped:
        listed = ", ".join(f"{count} × {kind}" for kind, count in skipped.most_common())
        result.warnings.insert(0, f"SKIPPED, because such shapes are not drawn: {listed}; their pixels are {rest}")
    if missing:
        result.warnings.insert(0, f"annotated images that are not in the folder: {len(missing)}, such as {missing[0]}")
