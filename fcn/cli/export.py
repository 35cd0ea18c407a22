"""Export a trained net for other programs: ONNX with preprocessing inside, beside the model file itself.

The folder has the layout of a repository on the Hugging Face Hub; nothing is uploaded. Each export is compared with
torch, in onnxruntime, on random images.
"""

import argparse
from pathlib import Path

EXAMPLE = "fcn export --out exported"
PACKAGES = {"onnx": "onnx>=1.19", "onnxruntime": "onnxruntime>=1.23", "onnxscript": "onnxscript>=0.5"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        default=Path("data/weights/fcn8s.safetensors"),
        help="model file (default data/weights/fcn8s.safetensors)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    _require(PACKAGES)
    machine.prepare()
    from fcn.export import bundle

    difference = bundle.write(arguments.model, arguments.out)
    print(
        f"wrote {arguments.model} to {arguments.out}; onnxruntime's logits differ from torch's by at most "
        f"{difference.logits:.1e} (the largest is {difference.largest:.1f}), "
        f"the class of {difference.other} of {difference.pixels} pixels differs"
    )


def _require(packages: dict[str, str]) -> None:
    """Raises UserError if one of these packages, with their versions, is not installed."""
    from importlib.util import find_spec

    from fcn.runtime.errors import UserError

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        install = " ".join(f"'{packages[name]}'" for name in missing)
        raise UserError(f"`fcn export` needs {' and '.join(missing)}, not installed here; `uv pip install {install}`")
