"""A bar chart as SVG: processor time per frame of each subject, with the spread over the rounds."""

from html import escape

from bench.throughput import Spread

BAR, GAP, LEFT, WIDTH = 26, 14, 290, 860
"""Pixels: a bar's height, the room between two, where they begin, and the whole picture's width."""

STYLE = (
    "text{font:14px sans-serif;fill:#24292f}.own{fill:#2da44e}.other{fill:#8c959f}line{stroke:#24292f}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}line{stroke:#e6edf3}}"
)


def bars(title: str, unit: str, values: dict[str, Spread], own: str) -> str:
    """A bar for each value, to the median, and a line from the least to the most.

    Args:
        title: above the bars.
        unit: behind each number.
        values: by the label of the bar.
        own: the label of the bar that stands out.
    """
    most = max(value.most for value in values.values())
    scale = (WIDTH - LEFT - 120) / most
    parts = [f'<text x="0" y="18" font-weight="bold">{escape(title)}</text>']
    y = 36
    for label, value in values.items():
        kind, least, far = (
            "own" if label == own else "other",
            LEFT + value.least * scale,
            LEFT + value.most * scale,
        )
        parts.append(f'<text x="{LEFT - 10}" y="{y + 18}" text-anchor="end">{escape(label)}</text>')
        parts.append(
            f'<rect class="{kind}" x="{LEFT}" y="{y}" height="{BAR}" width="{value.median * scale:.1f}"/>'
        )
        parts.append(f'<line x1="{least:.1f}" x2="{far:.1f}" y1="{y + BAR / 2}" y2="{y + BAR / 2}"/>')
        parts.append(f'<text x="{far + 8:.1f}" y="{y + 18}">{value.median:.1f} {unit}</text>')
        y += BAR + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}"><style>{STYLE}</style>'
        f"{''.join(parts)}</svg>\n"
    )
