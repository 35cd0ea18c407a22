"""Print the report; --with-env writes it as a page with host, CPU, versions and times to .fcn/report.html.

metrics/report.html, which DVC tracks, leaves these out because they vary between two runs of the same experiment.
"""

import argparse

EXAMPLE = "fcn report --with-env"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--with-env", action="store_true", help="write the page with machine and times instead of printing"
    )


def run(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from fcn import params
    from fcn.experiments import environment, history
    from fcn.ladder import NETS
    from fcn.report import markdown, page
    from fcn.runtime import files, machine
    from fcn.runtime.errors import UserError

    state, metrics, weights = history.workspace(), Path("metrics"), Path("data/weights")
    if state is None or "report" not in state.stages:
        raise UserError("the report is missing, or out of date with params.yaml and the code; run `dvc repro`")
    content = markdown.gather(params.load(), metrics, [weights / f"{net}.safetensors" for net in NETS])
    if not arguments.with_env:
        print(markdown.markdown(content), end="")
        return
    out = machine.root() / ".fcn" / "report.html"
    files.write_text(out, page.page(content, metrics / "figures", environment.gather(state, weights)))
    print(out)
