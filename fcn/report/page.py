"""The report as one self-contained HTML page, responsive, with light and dark colour schemes."""

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from fcn.ladder import NETS, SCORES
from fcn.report.alt_text import captions
from fcn.report.markdown import Content, cells, comparison, note, percent, share_of, sources

# Figures that are compressed lossily.
PHOTOGRAPHS = ("predictions", "best", "worst", "strides", "samples", *(f"validation_{net}" for net in NETS))

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem }
.wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left }
td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
thead th + th { text-align: right } tbody th { white-space: nowrap }
th[colspan] { background: var(--soft); padding-top: .6rem }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer }
th[aria-sort] button::after { content: " ↓" } th[aria-sort=ascending] button::after { content: " ↑" }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em; border: 1px solid #888;
  vertical-align: -.1em }
.warning { border-left: .4rem solid #d33; background: #d332; padding: .6rem 1rem; margin: 1rem 0 }
.note { color: light-dark(#555, #aaa) }
img { max-width: 100%; height: auto; background: white; border-radius: 4px }
figure { margin: 1.5rem 0 } figcaption { color: light-dark(#555, #aaa) }
dt { font-weight: 600 } dd { margin: 0 0 .5rem; overflow-wrap: anywhere }
@media (max-width: 30rem) {
  th, td { padding: .2rem .2rem; font-size: .8rem } td { white-space: normal }
  .wide img { max-width: none; width: 40rem }
  figure::before { content: "Swipe sideways to see the whole picture →"; font-size: .8rem }
}
"""

# A click on a column header sorts the rows: numbers descending, names ascending; a second click reverses the order.
SORT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentNode, table = head.closest("table"), body = table.tBodies[0]
  const value = row => { const cell = row.cells[head.cellIndex]; return cell.dataset.value ?? cell.textContent }
  const names = head.cellIndex == 0, up = head.ariaSort ? head.ariaSort == "descending" : names
  const order = (a, b) => names ? value(a).localeCompare(value(b)) : value(a) - value(b)
  for (const other of head.parentNode.cells) other.ariaSort = null
  head.ariaSort = up ? "ascending" : "descending"
  body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)))
}
"""


def page(content: Content, figures: Path) -> str:
    """The report as HTML.

    figures   folder of the figures; missing ones are skipped
    """
    title = html.escape(content.title)
    curves, *others = (_picture(figures / f"{name}.png", text) for name, text in captions(content).items())
    facts = _facts(content.facts)
    warnings = "".join(
        f'<p class="warning" role="alert"><strong>Warning:</strong> {html.escape(text)}</p>'
        for text in content.warnings
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head><body>
<h1>{title}</h1>{warnings}
{_scores(content)}
<p class="note">{html.escape(note(content))}</p>
<h2>Beside the paper</h2>{_beside(content)}<p class="note">{html.escape(sources(content))}</p>
<h2>Curves</h2>{curves}
<h2>What was run</h2><dl>{facts}</dl>
<h2>IU by class</h2><p class="note">Per cent; a click on a column's head sorts by it.</p>{_classes(content)}
<h2>Pictures</h2>{"".join(others)}
<script>{SORT}</script></body></html>
"""


def _facts(facts: dict[str, str]) -> str:
    return "".join(f"<dt>{html.escape(name)}<dd>{html.escape(fact)}" for name, fact in facts.items())


def _scores(content: Content) -> str:
    rows = ([f'<th scope="row">{NETS[net]}', *_data(cells(row))] for net, row in content.scores.items())
    return _table(["net", *SCORES.values()], rows)


def _beside(content: Content) -> str:
    rows: list[list[str]] = []
    for net, measures in comparison(content).items():
        rows.append([f'<th scope="rowgroup" colspan="5">{NETS[net]}'])
        rows += ([f'<th scope="row">{title}', *_data(row)] for title, *row in measures)
    return _table(["", "paper", "reference weights", "ours", "difference"], rows) if rows else ""


def _classes(content: Content) -> str:
    """The table of IU by class with class colours, sortable by any column."""
    rows = []
    each = zip(content.classes.iterrows(), content.labels.palette, content.shares, strict=True)
    for (name, values), (red, green, blue), share in each:
        swatch = f'<span class="swatch" style="background:rgb({red} {green} {blue})"></span>'
        row = [f'<th scope="row" data-value="{html.escape(str(name))}">{swatch}{html.escape(str(name))}']
        row += [f'<td data-value="{-1 if value != value else value}">{percent(value)}' for value in values]
        rows.append([*row, f'<td data-value="{share}">{share_of(share)}'])
    heads = ["class", *(NETS[str(net)] for net in content.classes), "share of pixels"]
    return _table([f'<button type="button">{head}</button>' for head in heads], rows)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{text}' for text in heads)
    body = "".join(f"<tr>{''.join(row)}" for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</thead><tbody>{body}</tbody></table></div>'


def _data(values: Iterable[str]) -> list[str]:
    return [f"<td>{value}" for value in values]


def _picture(path: Path, text: str) -> str:
    """A figure embedded as WebP, with its description as alt text and caption."""
    if not path.is_file():
        return ""
    text = html.escape(text)
    with Image.open(path) as image:
        width, height = image.size
        compressed = io.BytesIO()
        photograph = path.stem in PHOTOGRAPHS
        # For lossless WebP, quality is effort: 100 would save 1 % of the bytes and take seconds per figure.
        image.convert("RGB").save(
            compressed, "WebP", lossless=not photograph, quality=70 if photograph else 85, method=6
        )
    source = f"data:image/webp;base64,{base64.b64encode(compressed.getvalue()).decode()}"
    image_tag = f'<img alt="{text}" width="{width}" height="{height}" src="{source}">'
    return f'<figure><div class="wide" tabindex="0">{image_tag}</div><figcaption>{text}</figcaption></figure>'
