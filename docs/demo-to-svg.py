#!/usr/bin/env python3
"""Draws the output of `cargo demo` as docs/demo.svg.

    cargo demo | docs/demo-to-svg.py > docs/demo.svg
"""

import html
import re
import sys

CELL, LINE, MARGIN = 7.23, 17, 18  # pixels, at a font size of 12

STYLE = (
    "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "fill:#c9d1d9;white-space:pre}"
    ".dim{fill:#8b949e}.ok{fill:#3fb950}.no{fill:#f85149}.A{fill:#79c0ff}.m{fill:#d29922}"
)


def span(kind, text):
    return f'<tspan class="{kind}">{text}</tspan>'


def colour(line):
    text = html.escape(line, quote=False)
    if re.fullmatch(r"\s*(\S+-\d+ [Amdu.-]+\s*)+", line):
        text = re.sub(r"\b\S+-\d+ ", lambda name: span("dim", name[0]), text)
        return re.sub(r"(?<![\w-])A+|(?<=[> A])m+(?=[mdu. -]|$)", lambda run: span(run[0][0], run[0]), text)
    text = re.sub(r"^\s*[\d.]+s", lambda time: span("dim", time[0]), text)
    text = text.replace("  ok:", "  " + span("ok", "ok") + ":", 1)
    return text.replace("DID NOT HOLD", span("no", "DID NOT HOLD"))


def main():
    lines = [line.rstrip() for line in sys.stdin.read().rstrip().splitlines()]
    lines = [line for line in lines if not line.startswith("Building ")]
    width = round(max(map(len, lines)) * CELL + 2 * MARGIN)
    height = len(lines) * LINE + 2 * MARGIN
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="Output of cargo demo">'
    )
    print(f"<style>{STYLE}</style>")
    print(f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>')
    for number, line in enumerate(lines):
        if line:
            length = f'textLength="{len(line) * CELL:.1f}" lengthAdjust="spacingAndGlyphs"'
            y = MARGIN + 12 + number * LINE
            print(f'<text x="{MARGIN}" y="{y}" xml:space="preserve" {length}>{colour(line)}</text>')
    print("</svg>")


main()
