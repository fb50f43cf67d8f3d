"""A drawing as SVG text: bars, lines, dots and words in the colours of the page it stands in.

Colours are names of the page's variables, such as `--ink`, so a drawing follows its light and dark scheme.
Words from data are escaped.
"""

import math
from html import escape

# Units of a drawing; the page scales it to the width it has.
WIDTH = 346
FONT = 10
# The mean width of a letter, as a part of the font's size.
LETTER = 0.56


class Drawing:
    """A drawing in the making; x grows to the right, y downwards."""

    def __init__(self, height: float):
        self.height, self.parts = height, []

    def bar(
        self, x: float, y: float, width: float, height: float, colour: str, opacity: float | None = None
    ) -> None:
        """A filled rectangle."""
        faint = "" if opacity is None else f' opacity="{opacity:g}"'
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" '
            f'fill="var({colour})"{faint}/>'
        )

    def line(
        self, points: list[tuple[float, float]], colour: str, width: float = 0.6, style: str = ""
    ) -> None:
        """A line through points; `style` is further attributes of SVG."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="var({colour})" stroke-width="{width:g}"{style}/>'
        )

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """A filled circle."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="var({colour})"/>')

    def words(
        self, x: float, y: float, text: str, anchor: str = "start", colour: str = "--ink", size: float = FONT
    ) -> None:
        """A text whose middle is at the height y; it starts, has its middle or ends at x."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y + 0.36 * size:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="var({colour})">{escape(text)}</text>'
        )

    def legend(
        self, entries: list[tuple[str, str]], top: float, columns: int, *, is_line: bool = False
    ) -> None:
        """Names with their colours, column by column, in the middle below `top`."""
        rows = math.ceil(len(entries) / columns)
        groups = [entries[first : first + rows] for first in range(0, len(entries), rows)]
        # A mark, the longest name and a gap; all of it smaller where it would not fit.
        widths = [32 + max(words_width(name, 9.5) for name, _ in group) for group in groups]
        scale = min(1, (WIDTH + 12) / sum(widths))
        left = (WIDTH + 12 - scale * sum(widths)) / 2
        for group, width in zip(groups, widths, strict=True):
            for row, (name, colour) in enumerate(group):
                y = top + 13 * row + 7
                if is_line:
                    self.line([(left, y), (left + 14, y)], colour, 1.8)
                    self.dot(left + 7, y, 1.8, colour)
                else:
                    self.bar(left + 6, y - 3.5, 8, 7, colour)
                self.words(left + 18, y, name, size=round(9.5 * scale, 1))
            left += scale * width

    def svg(self, description: str) -> str:
        """The drawing as an SVG element."""
        return (
            f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {WIDTH} {self.height:g}" '
            f'xmlns="http://www.w3.org/2000/svg">{"".join(self.parts)}</svg>'
        )


def words_width(text: str, size: float = FONT) -> float:
    """About how wide a text is."""
    return LETTER * size * len(text)


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` up to `high`, about `count` of them."""
    raw = (high - low) / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * part for part in (1, 2, 2.5, 5, 10) if size * part >= raw * 0.999)
    if whole:
        step = math.ceil(step)
    return [step * place for place in range(math.ceil(low / step), int(high / step + 1e-9) + 1)]
