"""Fixtures that many tests share: small params, a small packed data set, a checkout of the repository."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forks
import pytest
import yaml

from fcn.runtime import machine

machine.prepare()
os.environ["FCN_DEVICE"] = "cpu"  # bits are compared; a GPU has its own

import model_files  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from fcn import __main__, params  # noqa: E402
from fcn.data.sampling import Sampler  # noqa: E402
from fcn.data.scale import Scale  # noqa: E402
from fcn.data.split import Split  # noqa: E402
from fcn.datasets import packing  # noqa: E402
from fcn.datasets.sources import scenes  # noqa: E402
from fcn.io import pins  # noqa: E402
from fcn.metrics import counting  # noqa: E402
from fcn.models import FCN  # noqa: E402
from fcn.models.backbones import BACKBONES  # noqa: E402
from fcn.params import Params  # noqa: E402
from fcn.training import steps  # noqa: E402
from fcn.training.optimizer import Optimizer  # noqa: E402

ROOT = Path(__file__).parent.parent
# Files that take longest, which pytest's processes have to begin with to end at about the same time.
LONGEST = ("test_workflow", "test_processes", "test_own", "test_rows")
MIRROR = ROOT.parent / "shared" / "datasets"

# The default experiment, made small enough for a test.
SMALL = {
    "batch_size": 2,
    "data.scenes.size": "32x32",
    "data.scenes.train": 6,
    "data.scenes.val": 4,
    "data.size.train": "32x32",
    "data.size.val": "32x32",
    "train.iterations": 4,
    "train.validate_every": 2,
    "finetune.fcn16s.iterations": 3,
    "finetune.fcn8s.iterations": 3,
}


def changed(text: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The content of a params file with values replaced by dotted key."""
    content: dict[str, Any] = yaml.safe_load(text)
    for key, value in changes.items():
        *path, last = key.split(".")
        section = content
        for part in path:
            section = section[part]
        assert last in section, f"no key {key}"
        section[last] = value
    return content


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, then others with slow tests."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    order = {name: place for place, name in enumerate(LONGEST, -len(LONGEST))}
    items.sort(key=lambda item: order.get(item.path.stem, int(item.path not in slow)))


@pytest.fixture(autouse=True)
def own_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of files that a test makes up are not recorded in the checkout."""
    monkeypatch.setattr(pins, "FOLDER", tmp_path / "pins")


@pytest.fixture
def small() -> Callable[..., Params]:
    """small(lr=…, **{"train.save": …}): the default experiment, small, with values replaced."""
    text = (ROOT / "recipes" / "scenes.yaml").read_text()
    return lambda **changes: params.check(changed(text, SMALL | changes), "params.yaml")


@pytest.fixture
def narrow_vgg16(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG16 has a few channels, so that its nets and their files are small."""
    monkeypatch.setitem(BACKBONES, "vgg16", model_files.NARROW)


@pytest.fixture
def narrow_alexnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """AlexNet has a few channels."""
    monkeypatch.setitem(BACKBONES, "alexnet", model_files.NARROW_ALEXNET)


@pytest.fixture
def narrow_googlenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """GoogLeNet has a sixteenth of its channels."""
    monkeypatch.setitem(BACKBONES, "googlenet", model_files.NARROW_GOOGLENET)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six training and four validation scenes of 32×32, packed."""
    text = (ROOT / "recipes" / "scenes.yaml").read_text()
    experiment = params.check(changed(text, SMALL), "params.yaml")
    raw, out = tmp_path_factory.mktemp("raw") / "scenes", tmp_path_factory.mktemp("resized")
    raw.mkdir()
    scenes.build(experiment.data, {}, raw)
    for role in ("train", "val"):
        packing.pack(scenes.samples(raw, role), scenes.LABELS, "native", False, role, out)  # type: ignore[arg-type]
    packing.write_labels(scenes.LABELS, out)
    packing.write_scale(Scale(), out)
    return out


def learn_and_score(folder: Path, experiment: Params) -> tuple[float, Tensor]:
    """The loss of one step from zero score layers on a packed data set, and the counts on its val split after it."""
    train, val = Split(folder, "train"), Split(folder, "val")
    net = FCN(len(train.labels.names), 32, "slim", pad="same")
    torch.nn.init.zeros_(net.score_fr.weight)
    torch.nn.init.zeros_(net.score_fr.bias)
    sampler = Sampler(train, experiment.data, seed=1, stride=32, batch_size=experiment.batch_size)
    once = experiment.train.model_copy(update={"iterations": 1})
    (step,) = steps.steps(net, Optimizer(net, experiment), sampler, experiment, once)
    return float(step.loss), counting.count(net, val)[0].confusion


def as_checkout(folder: Path) -> Path:
    """Gives a folder what commands know a checkout by."""
    (folder / "dvc.yaml").touch()
    for name in ("fcn", "stages", "recipes"):
        (folder / name).mkdir()
    return folder


class Checkout:
    """A clone of the working tree with small params, in which real commands are run."""

    def __init__(self, folder: Path, like: "Checkout | None" = None) -> None:
        self.folder = folder
        if like:  # all that has run there, but for its store
            shutil.copytree(
                like.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow.db*", "ml*s")
            )
            return
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        for generated in ("dvc.lock", "metrics"):
            path = folder / generated
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copy2(ROOT / "recipes" / "scenes.yaml", folder / "params.yaml")  # whatever experiment is on here
        self.set(**SMALL)
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.email", "test@example.org")
        self.run("git", "config", "user.name", "test")
        self.commit()

    @classmethod
    def opened(cls, folder: Path) -> "Checkout":
        """One that is there already."""
        checkout = cls.__new__(cls)
        checkout.folder = folder
        return checkout

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def set(self, **changes: Any) -> None:
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(changed(path.read_text(), changes), sort_keys=False))

    def environment(self, **more: str) -> dict[str, str]:
        # DVC_ROOT and its like would make the inner DVC work for the outer one's checkout.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_", "FCN_MIRROR"))}
        bin_folder = str(Path(sys.executable).parent)
        return inherited | {"PATH": f"{bin_folder}:{inherited['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"} | more

    def forking(self, **more: str) -> dict[str, str]:
        """The same, with stages, `fcn` and `dvc` as tests/forks.py says."""
        made = self.environment(**more)
        return made | {"PATH": f"{forks.folder()}:{made['PATH']}"}

    def run(self, *command: str, code: int | None = 0, **environment: str) -> str:
        """Runs a command to its end and returns all that it printed; `dvc`, `fcn` and `python` as tests/forks.py says.

        code   0 if it has to succeed, another number if it has to fail, None if it may do either
        """
        forked = command[0] in ("dvc", "fcn", "python")
        made = self.forking(**environment) if forked else self.environment(**environment)
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=made,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert code is None or (done.returncode == 0) == (code == 0), (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
        )
        return done.stdout

    def terminate(self, command: list[str], when: str, **environment: str) -> int:
        """Runs a command, sends SIGTERM once it prints a line that contains `when`, and returns its exit status."""
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment(**environment), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if when in line:
                    process.send_signal(signal.SIGTERM)
                    break
            process.communicate()
        return process.returncode

    def experiments(self) -> list[str]:
        """The git refs in which DVC keeps experiments that succeeded."""
        return self.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/??/**").split()

    def queue(self, count: int, jobs: int = 1) -> str:
        """Runs `count` queued experiments to completion; returns the output of `dvc queue status`."""
        wanted, deadline = len(self.experiments()) + count, time.monotonic() + 600
        (self.folder / ".fcn").mkdir(exist_ok=True)
        # A file instead of a pipe: the workers inherit it, and check for more tasks only every ten seconds.
        self.run("sh", "-c", f"dvc queue start --jobs {jobs} > .fcn/queue.txt 2>&1", PATH=self.forking()["PATH"])
        while len(self.experiments()) < wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        while "Running" in (status := self.run("dvc", "queue", "status")):
            assert time.monotonic() < deadline, status
        self.run("dvc", "queue", "stop")
        return status

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which nothing has run, to be copied: that takes a third of the time of a new one."""
    return Checkout(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def checkout(pristine: Checkout, tmp_path: Path) -> Checkout:
    folder = tmp_path / "checkout"
    folder.mkdir()
    return Checkout(folder, pristine)


@pytest.fixture
def ready(kept: Checkout, tmp_path: Path) -> Checkout:
    """A copy of a checkout whose pipeline has run, to change as a test likes."""
    folder = tmp_path / "ready"
    folder.mkdir()
    return Checkout(folder, kept)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose pipeline has run once, without its store, to be read and copied: no test runs anything in it.

    It is made once, whichever of pytest's processes needs it first.
    """
    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = place / "kept"
    with (place / "kept.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            original = place / "finished"
            original.mkdir()
            checkout = Checkout(original)
            checkout.run("dvc", "repro")
            checkout.commit()
            Checkout(folder, checkout)
    return Checkout.opened(folder)


@pytest.fixture(scope="session")
def finished(kept: Checkout) -> Checkout:
    """The one that `kept` is a copy of, with its store. Only test_workflow, which one process of pytest runs, runs
    anything in it: experiments, which leave the workspace as it is.
    """
    return Checkout.opened(kept.folder.with_name("finished"))


@pytest.fixture(scope="session")
def shown(kept: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of it with an experiment, run as DVC does it, and a store that `fcn sync` has filled."""
    folder = tmp_path_factory.mktemp("shown")
    checkout = Checkout(folder, kept)
    checkout.run("dvc", "exp", "run", "--temp", "--name", "lower", "--set-param", "finetune.fcn8s.lr_factor=0.2")
    (folder / ".fcn" / "sync.txt").write_text(checkout.run("fcn", "sync"))
    return checkout


class Fcn:
    """The command fcn, run in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> tuple[str, str, object]:
        """Runs `fcn WORDS`; returns its stdout, its stderr, and its exit code or error message."""
        self.monkeypatch.setattr(sys, "argv", ["fcn", *map(str, words)])
        code: object = 0
        try:
            __main__.main()
        except SystemExit as end:
            code = end.code
        out, err = self.capsys.readouterr()
        return out, err, code


@pytest.fixture
def fcn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fcn:
    """The command, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Fcn(monkeypatch, capsys)
