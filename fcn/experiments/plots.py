"""DVC's page of plots, made to work without a network."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fcn.runtime.errors import UserError

VEGA = Path(".vega/vega.js")
# DVC's own template has {scripts} too, which it fills with Vega's addresses on the net.
TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Plots</title>
<link rel="icon" href="data:,">
<script src="vega.js"></script>
</head><body>
{plot_divs}
</body></html>
"""


def page(out: Path, revisions: list[str]) -> Path:
    """Writes the page of this state's plots, or of several commits and experiments one beside the other.

    out      folder for index.html, its pictures and Vega
    raises   UserError if Vega is not here, or DVC refuses
    """
    if not VEGA.is_file():
        raise UserError(f"{VEGA} is missing; `make plots` fetches Vega once")
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.html"
        template.write_text(TEMPLATE, encoding="utf-8")
        words = ["plots", "diff" if revisions else "show", *revisions, "--out", str(out)]
        words += ["--html-template", str(template)]
        done = subprocess.run([sys.executable, "-m", "dvc", *words], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise UserError(f"`dvc {' '.join(words[:2])}` failed; no page was written")
    shutil.copyfile(VEGA, out / "vega.js")
    return out / "index.html"
