"""DVC's page of plots, with a local copy of Vega so that it works offline."""

import shutil
import tempfile
from pathlib import Path

from fcn.runtime import commands
from fcn.runtime.errors import UserError

VEGA = Path(".vega/vega.js")
# DVC's default template also has {scripts}, which it fills with Vega's URLs.
TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Plots</title>
<link rel="icon" href="data:,">
<script src="vega.js"></script>
</head><body>
{plot_divs}
</body></html>
"""


def page(out: Path, revisions: list[str]) -> Path:
    """Writes a page with the plots of the workspace, or of several revisions side by side.

    out        folder for index.html, its images and Vega
    revisions  commits and experiments to compare; empty for the workspace
    raises     UserError if Vega is missing or DVC fails
    """
    if not VEGA.is_file():
        raise UserError(f"{VEGA} is missing; `make plots` fetches Vega once")
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.html"
        template.write_text(TEMPLATE, encoding="utf-8")
        words = ["plots", "diff" if revisions else "show", *revisions, "--out", str(out)]
        commands.dvc(*words, "--html-template", str(template))
    shutil.copyfile(VEGA, out / "vega.js")
    return out / "index.html"
