"""Pictures by key and step, which MLflow's image grid compares between runs and steps."""

import re
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fcn.tracking.store import Store

if TYPE_CHECKING:
    from PIL import Image

FOLDER = "images"  # the artifact folder that the image grid reads
TAG = "mlflow.loggedImages"  # tag of a run that has such pictures
GROUP = "validation"  # MLflow's page of charts shows groups by name: this one after the curves of all stages
FULL, REDUCED = ".png", "+compressed.webp"  # the grid shows the second, and the first when it is clicked


def key(*parts: str) -> str:
    """A key of a picture, from parts of which each may contain any characters."""
    return f"{GROUP}/" + "_".join(re.sub(r"[^A-Za-z0-9_.-]", "_", part)[:80] for part in parts)


def file_name(key: str, step: int) -> str:
    """The name by which the grid finds a picture, without suffix, as `MlflowClient.log_image` of MLflow 3.17 writes it.

    MLflow's own names contain the time and a random UUID, so that a step that is repeated after a kill would be shown
    twice. Here both depend on key and step only, and the step replaces its own files.
    """
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{key} {step}")
    return f"{key.replace('/', '~')}+step+{step}+timestamp+{step}+{identity}"


def names(key: str, step: int) -> set[str]:
    """Paths of a picture's artifacts."""
    return {f"{FOLDER}/{file_name(key, step)}{suffix}" for suffix in (FULL, REDUCED)}


def add(runs: Store, run: str, pictures: Mapping[tuple[str, int], "Image.Image"]) -> None:
    """Logs pictures, by key and step, with one request of the artifact store's client."""
    with tempfile.TemporaryDirectory() as folder:
        for (name, step), picture in pictures.items():
            for suffix in (FULL, REDUCED):
                picture.save(Path(folder) / f"{file_name(name, step)}{suffix}")
        runs.client.log_artifacts(run, folder, FOLDER)
    runs.tag(run, {TAG: "True"})
