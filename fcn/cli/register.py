"""Register a trained net in MLflow's model registry as the one to serve."""

import argparse
from pathlib import Path

EXAMPLE = "fcn register && fcn serve"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, default=Path("data/weights/fcn8s.safetensors"), help="model file")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn.serving import registry

    number, new = registry.register(arguments.model)
    state = "is registered as" if new else "was already registered as"
    print(f"{arguments.model} {state} version {number} of {registry.NAME}; `fcn serve` serves it as {registry.MODEL}")
