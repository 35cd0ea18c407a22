"""Put a trained net into MLflow's model registry, as the one that is served."""

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
    state = "is registered as" if new else "was registered before as"
    print(f"{arguments.model} {state} version {number} of {registry.NAME}; {registry.MODEL} is what `fcn serve` serves")
