"""Write the experiment's report as Markdown, for pull requests, and as a self-contained HTML page."""

import argparse
from pathlib import Path

from fcn.params import Params
from fcn.pipeline import script


def main(paths: argparse.Namespace, experiment: Params) -> None:
    from fcn.figures import charts
    from fcn.ladder import HELD_OUT
    from fcn.pipeline import dvc_yaml
    from fcn.report import markdown, page
    from fcn.runtime import files
    from fcn.tracking import stage_run

    entry = dvc_yaml.read("report", experiment)
    with stage_run.stage("report", experiment, entry.params, entry.fingerprint()) as run:
        charts.curves(paths.metrics, paths.curves)
        content = markdown.gather(experiment, paths.metrics, paths.models)
        files.write_text(paths.markdown, markdown.markdown(content))
        files.write_text(paths.page, page.page(content, paths.metrics / "figures"))
        # Logged here too: if evaluate was skipped or restored from the cache, it logged nothing to MLflow.
        run.scores({f"{net}.{name}": v for net, row in content.scores.items() if row for name, v in row.items()})
        run.scores({f"{net}.{HELD_OUT}{name}": v for net, row in content.held_out.items() for name, v in row.items()})
        run.artifact(paths.curves, "figures")
        run.artifact(paths.markdown)
        run.artifact(paths.page)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, required=True, help="folder of scores, curves and pictures")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="model files, coarse to fine")
    parser.add_argument("--curves", type=Path, required=True, help="picture of the curves to write")
    parser.add_argument("--markdown", type=Path, required=True, help="report.md to write")
    parser.add_argument("--page", type=Path, required=True, help="report.html to write")
    script.run(parser, main, lock="page")
