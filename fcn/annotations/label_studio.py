"""Label Studio: the export "JSON", a list of tasks.

Regions are drawn in the file's order: polygons and rectangles, in per cent of the image, by COCO's rule, because Label
Studio draws none itself and exports them as COCO polygons; brushes by Label Studio's own run lengths, of which the
pixels with an alpha above 0 count. Ellipses, key points and regions without a label are skipped and counted. Of several
annotations of a task, the one marked as ground truth is read, or else the first.

source   https://labelstud.io/guide/export.html
"""

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from fcn.annotations import documents
from fcn.annotations.shapes import Annotated, Annotations, Brush, Polygon, Shape, points
from fcn.io.images import SUFFIXES
from fcn.runtime.errors import UserError, shortened

TOOL = "Label Studio"
Percent = FiniteFloat


class _Value(BaseModel):
    points: list[tuple[Percent, Percent]] = []
    x: Percent = 0
    y: Percent = 0
    width: Percent = 0
    height: Percent = 0
    rotation: FiniteFloat = 0
    rle: list[int] = []
    polygonlabels: list[str] = []
    rectanglelabels: list[str] = []
    brushlabels: list[str] = []


class _Region(BaseModel):
    type: str
    value: _Value = _Value()
    original_width: int | None = Field(None, gt=0)
    original_height: int | None = Field(None, gt=0)


class _Annotation(BaseModel):
    result: list[_Region]
    was_cancelled: bool = False
    ground_truth: bool = False


class _Task(BaseModel):
    data: dict[str, Any]
    annotations: list[_Annotation]


def matches(document: Any) -> bool:
    """Whether a JSON document is such an export."""
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(task, dict) and {"data", "annotations"} <= task.keys() for task in document)
    )


def read(document: Any, file: str, names: Sequence[str]) -> Annotations:
    """The shapes of all annotated tasks. `names` is not used.

    raises   UserError if a value is missing or invalid
    """
    images, several, none = [], 0, 0
    for number, content in enumerate(document, 1):
        task = documents.checked(_Task, content, f"{file}: task {number}")
        finished = [one for one in task.annotations if not one.was_cancelled]
        if not finished:
            none += 1
            continue
        several += len(finished) > 1
        chosen = next((one for one in finished if one.ground_truth), finished[0])
        images.append(_image(task.data, chosen, file, f"{file}: task {number}"))
    notes = [f"tasks without a finished annotation, skipped: {none}"] if none else []
    if several:
        notes.append(f"tasks with several annotations: {several}; the ground truth was read, or else the first")
    return Annotations(TOOL, images, notes=notes)


def _image(data: dict[str, Any], chosen: _Annotation, file: str, where: str) -> Annotated:
    paths = {path for value in data.values() if isinstance(value, str) and (path := _path(value))}
    if len(paths) != 1:
        raise UserError(f"{where} has {len(paths)} images in its data; one is needed")
    annotated = Annotated(file, paths.pop(), None)
    for index, region in enumerate(chosen.result, 1):
        at = f"{where}, region {index}"
        labels = getattr(region.value, region.type, None)
        if region.type not in ("polygonlabels", "rectanglelabels", "brushlabels") or not labels:
            annotated.skipped[region.type[:40]] += 1
            continue
        if len(labels) > 1:
            raise UserError(f"{at} has {len(labels)} labels, such as {shortened(labels[1])}; a pixel has one class")
        size = (region.original_width or 0, region.original_height or 0)
        if not all(size) or annotated.size not in (None, size):
            raise UserError(f"{at} has no original_width and original_height, or others than the regions before it")
        annotated.size = size
        annotated.shapes.append(Shape(labels[0], _area(region, size, at), at))
    return annotated


def _path(value: str) -> str:
    """The image's path in a URL, such as /data/upload/1/0a1b2c3d-a.jpg or /data/local-files/?d=photos/a.jpg."""
    try:
        url = urlsplit(value)
        local = parse_qs(url.query).get("d")
    except ValueError:
        return ""
    path = local[0] if local else unquote(url.path)
    return path if path.lower().endswith(SUFFIXES) else ""


def _area(region: _Region, size: tuple[int, int], where: str) -> Polygon | Brush:
    value = region.value
    if region.type == "brushlabels":
        if not value.rle or min(value.rle) < 0 or max(value.rle) > 255:
            raise UserError(f"{where}: a brush without run lengths in bytes")
        return Brush(bytes(value.rle))
    scale = np.array(size) / 100
    if region.type == "polygonlabels":
        return Polygon((points(np.array(value.points, float).reshape(-1, 2) * scale, where),), "coco")
    angle = math.radians(value.rotation)  # clockwise around the upper left corner
    across = np.array([math.cos(angle), math.sin(angle)]) * value.width * scale[0]
    down = np.array([-math.sin(angle), math.cos(angle)]) * value.height * scale[1]
    corner = np.array([value.x, value.y]) * scale
    return Polygon((points([corner, corner + across, corner + across + down, corner + down], where),), "coco")
