"""LabelMe: a JSON file beside each image.

Shapes are drawn in the file's order by labelme's own rule (`labelme.utils.shapes_to_label`): polygons, rectangles,
oriented rectangles, circles and masks. Lines and points have no area; labelme's line is 10 pixels wide whatever the
image, so they are skipped and counted. A polygon has no holes; labelme people draw the hole as a later shape.
"""

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, FiniteFloat

from fcn.annotations import documents
from fcn.annotations.shapes import Annotated, Annotations, Box, Encoded, Polygon, Shape, coordinates, points
from fcn.runtime.errors import UserError, shortened

TOOL = "LabelMe"
WITHOUT_AREA = ("line", "linestrip", "point", "points")


class _Shape(BaseModel):
    label: str = Field(min_length=1)
    points: list[tuple[FiniteFloat, FiniteFloat]]
    shape_type: str | None = None
    mask: str | None = None


class _File(BaseModel):
    shapes: list[_Shape]
    imagePath: str  # noqa: N815
    imageWidth: int | None = None  # noqa: N815
    imageHeight: int | None = None  # noqa: N815


def matches(document: Any) -> bool:
    """Whether a JSON document is a LabelMe file."""
    return isinstance(document, dict) and isinstance(document.get("shapes"), list) and "imagePath" in document


def read(document: Any, file: str, names: Sequence[str]) -> Annotations:
    """The shapes of one image. `names` is not used.

    raises   UserError if a value is missing or invalid, or a shape is of an unknown kind
    """
    content = documents.checked(_File, document, file)
    width, height = content.imageWidth, content.imageHeight
    annotated = Annotated(file, content.imagePath, (width, height) if width and height else None)
    for number, shape in enumerate(content.shapes, 1):
        if shape.shape_type in WITHOUT_AREA:
            annotated.skipped[shape.shape_type] += 1
        else:
            where = f"{file}: shape {number} ({shape.label[:40]})"
            annotated.shapes.append(Shape(shape.label, _area(shape, where), where))
    return Annotations(TOOL, [annotated])


def _area(shape: _Shape, where: str) -> Polygon | Box | Encoded:
    kind, corners = shape.shape_type, shape.points
    if kind in (None, "polygon", "oriented_rectangle"):
        return Polygon((points(corners, where),), "pillow")
    if kind not in ("rectangle", "circle", "mask"):
        raise UserError(f"{where}: the shape {shortened(kind)} is unknown")
    if len(corners) != 2:
        raise UserError(f"{where}: a {kind} has 2 points, not {len(corners)}")
    coordinates(corners, where)
    (x0, y0), (x1, y1) = corners
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return Box(x0 - radius, y0 - radius, x0 + radius, y0 + radius, ellipse=True)
    if kind == "rectangle":
        return Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    try:
        return Encoded(base64.b64decode(shape.mask or "", validate=True), int(x0), int(y0))
    except binascii.Error:
        raise UserError(f"{where}: its mask is not base64") from None
