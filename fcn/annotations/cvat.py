"""CVAT: XML 1.1 "for images".

Shapes are drawn by ascending z_order, and in the file's order within it, by COCO's rule: so do CVAT's own exports of
masks. Boxes are polygons of four points, turned by their rotation around their centre. Masks are run lengths along the
rows of a box. Polylines, points, ellipses, cuboids, skeletons and tags are skipped and counted. Labels are numbered in
the order of the file's <meta>.

source   https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

import math
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from fcn.annotations.shapes import Annotated, Annotations, Polygon, Runs, Shape, points, runs
from fcn.runtime.errors import UserError, shortened

TOOL = "CVAT"
SKIPPED = ("polyline", "points", "ellipse", "cuboid", "skeleton", "tag")


def matches(document: Any) -> bool:
    """Whether an XML document is CVAT's."""
    return isinstance(document, Element) and document.tag == "annotations" and document.find("version") is not None


def read(document: Any, file: str, names: Sequence[str]) -> Annotations:
    """The shapes of all images of the file. `names` is not used.

    raises   UserError if a value is missing or invalid, or the file is of a video
    """
    if document.find("track") is not None:
        raise UserError(f"{file} has tracks of a video; export it as 'CVAT for images 1.1'")
    labels = [(name.text or "").strip() for name in document.iterfind("meta//label/name")]
    return Annotations(TOOL, [_image(image, file) for image in document.iterfind("image")], list(dict.fromkeys(labels)))


def _image(image: Element, file: str) -> Annotated:
    name = _text(image, "name", file)
    where = f"{file}: image {shortened(name)}"
    annotated = Annotated(file, name, (_whole(image, "width", where), _whole(image, "height", where)))
    ordered = []
    for number, element in enumerate(image, 1):
        if element.tag in SKIPPED:
            annotated.skipped[element.tag] += 1
            continue
        at = f"{where}, shape {number}"
        label = _text(element, "label", at)
        order = _whole(element, "z_order", at) if "z_order" in element.attrib else 0
        ordered.append((order, Shape(label, _area(element, at), at)))
    annotated.shapes = [shape for _, shape in sorted(ordered, key=lambda one: one[0])]
    return annotated


def _area(element: Element, where: str) -> Polygon | Runs:
    if element.tag == "polygon":
        pairs = [pair.split(",") for pair in _text(element, "points", where).split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise UserError(f"{where}: its points are not of the form x,y;x,y;x,y")
        return Polygon((points([[_number(x, where), _number(y, where)] for x, y in pairs], where),), "coco")
    if element.tag == "box":
        left, top, right, bottom = (_number(_text(element, key, where), where) for key in ("xtl", "ytl", "xbr", "ybr"))
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        return Polygon((points(_rotated(corners, _number(element.get("rotation", "0"), where)), where),), "coco")
    if element.tag == "mask":
        lengths = [_integer(length, where) for length in _text(element, "rle", where).split(",")]
        left, top, width, height = (_whole(element, key, where) for key in ("left", "top", "width", "height"))
        return runs(lengths, (left, top, width, height), False, where)
    raise UserError(f"{where}: the shape {shortened(element.tag)} is unknown")


def _rotated(corners: Any, degrees: float) -> Any:
    """Corners turned clockwise around their centre; exactly the same ones for 0 degrees."""
    if not degrees:
        return corners
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    centre = corners.mean(0)
    return (corners - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre


def _text(element: Element, key: str, where: str) -> str:
    if key not in element.attrib:
        raise UserError(f"{where} has no {key}")
    return element.attrib[key]


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: {shortened(text, 40)} is not a number") from None


def _whole(element: Element, key: str, where: str) -> int:
    return _integer(_text(element, key, where), f"{where}, {key}")


def _integer(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{where}: {shortened(text, 40)} is not a whole number") from None
