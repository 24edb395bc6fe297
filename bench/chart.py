"""Draw the rates of a section as an SVG chart."""

from html import escape
from typing import Final

from bench.report import Section, number

WIDTH: Final = 860
LABELS: Final = 330
ROW: Final = 34
TOP: Final = 48

MINE: Final = "#2563eb"
LIMIT: Final = "#6b7280"
OTHER: Final = "#d97706"

HEAD: Final = f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{{height}}"
     viewBox="0 0 {WIDTH} {{height}}" font-family="system-ui, sans-serif" font-size="14">
<rect width="{WIDTH}" height="{{height}}" rx="8" fill="#ffffff"/>
<text x="16" y="30" font-size="17" font-weight="600">{{title}}</text>"""
BAR: Final = f"""\
<g transform="translate(0 {{y}})">
<text x="{LABELS - 10}" y="19" text-anchor="end">{{name}}</text>
<rect x="{LABELS}" y="4" width="{{length}}" height="{ROW - 12}" rx="3" fill="{{colour}}"/>
<text x="{{beyond}}" y="19">{{value}}</text>
</g>"""


def bars(section: Section, unit: str, limit: str) -> str:
    """Draw a bar for each figure in ``unit``, highest first. ``limit`` is the upper bound."""
    rates = {name: one.median for name, one in section.figures.items() if one.unit == unit}
    ordered = sorted(rates.items(), key=lambda pair: -pair[1])
    height = TOP + ROW * len(ordered) + 12
    scale = (WIDTH - LABELS - 90) / max(rates.values())
    parts = [HEAD.format(height=height, title=escape(f"{section.name.capitalize()}, {unit}"))]
    for place, (name, rate) in enumerate(ordered):
        colour = MINE if name.startswith("mediabus") else LIMIT if name == limit else OTHER
        length = max(2, round(rate * scale))
        bar = BAR.format(
            y=TOP + ROW * place, name=escape(name), length=length, colour=colour,
            value=number(rate), beyond=LABELS + length + 8,
        )  # fmt: skip
        parts.append(bar)
    return "\n".join([*parts, "</svg>", ""])
