"""Score FCN-32s, FCN-16s and FCN-8s on the val split, and write their predictions; score them on the held-out split."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fcn.params import Params
from fcn.pipeline import dvc_lock, script
from fcn.runtime import files, locks, machine
from fcn.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from fcn.data.split import Split
    from fcn.metrics.counting import Counts
    from fcn.runtime.distributed import Group
    from fcn.weights.model_file import Meta


def main(paths: argparse.Namespace, experiment: Params) -> None:
    from fcn.data.split import Split
    from fcn.runtime import distributed

    split = Split(paths.data, "val")
    distributed.launch("stages.evaluate", len(split), machines=False)
    with distributed.group() as group:
        if group.is_leader:
            with locks.exclusive(paths.predictions):
                dvc_lock.protect()
                _evaluate(paths, experiment, split, group)
        else:
            for _ in _counted(paths, split, group):
                pass
            _test_scores(paths, group)


def _counted(paths: argparse.Namespace, split: "Split", group: "Group") -> "Iterator[tuple[Path, Meta, list[Counts]]]":
    """Model file, metadata and confusion counts of each net, one per score path; writes its predictions.

    A group divides the images.
    """
    from fcn.figures import sheets
    from fcn.metrics import counting
    from fcn.weights import model_file

    if group.is_leader:
        shutil.rmtree(paths.predictions, ignore_errors=True)
    group.broadcast(None)  # wait until the leader has emptied the folder
    for path in paths.models:
        net, meta = model_file.build(path)
        if meta.labels is None or meta.labels.names != split.labels.names:
            raise UserError(f"{path} was trained on other classes than those of {paths.data}; run dvc repro")
        folders = [paths.predictions / path.stem, paths.predictions / "geometric" / path.stem]

        def keep(i: int, predicted: "list[Tensor]", folders: list[Path] = folders) -> None:
            for folder, prediction, task in zip(folders, predicted, split.tasks(), strict=False):
                sheets.save_mask(prediction.cpu().numpy(), task.labels, folder / f"{split.name(i)}.png")

        yield path, meta, counting.count(net.to(machine.device()), split, keep, group)


def _test_scores(paths: argparse.Namespace, group: "Group") -> dict[str, dict[str, float]]:
    """Scores of each net on the held-out split; empty without one."""
    from fcn.data.split import Split
    from fcn.ladder import GEOMETRIC
    from fcn.metrics import counting, scores
    from fcn.weights import model_file

    if not (paths.test / "test.csv").is_file():
        return {}
    split, table = Split(paths.test, "test"), {}
    for path in paths.models:
        net, meta = model_file.build(path)
        counts = counting.count(net.to(machine.device()), split, group=group)
        if meta.scored:
            table[path.stem] = {
                prefix + name: value
                for prefix, one in zip(("", GEOMETRIC), counts, strict=False)
                for name, value in scores.scores(one.confusion).asdict().items()
            }
    return table


def _evaluate(paths: argparse.Namespace, experiment: Params, split: "Split", group: "Group") -> None:
    from fcn.data.split import Split
    from fcn.evaluation import exhibits, review, verdict
    from fcn.figures import charts
    from fcn.ladder import GEOMETRIC, HELD_OUT
    from fcn.metrics import scores
    from fcn.pipeline import dvc_yaml
    from fcn.tracking import stage_run

    entry = dvc_yaml.read("evaluate", experiment)
    table: dict[str, dict[str, float]] = {}
    iu: dict[str, list[float]] = {}
    geometric_iu: dict[str, list[float]] = {}
    image_iu: dict[str, review.Numbers] = {}
    train_images = (Split(paths.data, "train").pixels() > 0).sum(0).tolist()
    pixels: dict[str, list[float]] = {"train_images": train_images}
    pictures: list[Path] = []
    shutil.rmtree(paths.figures, ignore_errors=True)  # as DVC does, so that no figure of an unscored net remains
    with stage_run.stage("evaluate", experiment, entry.params, entry.fingerprint()) as run:
        run.data(paths.data, val="evaluation")
        for path, meta, (counts, *second) in _counted(paths, split, group):
            run.evaluates(path)
            pictures.append(paths.figures / f"confusion_{path.stem}.png")
            charts.confusion(counts.confusion, split.labels, pictures[-1])
            truth, predicted = counts.confusion.sum(1).tolist(), counts.confusion.sum(0).tolist()
            pixels["pixels"] = truth
            if not meta.scored:
                print(f"{path.stem}: neither trained nor published, no score")
                continue
            table[path.stem] = scores.scores(counts.confusion).asdict()
            for other in second:
                geometric = scores.scores(other.confusion).asdict()
                table[path.stem] |= {GEOMETRIC + name: value for name, value in geometric.items()}
                geometric_iu[path.stem] = scores.class_iu(other.confusion).tolist()
            iu[path.stem] = scores.class_iu(counts.confusion).tolist()
            image_iu[path.stem] = scores.image_mean_iu(counts.images).numpy()
            print(path.stem, *(f"{name} {value:.4f}" for name, value in table[path.stem].items()), flush=True)
            pixels[f"{path.stem}_pixels"] = predicted
            warning = verdict.warning(
                split.labels.names,
                truth,
                predicted,
                pixel_accuracy=table[path.stem]["pixel_accuracy"],
                mean_iu=table[path.stem]["mean_iu"],
                stride=meta.architecture["stride"],
                images=max(train_images),
            )
            if warning:
                print(f"WARNING: {path.stem} {warning}", flush=True)
        files.write_text(paths.scores, json.dumps(table, indent=1) + "\n")
        files.write_text(paths.classes, charts.class_table(split.labels, iu | pixels))
        pictures.append(paths.figures / "predictions.png")
        charts.predictions(split, paths.predictions, [p.stem for p in paths.models], pictures[-1])
        for task in split.tasks()[1:]:
            files.write_text(paths.figures / "geometric.csv", charts.class_table(task.labels, geometric_iu))
            pictures.append(paths.figures / "geometric.png")
            charts.predictions(task, paths.predictions / "geometric", [p.stem for p in paths.models], pictures[-1])
        reviewed = review.review(split, paths.predictions, image_iu)
        for path, rows in zip((paths.images, paths.borders), reviewed.tables(split), strict=True):
            files.write_text(path, rows.to_csv(index=False, lineterminator="\n"))
        pictures += exhibits.draw(split, paths.predictions, reviewed, iu, paths.figures)
        run.scores({f"{net}.{name}": value for net, row in table.items() for name, value in row.items()})
        held_out = _test_scores(paths, group)
        files.write_text(paths.test_scores, json.dumps(held_out, indent=1) + "\n")
        for net, row in held_out.items():
            print(f"{net} on the held-out split:", *(f"{name} {value:.4f}" for name, value in row.items()), flush=True)
        run.scores({f"{net}.{HELD_OUT}{name}": value for net, row in held_out.items() for name, value in row.items()})
        for picture in pictures:
            run.artifact(picture, "figures")
        for path in (paths.test_scores, paths.scores, paths.classes, paths.images, paths.borders):
            run.artifact(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the packed splits")
    parser.add_argument("--test", type=Path, required=True, help="folder of the packed test split, empty without one")
    parser.add_argument("--test-scores", type=Path, required=True, help="JSON file of the scores on the test split")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="model files, coarse to fine")
    parser.add_argument("--predictions", type=Path, required=True, help="folder for predicted masks")
    parser.add_argument("--scores", type=Path, required=True, help="JSON file of the four scores by net")
    parser.add_argument("--classes", type=Path, required=True, help="CSV file of IU and pixels by class and net")
    parser.add_argument("--images", type=Path, required=True, help="CSV file of mean IU by image and net")
    parser.add_argument("--borders", type=Path, required=True, help="CSV file of wrong pixels about borders by net")
    parser.add_argument("--figures", type=Path, required=True, help="folder for pictures")
    script.run(parser, main, computes=True)
