"""Export a trained net for other programs: as ONNX with preprocessing inside, signed if there is a key.

The folder has the layout of a repository on the Hugging Face Hub; nothing is uploaded. Each export is compared with
torch, in onnxruntime, on random images.
"""

import argparse
from pathlib import Path

EXAMPLE = "fcn export --out exported --key private.pem && fcn export --check exported --key public.pem"
EXPORTING = {"onnx": "onnx>=1.19", "onnxruntime": "onnxruntime>=1.23", "onnxscript": "onnxscript>=0.5"}
SIGNING = {"model_signing": "model-signing>=1.1", "OpenSSL": "pyopenssl>=25"}  # the first imports the second


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        default=Path("data/weights/fcn8s.safetensors"),
        help="model file (default data/weights/fcn8s.safetensors)",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder")
    what.add_argument("--check", type=Path, metavar="FOLDER", help="check the signature of an exported folder instead")
    parser.add_argument(
        "--key", type=Path, metavar="PEM", help="sign with this private key; with --check, the public key of the signer"
    )


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine
    from fcn.runtime.errors import UserError

    if arguments.check and not arguments.key:
        raise UserError("`fcn export --check` needs --key, the public key of the signer")
    _require((EXPORTING if arguments.out else {}) | (SIGNING if arguments.key else {}))
    if arguments.check:
        from fcn.export import signature

        signature.check(arguments.check, arguments.key)
        print(f"{arguments.check} is as it was signed with the key of {arguments.key}")
        return
    machine.prepare()
    from fcn.export import bundle

    difference = bundle.write(arguments.model, arguments.out, arguments.key)
    print(
        f"wrote {arguments.model} to {arguments.out}{', signed' if arguments.key else ''}; onnxruntime's logits differ "
        f"from torch's by at most {difference.logits:.1e} (the largest is {difference.largest:.1f}), "
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
