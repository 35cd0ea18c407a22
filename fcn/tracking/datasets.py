"""The packed splits as MLflow's data sets: a digest for each split, and a profile of its images and classes."""

import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fcn.pipeline import dvc_lock
from fcn.runtime import files, machine
from fcn.runtime.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

TEST = "data/test"  # the packed held-out split; a folder without files if there is none


@dataclass(frozen=True)
class Dataset:
    """A packed split that a stage reads.

    name      of the data set and the split, such as `scenes-val`
    digest    32 hexadecimal digits: see `digest`
    folder    of the packed splits
    context   what the stage uses it for: training, validation, evaluation or test, the held-out split
    profile   JSON object: see `profile`; empty if the index is not known
    """

    name: str
    digest: str
    folder: str
    context: str
    profile: str = ""

    def scored(self, model: "LoggedModel", name: str, value: float) -> bool:
        """Whether a model has this score on this split."""
        known = {(metric.key, metric.value, metric.dataset_digest) for metric in model.metrics or []}
        return (name, value, self.digest) in known


def digest(members: Mapping[str, str], role: str) -> str:
    """Digest of one split, which changes only if this split does.

    It is the md5 of the list of the split's files, in the form in which DVC lists a folder.

    members   md5 of each file of the folder, by name
    """
    listed = [{"md5": members[name], "relpath": name} for name in sorted(members) if name.startswith(f"{role}.")]
    return hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest()


def profile(index: bytes) -> str:
    """What a split contains, as MLflow shows it: numbers of images, classes and pixels, and fractions of the pixels.

    index     ROLE.csv of the packed split; untrusted
    returns   a JSON object: `void` is a fraction of all pixels, the classes' shares are fractions of the others;
              empty if the index is not valid
    """
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(index), na_filter=False)
        classes = [str(column) for column in table.columns if str(column).startswith("pixels:")]
        pixels = {name.removeprefix("pixels:"): int(table[name].sum()) for name in classes}
        void = int(table["void"].sum())
    except (ValueError, KeyError, TypeError, OverflowError):
        return ""
    total = sum(pixels.values())
    facts: dict[str, object] = {"images": len(table), "classes": len(pixels), "pixels": total + void}
    facts["void"] = round(void / max(total + void, 1), 4)
    facts |= {
        f"share of {name}": round(count / max(total, 1), 4) for name, count in pixels.items()
    }  # MLflow cuts lists
    return json.dumps(facts)


def read(folder: Path, role: str, data: str, context: str) -> Dataset:
    """A split in the workspace.

    data   name of the data set
    """
    members = _listing(folder) or {path.name: files.md5(path) for path in folder.glob(f"{role}.*")}
    index = (folder / f"{role}.csv").read_bytes()
    return Dataset(f"{data}-{role}", digest(members, role), folder.as_posix(), context, profile(index))


def held_out(data: str) -> Dataset | None:
    """The held-out split in the workspace; None if there is none."""
    folder = Path(TEST)
    return read(folder, "test", data, "test") if (folder / "test.csv").is_file() else None


def _listing(folder: Path) -> dict[str, str]:
    """md5 of each file of a folder as DVC has recorded it; empty without DVC, or if its cache is elsewhere.

    Asking DVC where its cache is would take a second.
    """
    with suppress(UserError, OSError, ValueError, KeyError, TypeError):
        outs = [out for stage in dvc_lock.read().values() for out in stage["outs"]]
        (md5,) = {out["md5"] for out in outs if out["path"] == folder.as_posix()}
        listing = machine.root() / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        return {entry["relpath"]: str(entry["md5"]) for entry in json.loads(listing.read_bytes())}
    return {}
