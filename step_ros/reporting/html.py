# SPDX-License-Identifier: Apache-2.0
"""Turn a Markdown report into one HTML page with embedded pictures."""

import base64
import html
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; }}
body {{ margin: 2rem auto; padding: 0 1rem; }}
p, li {{ max-width: 50rem; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }}
th, td {{ border-bottom: 1px solid #8886; padding: .25rem .75rem; }}
thead th {{ border-bottom: 2px solid #888; vertical-align: bottom; }}
tbody tr:hover {{ background: #8882; }}
img {{ background: white; height: auto; max-width: 100%; }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def html_report(markdown: str, folder: Path) -> str:
    """Return a report as an HTML page that needs no other file.

    Args:
        markdown: The report; HTML in it is shown as text.
        folder: Folder to which the paths of its pictures are relative.

    Raises:
        OSError: A picture cannot be read.
    """
    parser = MarkdownIt('commonmark', {'html': False}).enable('table')
    tokens = parser.parse(markdown)
    for token in tokens:
        for child in token.children or ():
            if child.type == 'image':
                child.attrs['src'] = _embedded(folder / unquote(str(child.attrs['src'])))
    body = parser.renderer.render(tokens, parser.options, {})
    # Wide tables scroll, not the whole page.
    body = body.replace('<table>', '<div class="table">\n<table>')
    body = body.replace('</table>', '</table>\n</div>')
    return PAGE.format(title=html.escape(_title(tokens)), body=body)


def _embedded(picture: Path) -> str:
    return f'data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}'


def _title(tokens: list[Token]) -> str:
    for token, following in pairwise(tokens):
        if token.type == 'heading_open':
            return following.content
    return 'Report'
