"""Schema and loading of params.yaml. Every key is required, typed and range-checked; one invalid key stops the run.

What the file writes as `none` is None here, and WIDTHxHEIGHT is a `Size`; `Params.model_dump` writes both as the file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, PositiveInt

from fcn.runtime import documents, validation
from fcn.runtime.errors import UserError

MAX_VALUES = 10_000  # values in a params file; a YAML alias counts as everything it expands to
MAX_SIDE = 100_000  # pixels, width or height of an image
MAX_FACTOR = 10  # by which a training image may grow
MAX_NAME = 100  # characters in a name, which becomes part of a file name


def _number(value: object) -> object:
    """DVC writes `-S lr=1e-5` as 1e-05, which YAML 1.1 parses as a string."""
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str):
        return float(value)
    return value


class Size(NamedTuple):
    """Width and height in pixels, written WIDTHxHEIGHT: `240x180` is 240 wide and 180 high."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: object) -> "Size":
        """raises   ValueError if the text is not WIDTHxHEIGHT, each 1 to MAX_SIDE"""
        width, _, height = str(text).partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise ValueError
        if not (0 < int(width) <= MAX_SIDE and 0 < int(height) <= MAX_SIDE):
            raise ValueError
        return cls(int(width), int(height))


def _side_or_size(value: object) -> int | Literal["native"] | Size:
    if value == "native":
        return "native"
    return value if type(value) is int and 0 < value <= MAX_SIDE else Size.parse(value)


def _none(value: object) -> object:
    if value is None:  # an empty value
        raise ValueError
    return None if value == "none" else value


def _written(value: object) -> object:
    """A value in the notation of params.yaml."""
    return "none" if value is None else str(value) if isinstance(value, Size) else value


def _pattern(value: object) -> object:
    """Validates a relative path without file extension, in which `*` matches any text; it must not leave its folder."""
    if not (isinstance(value, str) and "*" in value) or value.startswith("/") or ".." in value.split("/"):
        raise ValueError
    return value


def _joined(value: object) -> object:
    """Names joined by `+`, each at most once."""
    names = value.split("+") if isinstance(value, str) else []
    if len(set(names)) < len(names):
        raise ValueError
    return tuple(names)


def _factors(value: object) -> object:
    """Validates the bounds of a random factor: [low, high]."""
    bounds = [_number(bound) for bound in value] if isinstance(value, list) else []
    if len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds):
        raise ValueError
    low, high = (float(bound) for bound in bounds)  # type: ignore[arg-type]
    if not 0 < low <= high <= MAX_FACTOR:
        raise ValueError
    return [low, high]


def _name(value: object) -> object:
    """Validates a name. It becomes part of a path, so it must not leave its folder."""
    if not (isinstance(value, str) and len(value) <= MAX_NAME and value.replace("_", "").replace("-", "").isalnum()):
        raise ValueError
    return value


def _init(value: object) -> object:
    """Validates names joined by `+`, which become part of one file name."""
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise ValueError
    for name in value.split("+"):
        _name(name)
    return value


# The description of each type appears in the error message for an invalid value: "write ...".
T = TypeVar("T")
WRITTEN = PlainSerializer(_written)
OrNone = Annotated[T | None, BeforeValidator(_none), WRITTEN]
Number = Annotated[float, BeforeValidator(_number), Field(description="a number such as 1.0e-4")]
ValidSize = Annotated[Size, PlainValidator(Size.parse), WRITTEN, Field(description="WIDTHxHEIGHT such as 240x180")]
SideOrSize = Annotated[
    int | Literal["native"] | Size,
    PlainValidator(_side_or_size),
    WRITTEN,
    Field(description="native, a shorter side such as 256, or WIDTHxHEIGHT such as 240x180"),
]
Crop = Annotated[OrNone[ValidSize], Field(description="none, or WIDTHxHEIGHT such as 224x224")]
Name = Annotated[str, BeforeValidator(_name), Field(description="a name of letters, digits, - and _")]
Init = Annotated[
    str, BeforeValidator(_init), Field(description="parent, or a published net or one of data/own, or two joined by +")
]
Pattern = Annotated[str, BeforeValidator(_pattern), Field(description="a path with a *, such as images/* or *_mask")]
Input = Literal["rgb", "depth", "hha", "infrared", "bands"]
INPUTS: tuple[Input, ...] = get_args(Input)
CHANNELS = {"rgb": 3, "depth": 1, "hha": 3, "infrared": 1}  # of each input; bands are as many as the files have
Inputs = Annotated[
    tuple[Input, ...],
    BeforeValidator(_joined),
    PlainSerializer("+".join),
    Field(min_length=1, description="rgb, depth, hha, infrared or bands, or several such as rgb+depth"),
]
Weight = Annotated[Number, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Splits(_Section):
    train: Name
    val: Name
    test: Annotated[OrNone[Name], Field(description="none, or a name of letters, digits, - and _")]


class Sizes(_Section):
    train: SideOrSize
    val: SideOrSize


class Scenes(_Section):
    seed: Seed
    size: ValidSize
    train: Annotated[int, Field(ge=0)]
    val: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=0)]
    twins: Annotated[OrNone[Literal["depth", "infrared"]], Field(description="none, depth or infrared")]


class Folder(_Section):
    name: Annotated[OrNone[Name], Field(description="none, or a name of letters, digits, - and _")]
    images: Pattern
    masks: Pattern
    classes: Annotated[
        OrNone[str | list[str | dict[str, int | str]]],
        Field(description="none, a label map's name, or a list of names, of NAME: CODE or of NAME: R,G,B"),
    ]
    void: Annotated[OrNone[int | str], Field(description="none, a code such as 255, or a colour such as 224,224,192")]
    fraction: Annotated[
        OrNone[Annotated[Number, Field(gt=0, lt=1)]],
        Field(description="none, or a number between 0 and 1 such as 0.2"),
    ]
    test: Annotated[
        OrNone[Annotated[Number, Field(gt=0, lt=1)]],
        Field(description="none, or a number between 0 and 1 such as 0.2"),
    ]
    seed: Seed
    group: Annotated[OrNone[Annotated[str, Field(min_length=1)]], Field(description="none, or a text such as _")]


class Data(_Section):
    dataset: Name
    splits: Splits
    size: Sizes
    inputs: Inputs
    labels: Literal["semantic", "geometric", "semantic+geometric"]
    sampling: Literal["epochs", "replacement"]
    flip: bool
    crop: Crop
    jitter: Annotated[int, Field(ge=0, le=MAX_SIDE)]
    scale: Annotated[
        OrNone[Annotated[list[float], PlainValidator(_factors)]],
        Field(description=f"none, or two factors from 0 to {MAX_FACTOR}, the smaller first, such as [0.5, 2.0]"),
    ]
    colour: Annotated[Number, Field(ge=0, le=1)]
    loss_sampling: Annotated[Number, Field(gt=0, le=1)]
    class_weights: Annotated[
        OrNone[Weight | list[Weight]], Field(description="none, an exponent, or a list of numbers")
    ]
    scenes: Scenes
    tile: Crop
    overlap: Annotated[int, Field(ge=0)]
    folder: Folder


class Model(_Section):
    backbone: Literal[
        "slim", "vgg16", "vgg16_bn", "vgg19", "vgg19_avg", "alexnet", "googlenet", "slim_alexnet", "slim_googlenet"
    ]
    weights: Annotated[OrNone[Literal["torchvision", "caffe"]], Field(description="none, torchvision or caffe")]
    preprocessing: Literal["caffe", "torchvision"]
    fusion: Literal["early", "late"]
    pad: Literal[100, "same"]
    at_once: bool
    upsampling: Literal["fixed", "inner", "learned"]
    dropout: Annotated[Number, Field(ge=0, lt=1)]
    init_std: Annotated[Number, Field(ge=0)]


class Rung(_Section):
    init: Init
    iterations: Annotated[int, Field(ge=0)]
    lr_factor: Annotated[Number, Field(gt=0)]
    schedule: Literal["fixed", "poly"]
    accumulate: PositiveInt
    freeze: Annotated[OrNone[Literal["backbone"]], Field(description="none or backbone")]
    validate_every: PositiveInt
    save: Literal["last", "best"]
    average: Annotated[
        OrNone[Annotated[Number, Field(gt=0, le=1)]],
        Field(description="none, or a fraction of the steps such as 0.25"),
    ]


class Finetune(_Section):
    fcn16s: Rung
    fcn8s: Rung


class Evaluate(_Section):
    size: Literal["input", "native"]


class Params(_Section):
    seed: Seed
    lr: Annotated[Number, Field(gt=0)]
    loss: Literal["mean", "sum"]
    optimizer: Literal["adam", "sgd"]
    momentum: Annotated[Number, Field(ge=0, lt=1)]
    weight_decay: Annotated[Number, Field(ge=0)]
    batch_size: PositiveInt
    precision: Literal["fp32", "bf16"]
    arithmetic: Literal["native", "portable"]
    debug: bool
    data: Data
    model: Model
    train: Rung
    finetune: Finetune
    evaluate: Evaluate

    def rung(self, stride: int) -> Rung:
        """The section of FCN-32s, FCN-16s or FCN-8s."""
        return {32: self.train, 16: self.finetune.fcn16s, 8: self.finetune.fcn8s}[stride]

    def warnings(self) -> list[str]:
        """Warnings about settings that are valid but differ from what worked in the paper."""
        messages = []
        for coarse, fine in ((32, 16), (16, 8)):
            ratio = self.rung(fine).lr_factor / self.rung(coarse).lr_factor
            # Equal rates are allowed for FCN-8s: the reference's SIFT Flow FCN-8s uses the rate of its FCN-16s.
            unusual = ratio > 1 or (ratio == 1 and fine == 16)
            if self.optimizer == "sgd" and unusual and self.rung(fine).iterations and self.rung(coarse).iterations:
                messages.append(
                    f"warning: FCN-{fine}s learns at {self.lr * self.rung(fine).lr_factor:.3g}, no slower than "
                    f"FCN-{coarse}s; with SGD the paper divides the rate by 100 at each finer rung"
                )
        return messages


def split_names(splits: Splits) -> tuple[str, ...]:
    """Each split once: train, val and, if there is one, test."""
    return tuple(dict.fromkeys(name for name in (splits.train, splits.val, splits.test) if name))


def load(path: Path = Path("params.yaml")) -> Params:
    """Reads and validates the params file.

    raises   UserError listing every key that is unknown, missing, repeated, of the wrong type,
             out of range or not finite
    """
    try:
        text = documents.read(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; `fcn recipe` lists recipes to use instead") from None
    return check(parse(text, str(path)), str(path))


def parse(text: str, where: str) -> dict[str, Any]:
    """Parses a YAML mapping into plain dicts, lists and scalars; repeated keys are an error."""
    content = documents.load_yaml(text, where, MAX_VALUES)
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected keys and values, such as `lr: 1.0e-3`")
    return content


def check(content: dict[str, Any], where: str) -> Params:
    """Validates parsed YAML as `Params`; `where` names the file in error messages.

    raises   UserError, as `load`
    """
    return validation.check(Params, content, where)
