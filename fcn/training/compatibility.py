"""What numbers of params.yaml must agree on with one another, with the classes and with the sizes of images.

Called by `fcn check` and `fcn recipe` with what is known before anything runs, and by each rung with what resize made.
"""

from collections.abc import Iterable, Sequence

from fcn.models.fcn import BACKBONES, normalized_positions
from fcn.params import STRIDES, Params, Rung
from fcn.runtime.errors import UserError

Size = tuple[int, int]  # width and height, in pixels


def check_classes(names: Sequence[str]) -> None:
    """raises   UserError if there is one class alone"""
    if len(names) == 1:
        raise UserError(
            f"params.yaml: data.folder.classes lists one class alone, {names[0]}, so that any net scores 100 %; add "
            "the class that it is to be told from, such as the background"
        )


def check_class_weights(wanted: str | float | list[float], classes: int) -> None:
    """raises   UserError if data.class_weights is a list of another length, or weighs nothing at all"""
    if not isinstance(wanted, list):
        return
    if len(wanted) != classes:
        raise UserError(
            f"params.yaml: data.class_weights has {len(wanted)} weights, the data set has {classes} classes"
        )
    if not any(wanted):
        raise UserError(
            "params.yaml: data.class_weights are all 0, so nothing would be learned; write none, or weights"
        )


def check_batch_norm(rung: Rung, backbone: str, section: str) -> None:
    """raises   UserError if batch norm would see only a part of a batch"""
    if BACKBONES[backbone].norm and rung.iterations and rung.accumulate > 1:
        raise UserError(
            f"params.yaml: {section}.accumulate is {rung.accumulate}: batch norm takes its statistics over one pass, "
            "so accumulation changes them; set accumulate: 1"
        )


def check_images(
    rung: Rung, params: Params, images: Iterable[tuple[str, Size]], *, processes: int | None = None
) -> None:
    """What a rung's steps would find out about training images, one after the other.

    images      name and size of each, after resizing; without a name, of all
    processes   that share a batch; None if that is not known yet
    raises      UserError if no image is as large as the crop, if those of one pass differ in size, or if batch norm
                would see a single value per channel
    """
    if not rung.iterations:
        return
    by_size: dict[Size, str] = {}
    for name, size in images:
        by_size.setdefault(size, name)
    norm, batch = BACKBONES[params.model.backbone].norm, params.batch_size
    if params.data.crop != "none":
        crop = _size(params.data.crop)
        largest = max(width for width, _ in by_size), max(height for _, height in by_size)
        if crop[0] > largest[0] or crop[1] > largest[1]:
            raise UserError(
                f"params.yaml: data.crop is {params.data.crop}, larger than every training image: the widest has "
                f"{largest[0]} pixels, the highest {largest[1]}; make it smaller, or none"
            )
        by_size = {crop: ""}
    elif len(by_size) > 1 and processes and _pass(batch, rung.accumulate, processes) > 1:
        (first, one), (second, other) = list(by_size.items())[:2]
        accumulate = "" if norm else f", or accumulate: {batch}, so that a pass has one image"
        raise UserError(
            f"training images of a pass differ in size: {one} is {first[0]}x{first[1]}, {other} is "
            f"{second[0]}x{second[1]}; set data.size.train or data.crop to WIDTHxHEIGHT, or batch_size: 1{accumulate}"
        )
    if batch > 1 or not norm or rung.freeze == "backbone":
        return
    for size, name in by_size.items():
        if normalized_positions(params.model.backbone, params.model.pad, *size) == 1:
            what = f"training image {name} is" if name else "every training image is"
            what = what if params.data.crop == "none" else "params.yaml: data.crop is"
            larger = "data.crop to WIDTHxHEIGHT with a side of" if len(by_size) > 1 else "batch_size: 2, or a side of"
            raise UserError(
                f"{what} {size[0]}x{size[1]}, in which batch norm sees a single value per channel; set {larger} "
                f"{_enough(params)} pixels or more"
            )


def sections(params: Params) -> dict[str, Rung]:
    """Each rung by its section's name."""
    return {"train" if s == 32 else f"finetune.fcn{s}s": params.rung(s) for s in STRIDES}


def _pass(batch: int, accumulate: int, processes: int) -> int:
    """The most images that one process puts through the net at once."""
    share = -(-batch // processes)
    return -(-share // -(-accumulate // processes))


def _enough(params: Params) -> int:
    """The smallest side in pixels that gives batch norm more than one value."""
    model = params.model
    return next(n for n in range(1, 1 << 10) if normalized_positions(model.backbone, model.pad, n, 1) > 1)


def _size(text: str) -> Size:
    width, height = map(int, text.split("x"))
    return width, height
