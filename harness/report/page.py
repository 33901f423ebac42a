"""The report as one self-contained HTML page: tables, and figures as embedded PNGs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from harness.report.render_html import to_html
from harness.report.table import Table
from harness.report.tables_common import setting

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 2rem auto; max-width: 76rem;
       padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #555; vertical-align: bottom; white-space: normal; }
.text { text-align: left; } .number { text-align: right; font-variant-numeric: tabular-nums; }
p, li { color: #444; } figure { margin: 2rem 0; } img { max-width: 100%; height: auto; }
"""


def build_page(
    summary: Mapping[str, Any], tables: Iterable[Table], pictures: Mapping[str, Path]
) -> str:
    """The page's HTML. `pictures`: PNG files by figure stem, embedded in that order."""
    first, *others = tables
    images = "\n".join(_image(stem, path) for stem, path in pictures.items())
    title = escape(f"Benchmark run {summary['profile']} ({summary['spec_hash'][:12]})")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f"<p>{escape(setting(summary))}</p>\n"
        f"{to_html(first)}{images}\n{''.join(to_html(table) for table in others)}"
        "</body>\n</html>\n"
    )


def _image(stem: str, path: Path) -> str:
    data = b64encode(path.read_bytes()).decode("ascii")
    name = escape(stem.replace("_", " "))
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"></figure>'
