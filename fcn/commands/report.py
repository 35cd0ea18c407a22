"""Print the report; --with-env writes a page of it with host, CPU, versions and times, to .fcn/report.html.

metrics/report.html, which DVC keeps, has none of them: they vary between two runs of the same experiment.
"""

import argparse

EXAMPLE = "fcn report --with-env"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--with-env", action="store_true", help="write the page with machine and times instead")


def run(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from fcn import environment, files, machine, page, params, report, states
    from fcn.errors import UserError
    from fcn.titles import NETS

    state, metrics, weights = states.workspace(), Path("metrics"), Path("data/weights")
    if state is None or "report" not in state.stages:
        raise UserError("there is no report of params.yaml and the code as they are now; run `dvc repro`")
    content = report.gather(params.load(), metrics, [weights / f"{net}.safetensors" for net in NETS])
    if not arguments.with_env:
        print(report.markdown(content), end="")
        return
    out = machine.root() / ".fcn" / "report.html"
    files.write_text(out, page.page(content, metrics / "figures", environment.gather(state, weights)))
    print(out)
