"""Checks an experiment before its first stage runs. Each stage repeats the checks on its own inputs."""

from fcn.data import scale, tiles
from fcn.datasets import pairing, sources
from fcn.datasets.sources.folder import missing_warning, path, untracked_warning
from fcn.inspection import scan
from fcn.ladder import LADDER
from fcn.params import Params, Size, split_names
from fcn.pretrained import published
from fcn.rungs import compatibility
from fcn.runtime.errors import UserError


def check(params: Params) -> list[str]:
    """Checks params, the user's own folder, and the image sizes as far as they are known.

    returns  warnings, for problems that depend on how many processes will share a batch
    raises   UserError if the experiment cannot run
    """
    sources.check(params.data)
    check_params(params)
    images = image_sizes(params)
    warnings: dict[str, None] = {}
    if params.data.dataset == "folder":
        folder = path(params.data.folder)
        warnings |= dict.fromkeys(filter(None, (missing_warning(folder), untracked_warning(folder))))
    for rung in compatibility.sections(params).values() if images else []:
        compatibility.check_images(rung, params, images)
        try:
            compatibility.check_images(rung, params, images, processes=1)
        except UserError as error:
            warnings[f"warning: unless as many processes share a batch as it has images, {error}"] = None
    return list(warnings)


def check_params(params: Params) -> None:
    """Checks params alone, without looking at data.

    raises   UserError if they do not fit together
    """
    data, model, names = params.data, params.model, sources.labels(params.data).names
    classes = len(names)
    tiles.tiling(data.tile, data.overlap)
    compatibility.check_classes(names)
    compatibility.check_class_weights(data.class_weights, classes)
    compatibility.check_arithmetic(params)
    compatibility.check_fusion(params)
    if model.weights:
        from fcn.pretrained import imagenet  # imports torchvision

        imagenet.archive(model.backbone, model.weights)
        if params.train.init == "parent" and model.preprocessing != model.weights:
            raise UserError(
                f"params.yaml: model.preprocessing is {model.preprocessing}; weights trained by {model.weights} expect "
                f"{model.weights}"
            )
    for net in LADDER:
        rung, stride = params.rung(net.stride), net.stride
        compatibility.check_batch_norm(rung, model.backbone, net.section)
        if rung.init != "parent":
            at_once = model.at_once and stride == 8
            second = sources.geometric(data)
            published.check(
                rung.init,
                stride,
                model.backbone,
                at_once,
                classes,
                data.inputs,
                model.fusion,
                len(second.names) if second else 0,
                names,
            )


def image_sizes(params: Params) -> list[tuple[str, Size]]:
    """Name and size (width, height) of the training images after resize, one tile for each; empty if unknown."""
    data = params.data
    if isinstance(data.size.train, Size):
        return [("", data.size.train)]
    if data.dataset == "scenes":
        whole = [("", data.scenes.size)]
    elif data.dataset == "folder":
        folder = path(data.folder)
        paths = pairing.files(folder)
        pairs = pairing.match(paths, data.folder.images, data.folder.masks).pairs
        members = {
            split: pairing.members(folder, paths, pairs, split, data.folder) for split in split_names(data.splits)
        }
        whole = [(pair.name, Size(*scan.size(folder / pair.image))) for pair in members[data.splits.train]]
    else:
        return []
    tile = tiles.tiling(data.tile, data.overlap)
    if tile:
        whole = [(name, Size(min(width, tile.width), min(height, tile.height))) for name, (width, height) in whole]
    return [(name, scale.target_size(size, data.size.train)) for name, size in whole]
