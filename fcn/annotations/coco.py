"""COCO: one JSON file for many images, with instances (polygons or run lengths) or panoptic segments.

Instances are drawn in the file's order, crowds first and as void. pycocotools makes masks of single annotations only;
COCO-Stuff's `cocoSegmentationToSegmentationMap` combines them in this order, if overlaps are allowed. Categories are
numbered in the order of their ids. An image of the file without annotations is all background. Of panoptic files,
pixels without a segment are void.

source   https://cocodataset.org/#format-data
"""

import posixpath
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, FiniteFloat

from fcn.annotations import documents
from fcn.annotations.shapes import Annotated, Annotations, Polygon, Runs, Segment, Shape, points, runs, uncompressed
from fcn.runtime.errors import UserError, shortened

TOOL = "COCO"


class _Image(BaseModel):
    id: int | str
    file_name: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class _Category(BaseModel):
    id: int
    name: str


class _Runs(BaseModel):
    size: tuple[int, int]  # height and width
    counts: str | list[int]


class _Segment(BaseModel):
    id: int
    category_id: int
    iscrowd: bool = False


class _Annotation(BaseModel):
    image_id: int | str
    category_id: int = 0
    iscrowd: bool = False
    segmentation: _Runs | list[list[FiniteFloat]] = []
    file_name: str = ""
    segments_info: list[_Segment] | None = None


class _File(BaseModel):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def matches(document: Any) -> bool:
    """Whether a JSON document is a COCO file with masks; those with boxes alone have none."""
    if not isinstance(document, dict) or any(
        not isinstance(document.get(key), list) for key in ("images", "categories", "annotations")
    ):
        return False
    return any(
        isinstance(one, dict) and (one.get("segmentation") or one.get("segments_info"))
        for one in document["annotations"]
    )


def read(document: Any, file: str, names: Sequence[str]) -> Annotations:
    """The shapes of all images of the file.

    names    the files of the folder, for panoptic PNGs
    raises   UserError if a value is missing or invalid, an id is unknown or duplicated, or a panoptic PNG is missing
    """
    content = documents.checked(_File, document, file)
    by_id: dict[int | str, Annotated] = {}
    for image in content.images:
        if image.id in by_id:
            raise UserError(f"{file}: two images have the id {shortened(str(image.id))}")
        by_id[image.id] = Annotated(file, image.file_name, (image.width, image.height))
    categories = {category.id: category.name for category in sorted(content.categories, key=lambda one: one.id)}
    crowds: dict[int, list[Shape]] = {}
    for number, one in enumerate(content.annotations, 1):
        where = f"{file}: annotation {number}"
        if one.image_id not in by_id:
            raise UserError(f"{where} has the image_id {shortened(str(one.image_id))}, which is no image's")
        annotated = by_id[one.image_id]
        if one.segments_info is not None:
            _add_segments(annotated, one, categories, names, where)
            continue
        label = _label(one.category_id, categories, where)
        where = f"{where} ({label[:40]})"
        area = _area(one, annotated, where)
        if area is None:
            continue
        if one.iscrowd:
            crowds.setdefault(id(annotated), []).append(Shape(None, area, where))
        else:
            annotated.shapes.append(Shape(label, area, where))
    for annotated in by_id.values():
        annotated.shapes[:0] = crowds.get(id(annotated), [])
    return Annotations(TOOL, list(by_id.values()), list(categories.values()))


def _label(category: int, categories: dict[int, str], where: str) -> str:
    if category not in categories:
        raise UserError(f"{where} has the category_id {category}, which is no category's")
    return categories[category]


def _area(one: _Annotation, annotated: Annotated, where: str) -> Polygon | Runs | None:
    """The area of an instance; None, counted as skipped, if it has none."""
    found = one.segmentation
    if isinstance(found, _Runs):
        width, height = annotated.size or (0, 0)
        if found.size != (height, width):
            raise UserError(f"{where}: its runs are of {found.size[1]}x{found.size[0]}, the image is {width}x{height}")
        counts = uncompressed(found.counts, where) if isinstance(found.counts, str) else found.counts
        return runs(counts, (0, 0, width, height), True, where)
    if any(len(part) % 2 for part in found):
        raise UserError(f"{where}: a polygon has an odd number of coordinates")
    parts = [part for part in found if len(part) >= 6]
    annotated.skipped["polygon of fewer than 3 points"] += len(found) - len(parts)
    annotated.skipped["box"] += not found
    return Polygon(tuple(points(part, where) for part in parts), "coco") if parts else None


def _add_segments(
    annotated: Annotated, one: _Annotation, categories: dict[int, str], names: Sequence[str], where: str
) -> None:
    annotated.rest_void = True
    stem = posixpath.splitext(annotated.file)[0]
    official = posixpath.normpath(f"{stem}/{one.file_name}")
    candidates = [name for name in names if f"/{name}".endswith(f"/{one.file_name}") and name != annotated.image]
    if official in names:
        path = official
    elif len(candidates) == 1:
        path = candidates[0]
    else:
        raise UserError(f"{where}: {shortened(one.file_name)} fits {len(candidates)} files; put it into {stem}/")
    for segment in one.segments_info or ():
        label = None if segment.iscrowd else _label(segment.category_id, categories, where)
        annotated.shapes.append(Shape(label, Segment(path, segment.id), where))
