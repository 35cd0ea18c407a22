"""Comparisons as one self-contained HTML page, from page.html, which shows pictures side by side."""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from fcn.comparison import text
from fcn.comparison.comparison import Comparison
from fcn.data.labels import UInt8
from fcn.figures import sheets
from fcn.ladder import NETS
from fcn.runtime import files, machine


def write(found: Sequence[Comparison], path: Path | None) -> Path:
    """Writes the page.

    path      None: a name from the experiments, below .fcn/compare, which git ignores
    returns   its path
    """
    path = path or machine.root() / ".fcn" / "compare" / f"{_name(found)}.html"
    files.write_text(path, page(found))
    return path


def _name(found: Sequence[Comparison]) -> str:
    """A file name of the experiments' names, with a digest if it cannot hold them as they are."""
    names = "_".join([found[0].one.name, *(each.other.name for each in found)])
    plain = re.sub(r"[^\w.-]+", "-", names)[:80].lstrip(".")
    return plain if plain == names else f"{plain}-{hashlib.sha256(names.encode()).hexdigest()[:7]}"


def page(found: Sequence[Comparison]) -> str:
    """The comparisons as HTML."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return templates.get_template("page.html").render(found=found, text=text, NETS=NETS, source=_source)


def _source(picture: UInt8) -> str:
    """The data URL of a picture, scaled to a thumbnail, as WebP."""
    compressed = io.BytesIO()
    sheets.thumbnail(Image.fromarray(picture)).save(compressed, "WebP", quality=80, method=6)
    return f"data:image/webp;base64,{base64.b64encode(compressed.getvalue()).decode()}"
