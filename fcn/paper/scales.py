"""The three scales: which recipe and which changes make each variant of the findings.

tiny     embedded scenes of 64x64 and the slim net. A stride of 32 leaves 2x2 positions of such an image, so findings
         that the paper shows with FCN-32s are shown with FCN-8s trained in one stage, all skips from the start
laptop   CamVid and the slim net
full     the paper's data sets and nets
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fcn.experiments import group
from fcn.experiments.recipe import RECIPES
from fcn.paper.findings import FINDINGS, Finding, Row
from fcn.params import Params

Changes = tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """A recipe with changes, each KEY=VALUE."""

    recipe: str
    changes: Changes = ()

    def params(self) -> Params:
        """raises   UserError if the recipe or a change is invalid"""
        return group.changed(self.changes, RECIPES / f"{self.recipe}.yaml")


@dataclass(frozen=True)
class Scale:
    """The variants of a scale.

    words      its data and nets
    net        that is trained where a row of a finding names no net
    variants   by name, in the order in which they run: equal stages of variants are computed once
    """

    name: str
    words: str
    net: str
    variants: dict[str, Variant]

    def net_of(self, row: Row) -> str:
        """The net whose scores a row shows."""
        return row.net or self.net

    def findings(self, only: Sequence[str] = ()) -> list[Finding]:
        """The findings that all variants are there for; of those, the ones named in `only`, if it is not empty."""
        return [
            finding
            for finding in FINDINGS
            if all(row.variant in self.variants for row in finding.rows) and finding.name in (only or [finding.name])
        ]


def steps(*counts: int) -> Changes:
    """The lengths of the three rungs, each validated at its end."""
    changes: list[str] = []
    for section, count in zip(("train", "finetune.fcn16s", "finetune.fcn8s"), counts, strict=True):
        changes += [f"{section}.iterations={count}", f"{section}.validate_every={max(1, count)}"]
    return tuple(changes)


def _from_scratch(
    recipe: str, common: Changes, ladder: tuple[int, int, int], sgd: str, jitter: int
) -> dict[str, Variant]:
    """The variants of nets trained from scratch.

    common   changes of every variant
    ladder   steps of the three rungs
    sgd      learning rate on the mean loss
    jitter   pixels
    """
    total = sum(ladder)
    batch = Variant(recipe).params().batch_size
    staged = (*common, *steps(*ladder))
    one = (*common, *steps(0, 0, total), "finetune.fcn8s.lr_factor=1.0")

    def regime(size: int, momentum: str) -> Changes:
        count = total * batch // size
        return (*one, *steps(0, 0, count), "optimizer=sgd", f"momentum={momentum}", f"batch_size={size}", f"lr={sgd}")

    changes: dict[str, Changes] = {
        "staged": staged,
        "one-stage": one,
        "fixed-skips": (*staged, "finetune.fcn16s.freeze=backbone", "finetune.fcn8s.freeze=backbone"),
        "fixed": (*common, *steps(ladder[0], 0, 0), "train.freeze=backbone"),
        "at-once": (*one, "model.at_once=true"),
        "plain": (*one, "data.flip=false"),
        "jitter": (*one, f"data.jitter={jitter}"),
        "balanced": (*one, "data.class_weights=0.5"),
        "vgg": one,
        "alexnet": (*one, "model.backbone=slim_alexnet"),
        "googlenet": (*one, "model.backbone=slim_googlenet"),
        "sampled": (*one, "data.loss_sampling=0.5", f"batch_size={2 * batch}"),
        "accumulated": regime(20, "0.9"),
        "online": regime(1, "0.9"),
        "heavy": regime(1, "0.99"),
        "long": (*common, *steps(*(3 * count for count in ladder))),
    }
    return {name: Variant(recipe, change) for name, change in changes.items()}


TINY_DATA = (
    "data.size.train=64x64",
    "data.size.val=64x64",
    "data.scenes.size=64x64",
    "data.scenes.train=300",
    "data.scenes.val=80",
)
TINY_STEPS = (150, 75, 75)


def _tiny() -> Scale:
    variants = _from_scratch("scenes", TINY_DATA, TINY_STEPS, "1.0e-3", 4)
    one = variants["one-stage"].changes
    twins = (*one, "data.scenes.twins=depth")
    more: dict[str, Changes] = {
        "rgb": twins,
        "depth": (*twins, "data.inputs=depth"),
        "rgbd": (*twins, "data.inputs=rgb+depth"),
        "hha": (*twins, "data.inputs=hha"),
        "late": (*twins, "data.inputs=rgb+hha", "model.fusion=late"),
        "semantic": one,
        "geometric": (*one, "data.labels=geometric"),
        "joint": (*one, "data.labels=semantic+geometric"),
    }
    variants |= {name: Variant("scenes", changes) for name, changes in more.items()}
    return Scale("tiny", "300 embedded scenes of 64x64 pixels, slim nets from scratch", "fcn8s", variants)


def _laptop() -> Scale:
    variants = _from_scratch("camvid", ("data.class_weights=none",), (1000, 500, 900), "1.0e-3", 18)
    return Scale("laptop", "CamVid at 288x216, slim nets from scratch", "fcn8s", variants)


def _full() -> Scale:
    """The reference's heavy recipe, and for the ablations its FCN-32s."""
    short: Changes = ("finetune.fcn16s.iterations=0", "finetune.fcn8s.iterations=0")
    long = tuple(f"{section}.iterations=300000" for section in ("train", "finetune.fcn16s", "finetune.fcn8s"))
    variants = {
        "staged": Variant("voc-heavy"),
        "long": Variant("voc-heavy", long),
        "fixed": Variant("voc-heavy", (*short, "train.freeze=backbone")),
        "fixed-skips": Variant("voc-heavy", ("finetune.fcn16s.freeze=backbone", "finetune.fcn8s.freeze=backbone")),
        "accumulated": Variant("voc-accumulated", short),
        "online": Variant("voc-heavy", (*short, "momentum=0.9")),
        "heavy": Variant("voc-heavy", short),
        "plain": Variant("voc-heavy", short),
        "one-stage": Variant("voc-heavy", (*short, "data.flip=true")),
        "jitter": Variant("voc-heavy", (*short, "data.flip=true", "data.jitter=32")),
        "balanced": Variant("voc-heavy", (*short, "data.flip=true", "data.class_weights=0.5")),
        "sampled": Variant(
            "voc-heavy", (*short, "data.flip=true", "data.loss_sampling=0.5", "batch_size=2", "train.accumulate=2")
        ),
        "rgb": Variant("nyud-color"),
        "rgbd": Variant("nyud-depth"),
        "hha": Variant("nyud-hha"),
        "late": Variant("nyud-rgb-hha"),
        "depth": Variant("nyud-hha", ("data.inputs=depth",)),
        **{name: Variant("siftflow", (*short, f"data.labels={name}")) for name in ("semantic", "geometric")},
        "joint": Variant("siftflow", short),
        "alexnet": Variant("voc-alexnet"),
        "vgg": Variant("voc-heavy", short),
        "googlenet": Variant("voc-googlenet"),
        "at-once": Variant("voc-atonce"),
    }
    return Scale("full", "the paper's data sets, nets from ImageNet", "fcn32s", variants)


SCALES = {"tiny": _tiny, "laptop": _laptop, "full": _full}
