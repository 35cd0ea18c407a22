"""Checks that params.yaml is consistent with itself, with the classes and with the image sizes.

`fcn check` and `fcn recipe` call these before anything runs; each rung calls them with the output of resize.
"""

from collections.abc import Iterable, Sequence

from fcn.ladder import LADDER
from fcn.models.backbones import BACKBONES
from fcn.models.trunk import normalized_positions
from fcn.params import Params, Rung, Size
from fcn.runtime.errors import UserError


def check_classes(names: Sequence[str]) -> None:
    """raises   UserError if there is only one class"""
    if len(names) == 1:
        raise UserError(
            f"params.yaml: data.folder.classes lists only one class, {names[0]}, so any net scores 100 %; add "
            "another class, such as the background"
        )


def check_arithmetic(params: Params, processes: int = 1) -> None:
    """raises   UserError if arithmetic is portable, but precision is not fp32, or several processes train"""
    if params.arithmetic == "portable" and params.precision != "fp32":
        raise UserError(
            f"params.yaml: arithmetic: portable needs precision: fp32; {params.precision} rounds differently on CPUs "
            "without its instructions"
        )
    if params.arithmetic == "portable" and processes > 1:
        raise UserError("arithmetic: portable needs one process, whose number changes bits; set FCN_PROCESSES=1")


def check_fusion(params: Params) -> None:
    """raises   UserError if model.fusion is late, but there are not at least two inputs"""
    if params.model.fusion == "late" and len(params.data.inputs) == 1:
        raise UserError(
            f"params.yaml: model.fusion is late, but data.inputs is {params.data.inputs[0]} alone; join two inputs "
            "such as rgb+hha, or write early"
        )


def check_class_weights(wanted: float | list[float] | None, classes: int) -> None:
    """raises   UserError if data.class_weights is a list of the wrong length or contains only zeros"""
    if not isinstance(wanted, list):
        return
    if len(wanted) != classes:
        raise UserError(
            f"params.yaml: data.class_weights has {len(wanted)} weights, the data set has {classes} classes"
        )
    if not any(wanted):
        raise UserError(
            "params.yaml: data.class_weights are all 0, so nothing would be learned; write none, or positive weights"
        )


def check_batch_norm(rung: Rung, backbone: str, section: str) -> None:
    """raises   UserError if batch norm is combined with gradient accumulation"""
    if BACKBONES[backbone].norm and rung.iterations and rung.accumulate > 1:
        raise UserError(
            f"params.yaml: {section}.accumulate is {rung.accumulate}: batch norm takes its statistics over one pass, "
            "so accumulation changes them; set accumulate: 1"
        )


def check_images(
    rung: Rung, params: Params, images: Iterable[tuple[str, Size]], *, processes: int | None = None
) -> None:
    """Checks the sizes of the training images, which would otherwise fail in some later step.

    images      name and size of each image after resizing; an empty name stands for all images
    processes   that share a batch; None if not known yet
    raises      UserError if the crop is larger than every image, if images of one forward pass differ in size, or if
                batch norm would see a single value per channel
    """
    if not rung.iterations:
        return
    by_size: dict[Size, str] = {}
    for name, size in images:
        by_size.setdefault(size, name)
    norm, batch = BACKBONES[params.model.backbone].norm, params.batch_size
    if crop := params.data.crop:
        largest = max(width for width, _ in by_size), max(height for _, height in by_size)
        if crop.width > largest[0] or crop.height > largest[1]:
            raise UserError(
                f"params.yaml: data.crop is {crop}, larger than every training image: the widest has "
                f"{largest[0]} pixels, the highest {largest[1]}; make it smaller, or none"
            )
        by_size = {crop: ""}
    elif len(by_size) > 1 and processes and _pass(batch, rung.accumulate, processes) > 1:
        (first, one), (second, other) = list(by_size.items())[:2]
        accumulate = "" if norm else f", or accumulate: {batch}, so that a pass has one image"
        raise UserError(
            f"training images of a pass differ in size: {one} is {first}, {other} is {second}; "
            f"set data.size.train or data.crop to WIDTHxHEIGHT, or batch_size: 1{accumulate}"
        )
    if batch > 1 or not norm or rung.freeze == "backbone":
        return
    for size, name in by_size.items():
        if normalized_positions(params.model.backbone, params.model.pad, *size) == 1:
            what = f"training image {name} is" if name else "every training image is"
            what = "params.yaml: data.crop is" if params.data.crop else what
            larger = "data.crop to WIDTHxHEIGHT with a side of" if len(by_size) > 1 else "batch_size: 2, or a side of"
            raise UserError(
                f"{what} {size}, in which batch norm sees a single value per channel; set {larger} "
                f"{_smallest_side(params)} pixels or more"
            )


def sections(params: Params) -> dict[str, Rung]:
    """Each rung, by the name of its section in params.yaml."""
    return {net.section: params.rung(net.stride) for net in LADDER}


def _pass(batch: int, accumulate: int, processes: int) -> int:
    """Maximum images per forward pass of one process."""
    share = -(-batch // processes)
    return -(-share // -(-accumulate // processes))


def _smallest_side(params: Params) -> int:
    """Smallest side in pixels with which batch norm sees more than one value per channel."""
    model = params.model
    return next(n for n in range(1, 1 << 10) if normalized_positions(model.backbone, model.pad, n, 1) > 1)
