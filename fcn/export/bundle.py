"""A trained net as a folder, with the layout of a repository on the Hugging Face Hub; nothing is uploaded.

model.safetensors   the model file itself, byte for byte
model.onnx          the same net for other programs: fcn.export.onnx
README.md           the model card: fcn.export.card
labels.json         class names and colours of each score path
model.sig           the signature of all other files, if there is a key: fcn.export.signature
"""

import json
import shutil
from pathlib import Path

import onnx

from fcn.data.labels import Labels
from fcn.export import card, signature
from fcn.export import onnx as exported
from fcn.export.onnx import Difference
from fcn.ladder import GEOMETRIC
from fcn.runtime import files
from fcn.runtime.errors import UserError

WEIGHTS, ONNX, LABELS, CARD = "model.safetensors", "model.onnx", "labels.json", "README.md"
COMPARED = ((1, 33, 47), (2, 128, 96), (1, 200, 301))  # images, height, width: with every export
MOST = 1e-5  # difference of logits, as a fraction of the largest one; rounding gives about 1e-6


def write(model: Path, out: Path, key: Path | None = None) -> Difference:
    """Writes the folder; it appears when it is complete.

    key      the private key to sign it with, or None
    returns  how far the ONNX file, run by onnxruntime, is from torch
    raises   UserError if the model file cannot be exported, the folder exists and is not empty, or the key is none
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists; choose another folder, or delete it first")
    signer = signature.signer(key) if key else None
    graph, net, meta = exported.export(model)
    with files.replacing_folder(out.absolute()) as folder:
        shutil.copyfile(model, folder / WEIGHTS)
        onnx.save(graph, folder / ONNX)
        paths = {prefix + "labels": labels for prefix, labels in (("", meta.labels), (GEOMETRIC, meta.geometric))}
        (folder / LABELS).write_text(json.dumps({name: _table(labels) for name, labels in paths.items() if labels}))
        difference, session = Difference(), exported.session(folder / ONNX)
        for seed, size in enumerate(COMPARED):
            difference.add(net, session, size, seed)
        if not difference.logits <= MOST * difference.largest:
            raise UserError(
                f"the ONNX file is not the net: logits differ by {difference.logits:g}, the largest is "
                f"{difference.largest:g}; other versions of onnx, onnxruntime or torch may help"
            )
        digests = {name: files.sha256(folder / name) for name in (WEIGHTS, ONNX, LABELS)}
        (folder / CARD).write_text(card.card(meta, card.record(model), digests, difference), encoding="utf-8")
        if signer:
            signature.sign(folder, signer)
    return difference


def _table(labels: Labels) -> list[dict[str, object]]:
    return [{"name": name, "colour": colour} for name, colour in zip(labels.names, labels.palette, strict=True)]
