"""An experiment is the same on one, two and four processes, and outlives the death of one."""

import os
import shutil
import subprocess
from pathlib import Path

import forks
import pytest
import torch
import yaml
from conftest import ROOT, SMALL, Checkout, changed
from safetensors.torch import load_file

from fcn.models import fcn
from fcn.models.backbones import vgg
from fcn.models.fcn import FCN
from fcn.models.layers import TORCHVISION
from fcn.runtime import machine
from fcn.runtime.distributed import Group, _process_count, group, launch
from fcn.runtime.errors import UserError
from fcn.weights import model_file

STEPS, BATCH = 50, 4
THREADS = max(1, machine.cores() // 2)  # the same for any count of processes: their number changes bits
GROUP = f"import runpy; runpy.run_path({str(ROOT / 'tests' / 'runtime' / 'group.py')!r}, run_name='__main__')"
TORCHRUN = "import sys; from torch.distributed import run; run.main(sys.argv[1:])"


def python() -> str:
    """A Python that forks (tests/forks.py)."""
    return str(forks.folder(THREADS) / "python")


def run(count: int, *words: str, cwd: Path, options: tuple[str, ...] = ()) -> str:
    """Runs tests/runtime/group.py in `count` processes to their end; torchrun, which starts them, is real."""
    command = [python(), "-c", GROUP, *words]
    if count > 1:
        torchrun = ["--standalone", f"--nproc-per-node={count}", *options, "--no-python"]
        command = [python(), "-c", TORCHRUN, *torchrun, *command]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
    environment = inherited | {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(("count", "size"), [(20, 8), (8, 8), (3, 2), (1, 1)])
def test_the_shares_of_a_batch_are_all_of_it_and_never_empty(count: int, size: int) -> None:
    shares = [Group(rank, size).local_range(count) for rank in range(size)]
    assert [place for share in shares for place in share] == list(range(count))
    assert all(shares)


def test_the_number_of_processes_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FCN_PROCESSES", raising=False)
    assert _process_count() == 1  # a CPU is one device
    monkeypatch.setenv("FCN_PROCESSES", "3")
    assert _process_count() == 3
    monkeypatch.setenv("FCN_PROCESSES", "all")
    with pytest.raises(UserError, match="FCN_PROCESSES is 'all'"):
        _process_count()


def test_a_group_that_another_launcher_announces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """srun, Kubeflow and others set these variables; torchrun also sets TORCHELASTIC_RUN_ID."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    for begin in (lambda: launch("stages.train", 8), lambda: group().__enter__()):
        with pytest.raises(UserError, match="WORLD_SIZE is 4, but torchrun did not start this process; unset it"):
            begin()
    monkeypatch.setenv("WORLD_SIZE", "1")
    launch("stages.train", 8)
    with group() as alone:
        assert alone == Group()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "--node-rank=1 --master-addr=127.0.0.1 --master-port=9 --rdzv-conf=timeout=1",
        "--rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:0 --rdzv-conf=join_timeout=1",
    ],
)
def test_a_machine_that_does_not_come_is_no_traceback(options: str, tmp_path: Path) -> None:
    program = "from fcn.runtime import distributed, errors\nwith errors.one_line(): distributed.launch('x', 8)"
    environment = os.environ | {"FCN_TORCHRUN": f"--nnodes=2 --nproc-per-node=1 {options}", "PYTHONPATH": str(ROOT)}
    environment["OMP_NUM_THREADS"] = str(THREADS)
    done = subprocess.run(
        [python(), "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]  # torch's C++ code logs too
    assert line.startswith("error: the machines of FCN_TORCHRUN did not all join in time (")
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(("started_by_dvc", "refused"), [("0", False), ("none", False), ("1", True)])
def test_only_the_process_that_dvc_started_leads(started_by_dvc: str, refused: bool, tmp_path: Path) -> None:
    """Otherwise the model file is written on another machine, and DVC finds no output here."""
    said = run(2, "lead", started_by_dvc, cwd=tmp_path)
    if refused:
        assert said.count("rank 0 of the group is not the process that DVC started; ") == 2
    else:
        assert said.count("goes on") == 2


@pytest.mark.slow
def test_a_mistake_that_every_process_meets_is_said_once(checkout: Checkout) -> None:
    command = [python(), "-m", "stages.train", "--data", "data/resized", "--parent", "b.safetensors"]
    command += [
        "--published",
        "published",
        "--out",
        "c.safetensors",
        "--curves",
        "metrics/fcn32s",
        "--validation",
        "validation.png",
    ]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
    environment = inherited | {"FCN_PROCESSES": "2", "PYTHONPATH": str(checkout.folder)}
    environment["OMP_NUM_THREADS"] = str(THREADS)
    done = subprocess.run(command, cwd=checkout.folder, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert said == ["error: data/resized/classes.json is missing; run `dvc repro resize`"]
    assert done.returncode == 1


@pytest.mark.slow
def test_losses_weights_gradients_and_counts_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, packed: Path
) -> None:
    settings = {"batch_size": BATCH, "optimizer": "sgd", "momentum": 0.9, "lr": 1e-3, "train.iterations": STEPS}
    content = changed((ROOT / "recipes" / "scenes.yaml").read_text(), SMALL | settings | {"train.accumulate": 2})
    recipe = tmp_path / "params.yaml"
    recipe.write_text(yaml.safe_dump(content))
    found = {}
    for count in (1, 2, 4):
        out = tmp_path / f"{count}.safetensors"
        run(count, "compare", str(out), str(packed), str(recipe), cwd=tmp_path)
        found[count] = load_file(out)
    alone = found[1]
    assert float(alone["losses"][-5:].mean()) < 0.99 * float(alone["losses"][:5].mean()), "nothing was learned"
    assert int(alone["counts"].sum()) > 0
    for count in (2, 4):
        assert found[count].keys() == alone.keys()
        for name, value in found[count].items():
            if name in ("counts", "image counts"):
                assert torch.equal(value, alone[name])
                continue
            tolerance = 1e-5 if name.startswith("gradient/") else 1e-9
            worst = (value - alone[name]).abs().max() / alone[name].abs().max()
            assert worst <= tolerance, f"{name} on {count} processes: {worst:.1e}"


@pytest.mark.slow
def test_a_process_that_dies_ends_the_group_and_its_restart_ends_with_the_same_bits(
    checkout: Checkout, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fcn.BACKBONES, "vgg16", vgg((2, 2, 3, 3, 3), (4, 6, 8, 8, 8), 12))
    checkout.set(**{"model.backbone": "vgg16", "optimizer": "sgd", "lr": 1e-4, "batch_size": 3})
    checkout.set(**{"train.average": 0.75, "data.jitter": 4, "data.scale": [0.7, 1.5], "data.loss_sampling": 0.8})
    folder = checkout.folder / "data"
    shutil.copytree(packed, folder / "resized")
    torch.manual_seed(1)
    state = {k: v for k, v in FCN(1, 32, "vgg16").state_dict().items() if not k.startswith("score")}
    meta = model_file.Meta({"backbone": "vgg16"}, TORCHVISION, None, None, None, 0, 1, {})
    model_file.save(folder / "weights" / "backbone.safetensors", state, meta)
    (folder / "weights/published/fcn32s").mkdir(parents=True)
    out, digests = folder / "weights" / "fcn32s.safetensors", []
    for dying in ("none", "0", "2"):
        # Of three: the sum of two numbers is the same in any order.
        printed = run(3, "train", dying, cwd=checkout.folder, options=("--max-restarts=1",))
        assert ("resuming from step 2" in printed) == (dying != "none"), printed
        digests.append(out.read_bytes())
        out.unlink()
        shutil.rmtree(checkout.folder / ".fcn" / "states")  # a finished one stays until DVC has recorded its stage
    assert digests[0] == digests[1] == digests[2]


@pytest.mark.slow
def test_the_evaluate_stage_gives_the_same_files_in_one_process_and_in_two(ready: Checkout) -> None:
    command = yaml.safe_load(ready.read("dvc.lock"))["stages"]["evaluate"]["cmd"].split()
    kinds = ("data/predictions/**/*.png", "metrics/*.json", "metrics/*.csv")
    found = []
    for count in ("1", "2"):
        for path in (p for kind in kinds for p in ready.folder.glob(kind)):
            path.unlink()
        environment = {"FCN_PROCESSES": count, "OMP_NUM_THREADS": str(THREADS), "FCN_TORCHRUN": "--nnodes=2 for others"}
        said = ready.run(python(), *command[1:], **environment, TORCH_CPP_LOG_LEVEL="INFO")
        assert ("[c10d]" in said) == (count == "2")  # torch.distributed's own word
        assert [line.split()[0] for line in said.splitlines() if line.startswith("fcn")] == [
            "fcn32s",
            "fcn16s",
            "fcn8s",
        ]
        found.append({p: p.read_bytes() for kind in kinds for p in sorted(ready.folder.glob(kind))})
    images = len((ready.folder / "data/resized/val.csv").read_text().splitlines()) - 1
    assert sum(path.suffix == ".png" for path in found[0]) == 3 * images
    assert found[0] == found[1]
