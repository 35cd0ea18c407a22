"""The oracle's modules, pairs of nets, and the worst difference of each kind, printed at the end."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fcn.models import fcn
from fcn.models.backbones import vgg
from fcn.models.fcn import FCN
from fcn.params import Params, load

from . import oracle as peer
from .oracle import NETS, ROOT, Measure, Pair

MEASURED = pytest.StashKey[dict[str, list[tuple[float, float, str]]]]()
DTYPES = {"fp32": torch.float32, "fp64": torch.float64}

Build = Callable[..., Pair]


def pytest_configure(config: pytest.Config) -> None:
    measured: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    config.stash[MEASURED] = measured


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    measured = config.stash[MEASURED]
    if measured:
        terminalreporter.section("parity with torchfcn 1.9.7: worst relative differences")
    for kind, cases in measured.items():
        worst, tolerance, case = max(cases)
        line = f"{kind:41} {worst:8.1e} of {tolerance:.0e} allowed, {len(cases):3} cases, worst: {case}"
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def measure(pytestconfig: pytest.Config) -> Measure:
    """Remembers a relative difference, then asserts that it is within its tolerance."""

    def remember(kind: str, case: str, worst: float, tolerance: float) -> None:
        pytestconfig.stash[MEASURED][kind].append((worst, tolerance, case))
        assert worst <= tolerance, f"{kind}, {case}: {worst:.1e} is more than {tolerance:.0e}"

    return remember


@pytest.fixture(scope="session")
def torchfcn() -> tuple[Any, Any]:
    return peer.load()


@pytest.fixture(scope="session")
def trainer(torchfcn: tuple[Any, Any]) -> Any:
    return torchfcn[1]


@pytest.fixture(scope="session")
def build(torchfcn: tuple[Any, Any]) -> Iterator[Build]:
    """Makes a pair; `narrow` ones have a few channels a layer and no dropout."""

    def pair(name: str, dtype: torch.dtype, classes: int = 21, *, narrow: bool = False, **options: Any) -> Pair:
        net = NETS[name]
        theirs = getattr(torchfcn[0], net.oracle)(classes)
        if narrow:
            peer.narrow(theirs)
        # Not the narrow ones, which are trained: a step is too small to be seen beside boosted weights.
        peer.fill(theirs, boost=net.at_once and not narrow, seed=net.stride)
        options |= {"backbone": "narrow", "dropout": 0.0} if narrow else {"backbone": "vgg16"}
        ours = FCN(classes, net.stride, pad=100, at_once=net.at_once, **options)
        # Wide nets share their weights: those of one are a gigabyte.
        ours.load_state_dict(theirs.to(dtype).state_dict(), strict=True, assign=not narrow)
        if narrow:  # as nets are trained
            ours = ours.to(memory_format=torch.channels_last)
        return Pair(name, theirs.eval(), ours.to(dtype).eval())

    with pytest.MonkeyPatch.context() as patch:
        width = peer.WIDTHS
        channels = (width[64], width[128], width[256], width[512], width[512])
        patch.setitem(fcn.BACKBONES, "narrow", vgg((2, 2, 3, 3, 3), channels, width[4096]))
        yield pair


@pytest.fixture(scope="session", params=[(n, d) for d in DTYPES for n in NETS], ids=lambda p: f"{p[0]} {p[1]}")
def pair(request: pytest.FixtureRequest, build: Build) -> Pair:
    """Both VGG16 nets at full width, one pair at a time in memory."""
    name, dtype = request.param
    return build(name, DTYPES[dtype])


@pytest.fixture(scope="session")
def heavy() -> Params:
    """The reference's recipe: one image a step, summed loss, heavy momentum, decay on weights only."""
    recipe = {"loss": "sum", "optimizer": "sgd", "momentum": 0.99, "weight_decay": 5e-4}
    return load(ROOT / "recipes" / "scenes.yaml").model_copy(update=recipe | {"batch_size": 1, "precision": "fp32"})
