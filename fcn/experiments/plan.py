"""`fcn plan`: what an experiment would download and train, and about how long it would take."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from fcn.data.scale import target_size
from fcn.data.split import Split
from fcn.datasets import pairing, sources
from fcn.datasets.sources.folder import OWN
from fcn.experiments import history
from fcn.inspection import scan
from fcn.io.archive import Archive
from fcn.ladder import STRIDES
from fcn.params import Params, Size
from fcn.pretrained import imagenet, published
from fcn.rungs import cost
from fcn.runtime.errors import UserError, counted

GPU = 25e12  # FLOP/s that fp32 training with TF32 products may reach on one data-centre GPU: assumed, not measured
SIZE_SAMPLES = 32  # images of the user's own folder whose size is read
NATIVE = (375, 500)  # height and width assumed for images of unknown size: the most common in VOC


def describe(params: Params) -> Iterator[str]:
    """Yields lines on downloads, rungs, and the estimated time on this machine."""
    for archive in archives(params):
        size = f"{archive.size / 1e9:.2f} GB" if archive.size else "size not published"
        path = published.find(archive)
        where = f"here, {path}" if path else f"from {archive.urls[0]}" if archive.urls else "not published"
        yield f"{archive.name}: {size}, {where}; {archive.licence}"
    height, width, known = image_size(params)
    yield f"images of {width}x{height}" + ("" if known else ", assumed until resize has read them")
    speed, num_classes = cost.measured_speed(), len(sources.labels(params.data).names)
    forward = {stride: cost.forward_flops(params, num_classes, stride, height, width) for stride in STRIDES}
    training = {stride: cost.rung_flops(params, stride, forward[stride]) for stride in STRIDES}
    for stride in STRIDES:
        rung = params.rung(stride)
        start = f"starts from {rung.init}" if rung.init != "parent" else ""
        train = f"{counted(rung.iterations, 'step')} of {params.batch_size} at lr {params.lr * rung.lr_factor:.3g}"
        what = train + f", about {cost.duration(training[stride] / speed)}" if rung.iterations else "not trained"
        yield f"FCN-{stride}s: {what}{', ' if start else ''}{start}"
    scored = image_size(params, "val")[:2]
    scoring = sum(cost.forward_flops(params, num_classes, stride, *scored) for stride in STRIDES)
    total = sum(training.values())
    yield f"training takes about {cost.duration(total / speed)} here, at {speed / 1e9:.0f} GFLOP/s as measured now"
    on_gpu = cost.duration(total / GPU)
    yield f"on one data-centre GPU at {GPU / 1e12:.0f} TFLOP/s: about {on_gpu}, computed, not measured"
    here, on_gpu = (f"{scoring / rate:.2g} s" for rate in (speed, GPU))
    yield f"to score an image of {scored[1]}x{scored[0]} with the three nets takes about {here} here, {on_gpu} there"
    yield from params.warnings()


def archives(params: Params) -> list[Archive]:
    """The archives of the data set, of the backbone and of published nets."""
    needed = list(sources.get(params.data.dataset).archives(params.data))
    if params.model.weights:
        needed.append(imagenet.archive(params.model.backbone, params.model.weights))
    inits = [params.rung(stride).init for stride in STRIDES]
    return needed + [archive for init in inits if init != "parent" for archive in published.archives(init)]


def image_size(params: Params, role: Literal["train", "val"] = "train") -> tuple[int, int, bool]:
    """Height and width of a training crop, or of a scored image, and whether they are known or assumed."""
    wanted = params.data.size.train if role == "train" else params.data.size.val
    crop = params.data.crop if role == "train" else None
    for size in (crop, wanted, params.data.tile):
        if isinstance(size, Size):
            return size.height, size.width, True
    if own := _own_size(params):  # before the packed splits, which may be from another folder
        width, height = target_size(own, wanted)
        return height, width, True
    with suppress(UserError):  # nothing is packed, or another data set
        return *Split(history.packed(params), role).size(0), True
    height, width = getattr(sources.get(params.data.dataset), "SIZE", NATIVE)
    width, height = target_size((width, height), wanted)
    return height, width, False


def _own_size(params: Params) -> tuple[int, int] | None:
    """The most common width and height of images in the user's own folder, if it is here."""
    own = params.data.folder
    if params.data.dataset != "folder" or own.name is None or not (folder := OWN / own.name).is_dir():
        return None
    pairs = pairing.match(pairing.files(folder), own.images, own.masks).pairs
    sample = pairs[:: len(pairs) // SIZE_SAMPLES + 1]
    sizes = Counter(header.size for pair in sample if (header := scan.scan_pair(folder, pair).image))
    return sizes.most_common(1)[0][0] if sizes else None
