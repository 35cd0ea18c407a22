"""The paper's findings: what it claims, and the experiments whose scores are compared to check it.

A row of a finding names a variant of a scale (fcn/paper/scales.py) and a net. Figures of the paper are mean IU in per
cent, on its own data sets, and are never compared with ours: only the direction of a difference is.
"""

from dataclasses import dataclass

from fcn.evaluation import paper
from fcn.paper.verdict import Expected

VOC, NYUD, SIFT_FLOW = (
    {name: one.paper[2] for name, one in paper.PUBLISHED[dataset].items() if one.paper}
    for dataset in (("voc", "seg11valid"), ("nyud", "reference_test"), ("siftflow", "test"))
)
REFERENCE = {name: one.reference[2] for name, one in paper.PUBLISHED["voc", "seg11valid"].items() if one.reference}
TABLE_2 = "CVPR 2015 (arXiv 1411.4038v2), table 2, PASCAL VOC 2011 (seg11valid)"
AUTHORS = "weights published by the reference's authors, scored by wkentaro/fcn on seg11valid"


@dataclass(frozen=True)
class Row:
    """One line of a finding's table.

    label     unique in the finding
    variant   name of a variant of the scale
    net       whose scores are shown; empty for the net of the scale
    paper     mean IU in per cent, if the paper or its reference has one
    task      prefix of the scores of the second score path; empty for the first
    """

    label: str
    variant: str
    net: str = ""
    paper: float | None = None
    task: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two rows, by label, and what the paper expects of the first's mean IU; `none` if it makes no claim."""

    first: str
    second: str
    expected: Expected


@dataclass(frozen=True)
class Finding:
    """A claim of the paper.

    name      for --only, and of its plot
    claim     in our words, with the section
    source    of the figures in the column of the paper; empty if there are none
    note      how the experiment differs from the paper's; empty if it does not matter
    classes   whose mean IU is shown in a column of its own
    """

    name: str
    title: str
    claim: str
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    source: str = ""
    note: str = ""
    classes: tuple[str, ...] = ()


FINDINGS = (
    Finding(
        "strides",
        "FCN-32s, FCN-16s, FCN-8s",
        "Each skip connection improves the prediction: FCN-16s scores higher than FCN-32s, and FCN-8s a little higher "
        "than FCN-16s (sec. 4.2, table 2).",
        (
            Row("FCN-32s", "staged", "fcn32s", VOC["fcn32s"]),
            Row("FCN-16s", "staged", "fcn16s", VOC["fcn16s"]),
            Row("FCN-8s", "staged", "fcn8s", VOC["fcn8s"]),
        ),
        (Comparison("FCN-16s", "FCN-32s", "higher"), Comparison("FCN-8s", "FCN-16s", "higher")),
        TABLE_2,
        "A finer net is also trained longer, as it starts from the coarser one; the next finding separates the two.",
    ),
    Finding(
        "length",
        "Finer strides or longer training",
        "The gain comes from the skips: the paper ascribes it to them (sec. 4.2), without a net trained equally long.",
        (
            Row("FCN-32s", "staged", "fcn32s"),
            Row("FCN-32s, three times as long", "long", "fcn32s"),
            Row("FCN-8s", "staged", "fcn8s"),
            Row("FCN-8s, each rung three times as long", "long", "fcn8s"),
        ),
        (
            Comparison("FCN-8s", "FCN-32s, three times as long", "higher"),
            Comparison("FCN-8s, each rung three times as long", "FCN-8s", "none"),
        ),
        note="The long FCN-32s takes more steps than all three rungs of the short ladder together.",
    ),
    Finding(
        "at-once",
        "In stages or at once",
        "FCN-8s trained at once from the backbone, with pool4 and pool3 scaled down, is about as good as in stages "
        "(reference code, voc-fcn8s-atonce).",
        (
            Row("in stages", "staged", "fcn8s", REFERENCE["fcn8s"]),
            Row("at once", "at-once", "fcn8s", REFERENCE["fcn8s, at once"]),
            Row("at once, skips not scaled down", "one-stage"),
        ),
        (
            Comparison("in stages", "at once", "same"),
            Comparison("at once, skips not scaled down", "at once", "none"),
        ),
        AUTHORS,
        "The three have the same number of steps. The reference takes 100 000 steps for each rung, 300 000 at once, "
        "with SGD. The third row shows that scaling the skips down is what costs the score here: a few hundred steps "
        "from scratch do not make up for pool3's factor of 0.0001.",
    ),
    Finding(
        "fixed",
        "Frozen backbone or fine-tuning",
        "Fine-tuning all layers is much better than training the score layers alone (sec. 4.3, table 2).",
        (
            Row("FCN-32s, all layers", "staged", "fcn32s", VOC["fcn32s"]),
            Row("FCN-32s, frozen backbone", "fixed", "fcn32s", VOC["fcn32s, fixed"]),
            Row("FCN-8s, all layers", "staged", "fcn8s"),
            Row("FCN-8s, features of FCN-32s frozen", "fixed-skips", "fcn8s"),
        ),
        (
            Comparison("FCN-32s, all layers", "FCN-32s, frozen backbone", "higher"),
            Comparison("FCN-8s, all layers", "FCN-8s, features of FCN-32s frozen", "higher"),
        ),
        TABLE_2,
        "The paper freezes a backbone trained on ImageNet. Without one, freezing FCN-32s's backbone freezes random "
        "features, which is a control and not the paper's experiment. Closer to it is the second pair: FCN-16s and "
        "FCN-8s over the trained features of FCN-32s, either frozen or fine-tuned.",
    ),
    Finding(
        "regimes",
        "Accumulated, per-image and heavy learning",
        "Heavy learning, one image a step with momentum 0.99, does not do worse than 20 images a step with momentum "
        "0.9: the reference replaced the latter by it.",
        (
            Row("20 images, momentum 0.9", "accumulated", paper=VOC["fcn32s"]),
            Row("1 image, momentum 0.9", "online"),
            Row("1 image, momentum 0.99", "heavy", paper=REFERENCE["fcn32s"]),
        ),
        (
            Comparison("1 image, momentum 0.99", "20 images, momentum 0.9", "higher"),
            Comparison("1 image, momentum 0.9", "20 images, momentum 0.9", "none"),
        ),
        "FCN-32s: 20 images from CVPR 2015, table 2; heavy from " + AUTHORS,
        "All three see as many images, with SGD and one rate; one image at a time, that is 20 times as many steps. "
        "Images are of one size, so a summed loss, as the reference has it, would differ from the mean only by a "
        "constant factor of the rate. The slim net has batch norm, the paper's VGG16 has not: its statistics over one "
        "image are poorer than over 20.",
    ),
    Finding(
        "balancing",
        "Class balancing",
        "Weighting the loss by class is unnecessary (sec. 4.3).",
        (Row("unweighted", "one-stage"), Row("weights (median / frequency)^0.5", "balanced")),
        (Comparison("unweighted", "weights (median / frequency)^0.5", "same"),),
        note="With weights, rare classes count as they do in mean accuracy and mean IU; pixel accuracy stays. "
        "After a few hundred steps from scratch a net still predicts frequent classes too often. The paper starts from "
        "ImageNet and trains until rare classes are learned too.",
    ),
    Finding(
        "patches",
        "Whole images or sampled loss",
        "Computing the loss on random parts of more images converges no faster per step than on whole images, and each "
        "step takes longer (sec. 4.3, figure 5).",
        (Row("whole images", "one-stage"), Row("half of the cells, twice the images", "sampled")),
        (Comparison("whole images", "half of the cells, twice the images", "same"),),
    ),
    Finding(
        "augmentation",
        "Mirroring and jitter",
        "Random mirroring and translations up to 32 pixels yield no noticeable improvement (sec. 4.3).",
        (
            Row("none", "plain"),
            Row("mirroring", "one-stage"),
            Row("mirroring and jitter", "jitter"),
        ),
        (Comparison("mirroring", "none", "same"), Comparison("mirroring and jitter", "none", "same")),
    ),
    Finding(
        "inputs",
        "Colour, depth and HHA",
        "On NYUDv2, depth as a fourth channel helps a little, HHA alone is worse than colour, and colour and HHA "
        "with late fusion are best (sec. 5, table 4).",
        (
            Row("RGB", "rgb", paper=NYUD["fcn32s"]),
            Row("depth", "depth"),
            Row("RGB-D, early fusion", "rgbd", paper=NYUD["fcn32s, early rgb+depth"]),
            Row("HHA", "hha", paper=NYUD["fcn32s, hha"]),
            Row("RGB-HHA, late fusion", "late", paper=NYUD["fcn32s, late rgb+hha"]),
        ),
        (
            Comparison("RGB-D, early fusion", "RGB", "higher"),
            Comparison("RGB", "HHA", "higher"),
            Comparison("RGB-HHA, late fusion", "RGB", "higher"),
            Comparison("RGB-HHA, late fusion", "RGB-D, early fusion", "higher"),
        ),
        "CVPR 2015 (arXiv 1411.4038v2), table 4, FCN-32s on NYUDv2",
        "In these scenes half of the cars are decoys that only depth tells apart, which favours depth by construction. "
        "Depth is exact here, not measured by a sensor.",
        ("car", "decoy"),
    ),
    Finding(
        "joint",
        "Semantic and geometric labels jointly",
        "One net with two score paths is as good at both tasks as two nets (sec. 5, table 5, SIFT Flow).",
        (
            Row("semantic, alone", "semantic"),
            Row("semantic, jointly", "joint", paper=SIFT_FLOW["fcn16s, semantic+geometric"]),
            Row("geometric, alone", "geometric"),
            Row("geometric, jointly", "joint", task="geometric_"),
        ),
        (
            Comparison("semantic, jointly", "semantic, alone", "same"),
            Comparison("geometric, jointly", "geometric, alone", "same"),
        ),
        "CVPR 2015 (arXiv 1411.4038v2), table 5, FCN-16s on SIFT Flow, whose geometric pixel accuracy is 94.3",
        "Both losses are added, and the trunk of the joint net, with as many channels and steps, serves two tasks.",
    ),
    Finding(
        "backbones",
        "Backbones",
        "VGG16 scores much higher than AlexNet and GoogLeNet (sec. 4.1, table 1).",
        (
            Row("AlexNet", "alexnet", paper=VOC["fcn32s, alexnet"]),
            Row("VGG16", "vgg", paper=56.0),
            Row("GoogLeNet", "googlenet", paper=VOC["fcn32s, googlenet"]),
        ),
        (Comparison("VGG16", "AlexNet", "higher"), Comparison("VGG16", "GoogLeNet", "higher")),
        "CVPR 2015 (arXiv 1411.4038v2), table 1, FCN-32s on PASCAL VOC 2011 val",
        "From scratch, the three are compared without what ImageNet adds, which is most of the paper's difference.",
    ),
)
