"""Register a trained net in MLflow's model registry, as the one to serve unless it is worse than the current one."""

import argparse
from pathlib import Path

EXAMPLE = "fcn register && fcn serve"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, default=Path("data/weights/fcn8s.safetensors"), help="model file")
    parser.add_argument("--champion", action="store_true", help="serve it even if it is worse or cannot be compared")


def run(arguments: argparse.Namespace) -> None:
    from fcn.runtime import machine

    machine.prepare()
    from fcn.serving import registry

    done = registry.register(arguments.model, arguments.champion)
    state = "is registered as" if done.new else "was already registered as"
    print(f"{arguments.model} {state} version {done.version} of {registry.NAME}", end="")
    if done.reason:
        print(f", as {done.alias}: {done.reason}; `fcn register --champion` serves it in any case")
    else:
        print(f"; `fcn serve` serves it as {registry.MODEL}")
