"""The report as one self-contained HTML page, responsive, with light and dark colour schemes, from page.html."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from fcn.ladder import NETS, SCORES
from fcn.report import markdown
from fcn.report.alt_text import captions
from fcn.report.markdown import Content

# Figures that are compressed lossily.
PHOTOGRAPHS = ("predictions", "best", "worst", "strides", "samples", *(f"validation_{net}" for net in NETS))


def page(content: Content, figures: Path) -> str:
    """The report as HTML.

    figures   folder of the figures; missing ones are skipped
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    paths = {figures / f"{name}.png": text for name, text in captions(content).items()}
    pictures = {path.stem: (text, *_embedded(path)) for path, text in paths.items() if path.is_file()}
    return templates.get_template("page.html").render(
        content=content,
        markdown=markdown,
        NETS=NETS,
        SCORES=SCORES,
        curves=pictures.pop("curves", None),
        pictures=pictures.values(),
        classes=zip(content.classes.iterrows(), content.labels.palette, content.shares, strict=True),
    )


def _embedded(path: Path) -> tuple[int, int, str]:
    """Width, height and data URL of a figure, as WebP."""
    with Image.open(path) as image:
        compressed = io.BytesIO()
        photograph = path.stem in PHOTOGRAPHS
        # For lossless WebP, quality is effort: 100 would save 1 % of the bytes and take seconds per figure.
        image.convert("RGB").save(
            compressed, "WebP", lossless=not photograph, quality=70 if photograph else 85, method=6
        )
        return *image.size, f"data:image/webp;base64,{base64.b64encode(compressed.getvalue()).decode()}"
