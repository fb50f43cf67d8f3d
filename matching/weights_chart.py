"""The weights of a model as a picture: what each level of agreement says for or against one person.

One bar per comparison level, as long as its match weight log2(m / u); where the frequency of the value tells, a
line from the weight of the most frequent value to that of a rare one. No value of a person is shown.
"""

import math
from html import escape

from matching.model import Comparison, Model

WIDTH = 960
LEFT, RIGHT = 300, 710  # the plot; names of levels stand left of it, figures right
ROW, GAP, TOP = 19, 14, 96
FOR, AGAINST, UNTRAINED = "#1f7a8c", "#c8553d", "#b9bfc6"
INK, FAINT, GRID = "#1d2329", "#68727d", "#e4e8ec"


def weights_chart(model: Model, title: str = "Match weights") -> str:
    """An SVG drawing (text) of the model's match weights, strongest level of each comparison first."""
    ranges = {
        (comparison.name, level.name): frequency_range(comparison, place)
        for comparison in model.comparisons
        for place, level in enumerate(comparison.levels)
    }
    ends = [weight for found in ranges.values() for weight in found]
    ends += [level.weight for comparison in model.comparisons for level in comparison.levels]
    low, high = 5 * math.floor(min(ends) / 5), 5 * math.ceil(max(ends) / 5)

    def x(weight: float) -> float:
        return LEFT + (weight - low) / (high - low) * (RIGHT - LEFT)

    parts, y = [], TOP
    for comparison in model.comparisons:
        parts.append(_text(24, y + 13, comparison.name.replace("_", " "), "name"))
        parts.append(_text(24, y + 13 + ROW - 3, _said(comparison, model), "faint"))
        for level in comparison.levels:
            parts += _bar(level, y, x, _colour(comparison, level, model), ranges[comparison.name, level.name])
            y += ROW
        # Two lines name a comparison, however few levels it has.
        y += max(0, 2 - len(comparison.levels)) * ROW + GAP
    axis = []
    for weight in range(low, high + 1, 5):
        axis.append(
            f'<line x1="{x(weight):.1f}" x2="{x(weight):.1f}" y1="{TOP - 8}" y2="{y - GAP + 4}" '
            f'stroke="{FAINT if weight == 0 else GRID}"/>'
        )
        axis.append(_text(x(weight), TOP - 14, f"{weight:+d}" if weight else "0", "faint", "middle"))
    axis.append(_text(RIGHT + 62, TOP - 14, "weight", "faint", "end"))
    axis.append(_text(RIGHT + 140, TOP - 14, "one person", "faint", "end"))
    axis.append(_text(RIGHT + 222, TOP - 14, "strangers", "faint", "end"))
    head = [_text(24, 34, title, "title"), _text(24, 54, _origin(model), "faint")]
    foot = _text(
        24,
        y + 14,
        "weight = log2(one person / strangers): +1 doubles the odds that two records are one person, -1 halves "
        "them. Lines: from the most frequent value to a rare one.",
        "faint",
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 32}" width="{WIDTH}" '
        f'height="{y + 32}" role="img" aria-label="{escape(title, quote=True)}">'
        "<style>text{font:12px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;"
        f"fill:{INK}}}.faint{{fill:{FAINT};font-size:11px}}.name{{font-weight:600;font-size:13px}}"
        ".title{font-weight:600;font-size:18px}.figure{font-variant-numeric:tabular-nums;font-size:11px}"
        "</style>"
        f'<rect width="{WIDTH}" height="{y + 32}" fill="#fff"/>'
        + "".join([*head, *axis, *parts, foot])
        + "</svg>\n"
    )


def frequency_range(comparison: Comparison, place: int) -> tuple[float, ...]:
    """The weights of the most frequent and of a rare value at a level; none where frequency does not tell."""
    level = comparison.levels[place]
    if not level.term_frequency or comparison.rare_frequency is None:
        return ()
    marked = level.test != "exact"
    shares = [share for key, share in comparison.frequencies.items() if key.endswith(" *") == marked]
    most = max([*shares, comparison.rare_frequency])
    return tuple(math.log2(level.m / (level.at_this_level * u)) for u in (most, comparison.rare_frequency))


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _bar(level, y: int, x, colour: str, ends: tuple[float, ...]) -> list[str]:
    zero, end = x(0), x(level.weight)
    middle = y + ROW / 2 - 1
    bar = [
        _text(LEFT - 10, y + 13, level.name.replace("_", " "), "level", "end"),
        f'<rect x="{min(zero, end):.1f}" y="{y + 3}" width="{abs(end - zero):.1f}" height="{ROW - 7}" rx="2" '
        f'fill="{colour}"/>',
        _text(RIGHT + 62, y + 13, f"{level.weight:+.1f}", "figure", "end"),
        _text(RIGHT + 140, y + 13, _share(level.m), "figure", "end"),
        _text(RIGHT + 222, y + 13, _share(level.u), "figure", "end"),
    ]
    if ends:
        first, last = sorted(x(weight) for weight in ends)
        bar.append(
            f'<path d="M{first:.1f} {middle - 3}v6m0-3H{last:.1f}m0-3v6" stroke="{INK}" fill="none" '
            'stroke-width="1.2"/>'
        )
    return bar


def _colour(comparison: Comparison, level, model: Model) -> str:
    if _is_untrained(comparison, model):
        return UNTRAINED
    return FOR if level.weight >= 0 else AGAINST


def _is_untrained(comparison: Comparison, model: Model) -> bool:
    return model.prior is None or comparison.support < 1


def _said(comparison: Comparison, model: Model) -> str:
    if _is_untrained(comparison, model):
        return "as written, not trained"
    return f"learnt from {comparison.support:,.0f} matches"


def _share(chance: float) -> str:
    """A chance with three figures that count: 62.0%, 0.0412%, 2.1e-8."""
    if chance >= 1e-5:
        percent = 100 * chance
        return f"{percent:.{max(0, 2 - math.floor(math.log10(percent)))}f}%"
    return f"{chance:.1e}".replace("e-0", "e-")


def _origin(model: Model) -> str:
    if model.prior is None:
        return "The probabilities written in model.toml: too little data to train on."
    return (
        f"Trained on {model.training_pairs:,} pairs of {model.profiles:,} profiles. One pair of profiles in "
        f"{1 / model.prior:,.0f} is one person."
    )
