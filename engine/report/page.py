"""One HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_CSS = """
:root { --ink: #1f2a44; --muted: #66708a; --line: #e3e7ee; --paper: #ffffff; --ground: #f4f6f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .35em; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 0 0 .4em; }
.lead { color: var(--muted); font-size: 1.08rem; max-width: 48em; margin: 0 0 28px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 14px;
  margin-bottom: 22px; }
.fact, figure, section { background: var(--paper); border: 1px solid var(--line);
  border-radius: 12px; }
.fact { padding: 16px 18px; }
.fact b { display: block; font-size: 1.5rem; line-height: 1.3; font-weight: 650;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.fact span { color: var(--muted); font-size: .9rem; line-height: 1.4; display: block; }
.row { display: grid; grid-template-columns: repeat(12, 1fr); gap: 22px; margin-bottom: 22px; }
figure { margin: 0; padding: 20px 22px; grid-column: span 12; }
figure.wide { grid-column: span 7; } figure.narrow { grid-column: span 5; }
figure.tall { grid-column: span 5; grid-row: span 2; }
figure img { width: 100%; height: auto; display: block; }
figcaption { color: var(--muted); font-size: .92rem; margin-top: 12px; max-width: 62em; }
section { padding: 20px 22px; margin-bottom: 22px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td { padding: 7px 12px 7px 0; border-top: 1px solid var(--line); vertical-align: top; }
tr:first-child td { border-top: 0; }
td:first-child { color: var(--muted); width: 42%; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; }
@media (max-width: 760px) { figure.wide, figure.narrow, figure.tall { grid-column: span 12; } }
@media print { body { background: #fff; } figure, section { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Fact:
    """A number in large type and the words under it."""

    value: str
    words: str


@dataclass(frozen=True)
class Picture:
    """A PNG with heading and caption.

    `shape` is full, wide, narrow, or tall: narrow beside two wide ones.
    """

    png: bytes
    heading: str
    caption: str
    shape: str = "full"


@dataclass(frozen=True)
class Table:
    """Rows of name and value under a heading."""

    heading: str
    rows: Sequence[tuple[str, str]]


def render_page(
    title: str,
    lead: str,
    facts: Sequence[Fact],
    pictures: Sequence[Picture],
    tables: Sequence[Table],
) -> str:
    """HTML with styles and pictures inside; all texts are plain and are escaped."""
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(lead)}</p>',
        '<div class="facts">',
        *(_fact(fact) for fact in facts),
        "</div>",
        '<div class="row">',
        *(_figure(picture) for picture in pictures),
        "</div>",
        *(_table(table) for table in tables),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _fact(fact: Fact) -> str:
    return f'<div class="fact"><b>{escape(fact.value)}</b><span>{escape(fact.words)}</span></div>'


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure class="{escape(picture.shape)}"><h2>{escape(picture.heading)}</h2>'
        f'<img alt="{escape(picture.heading)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in table.rows
    )
    return f"<section><h2>{escape(table.heading)}</h2><table>{rows}</table></section>"
