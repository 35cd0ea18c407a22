"""Convert published weights to a model file: the reference's .caffemodel, pytorch-fcn's .pth, or fcn's .npz files.

The default output is where `init: NAME` and `model.weights: caffe` look before they download anything.
"""

import argparse
from pathlib import Path

EXAMPLE = "fcn import fcn8s_from_caffe.pth"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the published file")
    parser.add_argument("--net", metavar="NAME", help="name of the net in a .caffemodel, if the file was renamed")
    parser.add_argument("--out", type=Path, metavar="FILE", help="model file to write")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn.pretrained import imagenet, importing, published
    from fcn.runtime import files

    out, name = importing.convert(arguments.file, name=arguments.net, out=arguments.out)
    print(importing.archive(name).notice)
    uses = {imagenet.VGG16: "model.weights: caffe"} | {init: f"init: {init}" for init in published.NETS}
    print(f"{out}: {name}; names, shapes and values checked; sha256 {files.sha256(out)[:12]}")
    if arguments.out is None and name in uses:
        print(f"`{uses[name]}` in params.yaml now uses it")
