"""Published scores to compare ours with, by data set, split and net.

In per cent, in the order of MEASURES. Compared only if data set, split and size are the same.

source   Long, Shelhamer, Darrell, CVPR 2015, as arXiv 1411.4038v2: tables 2, 4, 5 and 6, appendix A;
         the reference's caffemodels on seg11valid: READMEs of wkentaro/fcn and of the reference
"""

from dataclasses import dataclass

from fcn.ladder import NETS
from fcn.params import Params

MEASURES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")  # the paper's, of fcn.ladder.SCORES
Row = tuple[float | None, float | None, float | None, float | None]


@dataclass(frozen=True)
class Published:
    """Scores of one net: in the paper, and of the weights published by the reference's authors.

    source      the table of the paper
    scored_by   the source of `reference`
    geometric   pixel accuracy of the second score path in the paper
    """

    paper: Row | None
    source: str
    reference: Row | None = None
    scored_by: str = "wkentaro/fcn"
    geometric: float | None = None


TABLE = "CVPR 2015 (arXiv 1411.4038v2), table "
PUBLISHED = {
    ("voc", "seg11valid"): {
        "fcn32s": Published((89.1, 73.3, 59.4, 81.4), TABLE + "2", (90.4810, 76.4824, 63.6261, 83.4580)),
        "fcn16s": Published((90.0, 75.7, 62.4, 83.0), TABLE + "2", (90.9971, 78.0710, 65.0050, 84.2614)),
        "fcn8s": Published((90.3, 75.9, 62.7, 83.2), TABLE + "2", (91.2212, 77.6146, 65.5126, 84.5445)),
        "fcn32s, fixed": Published((83.0, 59.7, 45.4, 72.0), TABLE + "2, FCN-32s-fixed"),
        "fcn32s, alexnet": Published(
            (None, None, 39.8, None), TABLE + "1, FCN-AlexNet", (None, None, 48.0, None), "its authors"
        ),
        "fcn32s, googlenet": Published((None, None, 42.5, None), TABLE + "1, FCN-GoogLeNet"),
        "fcn8s, at once": Published(None, "", (91.1288, 78.4979, 65.3998, 84.4326)),
    },
    ("nyud", "reference_test"): {
        "fcn32s": Published((60.0, 42.2, 29.2, 43.9), TABLE + "4, FCN-32s RGB"),
        "fcn32s, early rgb+depth": Published((61.5, 42.4, 30.5, 45.5), TABLE + "4, FCN-32s RGBD"),
        "fcn32s, hha": Published((57.1, 35.2, 24.2, 40.4), TABLE + "4, FCN-32s HHA"),
        "fcn32s, late rgb+hha": Published((64.3, 44.9, 32.8, 48.0), TABLE + "4, FCN-32s RGB-HHA"),
        "fcn16s, late rgb+hha": Published((65.4, 46.1, 34.0, 49.5), TABLE + "4, FCN-16s RGB-HHA"),
    },
    ("siftflow", "test"): {
        "fcn16s, semantic+geometric": Published((85.2, 51.7, 39.5, 76.1), TABLE + "5", geometric=94.3)
    },
    ("context59", "val"): {
        "fcn32s": Published((63.8, 42.7, 31.8, 48.3), TABLE + "6, 59 classes"),
        "fcn16s": Published((65.7, 46.2, 34.8, 50.7), TABLE + "6, 59 classes"),
        "fcn8s": Published((65.9, 46.5, 35.1, 51.0), TABLE + "6, 59 classes"),
    },
}
# Mean IU of VOC 2011's masks (a subset of val), downsampled by a factor and upsampled again.
BOUNDS = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}
BOUNDS_SOURCE = "CVPR 2015 (arXiv 1411.4038v2), appendix A, VOC 2011"


def beside(params: Params) -> dict[str, Published]:
    """The published scores to compare each net of this experiment with; empty if nothing comparable is published.

    A frozen backbone is compared with FCN-32s-fixed only, AlexNet with FCN-AlexNet only, GoogLeNet with FCN-GoogLeNet
    only, at_once with the FCN-8s trained at once, other inputs and labels than RGB and the semantic ones with nets of
    the same inputs and labels.
    """
    data, model = params.data, params.model
    at_once, frozen = model.at_once, params.train.freeze == "backbone"
    native = "native" in (params.evaluate.size, data.size.val)
    known = PUBLISHED.get((data.dataset, data.splits.val), {}) if native else {}
    names = {net: net for net in NETS}
    if model.backbone in ("alexnet", "googlenet"):
        names = {"fcn32s": f"fcn32s, {model.backbone}"}
    elif frozen:
        names = {"fcn32s": "fcn32s, fixed"}
    if at_once and "fcn8s" in names:
        names["fcn8s"] = "fcn8s, at once"
    fusion = f"{model.fusion} " if len(data.inputs) > 1 else ""
    other = [fusion + "+".join(data.inputs)] * (data.inputs != ("rgb",)) + [data.labels] * (data.labels != "semantic")
    names = {net: ", ".join([name, *other]) for net, name in names.items()}
    return {net: known[name] for net, name in names.items() if name in known}
