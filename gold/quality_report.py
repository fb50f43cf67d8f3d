"""The quality report as HTML: figures in, one page out. No database and no lake here.

Charts are drawn by matplotlib as SVG and stand in the page itself. Their colours are the page's own, so they
follow its light and dark scheme. All text that comes from data is escaped.
"""

import io
import math
import re
from datetime import UTC, datetime
from html import escape

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Colours as drawn, and the variable of the page each becomes.
INK, MUTED, LINE, PAPER = "#1c2430", "#667085", "#d9dee7", "#fefefe"
GOOD, WAIT, BAD = "#1f8a70", "#e09f3e", "#c8553d"
SERIES = ("#3366aa", "#1f8a71", "#c77d32", "#8a5aa8", "#c04a6b", "#5b8c2a", "#2a8fa8", "#7a6a53")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--paper",
    GOOD: "--good",
    WAIT: "--wait",
    BAD: "--bad",
} | {colour: f"--s{number}" for number, colour in enumerate(SERIES, 1)}
DECISIONS = {"REJECT": BAD, "FLAG_REVIEW": WAIT, "AUTO_MERGE": GOOD}
SIZES = ("1", "2", "3", "4-5", "6-9", "10-19", "20-49", "50-99", "100 or more")
WIDTH = 4.8

matplotlib.rcParams |= {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}


def render(data: dict) -> str:
    """The page. data: the row of quality_report.sql."""
    cards = [
        card("From delivered lines to customers", "all runs", funnel(data)),
        card("Confidence of the compared pairs", "all runs, logarithmic", score_histogram(data)),
        card("What each comparison is worth", _model_note(data), model_weights(data)),
        card("Records per customer", "customers of each size, logarithmic", cluster_sizes(data)),
        card("Completeness by source", "share of records that say it, valid or not", completeness(data)),
        card("Conflicts", "customers whose sources contradict each other", conflicts(data)),
        card(
            "Found again in the other source",
            "share of a source's customers, over runs",
            trend(data, "match_rate"),
        ),
        card(
            "More records than customers",
            "share of a source's records that repeat a customer, over runs",
            trend(data, "duplicate_rate"),
        ),
        card("Customers", "over runs", trend(data, "customers")),
        card(
            "Quarantined",
            "share of the lines of a run that could not be read",
            trend(data, "quarantine_rate"),
        ),
    ]
    return PAGE.format(
        run=data["run_id"],
        started=data["started_at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        tiles="".join(tiles(data)),
        warnings=warnings(data),
        cards="".join(cards),
        quality=quality_table(data),
        queue=review_queue(data),
    )


def tiles(data: dict) -> list[str]:
    """The figures on top."""
    repeated = 1 - data["customers"] / data["records"] if data["records"] else 0
    figures = [
        (data["customers"], "customers"),
        (data["records"], "source records"),
        (f"{max(repeated, 0):.0%}", "of records repeat a customer"),
        (data["delivered"] - data["readable"], "lines in quarantine"),
        (data["conflicts"], "conflicts"),
        (data["review_items"], "waiting for a steward"),
    ]
    return [
        f'<div class="tile"><b>{value if isinstance(value, str) else f"{value:,}"}</b>'
        f"<span>{label}</span></div>"
        for value, label in figures
    ]


def warnings(data: dict) -> str:
    """What left its usual range, or that nothing did."""
    found = data["warnings"] or []
    if not found:
        return '<p class="calm">Every share is in its usual range.</p>'
    rows = "".join(
        f"<li><b>{escape(_words(warning['metric']))} of {escape(warning['subject'])}</b> is "
        f"{_percent(warning['value'])}, usually {_percent(warning['usual'])} ({warning['run_count']} runs)</li>"
        for warning in found[:12]
    )
    more = f"<li>and {len(found) - 12} more in gold.metric_warnings</li>" if len(found) > 12 else ""
    return f'<section class="alarm"><h2>Out of the usual range</h2><ul>{rows}{more}</ul></section>'


def card(title: str, note: str, body: str) -> str:
    """One chart with its heading."""
    return f'<section class="card"><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{body}</section>'


# -- charts ------------------------------------------------------------------------------------------------


def funnel(data: dict) -> str:
    """Bars from lines to customers."""
    steps = [
        ("lines delivered", data["delivered"]),
        ("lines readable", data["readable"]),
        ("source records", data["records"]),
        ("customers", data["customers"]),
        ("in several sources", data["in_several_sources"]),
    ]
    figure, axes = _figure(2.5)
    places = range(len(steps))
    axes.barh(places, [count for _, count in steps], color=SERIES[0], height=0.62)
    _labelled_bars(axes, [label for label, _ in steps], [count for _, count in steps])
    return _svg(figure, "funnel", "Counts from delivered lines to customers")


def score_histogram(data: dict) -> str:
    """Pairs by confidence, stacked by decision, with the two thresholds."""
    if not data["scores"]:
        return _nothing("No pair has been compared yet.")
    figure, axes = _figure(2.9)
    floors = [0] * 20
    for decision, colour in DECISIONS.items():
        counts = [0] * 20
        for name, score_from, pairs in data["scores"]:
            if name == decision:
                counts[score_from // 5] += pairs
        axes.bar(
            [place * 5 + 2.5 for place in range(20)],
            counts,
            bottom=floors,
            width=4.5,
            color=colour,
            label=f"{_words(decision)} ({sum(counts):,})",
        )
        floors = [floor + count for floor, count in zip(floors, counts, strict=True)]
    top = max(floors)
    axes.set_yscale("log")
    axes.set_ylim(0.8, top * 6)
    for name in ("flag_review", "auto_merge"):
        at = (data["model"] or {}).get(name)
        if at is not None:
            axes.axvline(at * 100, color=INK, linewidth=1, linestyle=(0, (3, 2)))
            axes.text(at * 100 - 1, top * 1.3, f"{at * 100:g}", ha="right", fontsize=9.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("total_confidence_score")
    _thousands(axes.yaxis)
    figure.legend(loc="outside upper center", ncols=3, handlelength=0.8, columnspacing=0.9, handletextpad=0.3)
    return _svg(figure, "scores", "Histogram of confidence scores by decision")


def model_weights(data: dict) -> str:
    """One row per attribute: the match weight (log2 m/u) of each comparison level."""
    model = data["model"]
    if not model:
        return _nothing("No model yet.")
    names, comparisons = model["names"], model["comparisons"]
    figure, axes = _figure(0.6 + 0.36 * len(names))
    for row, levels in enumerate(comparisons):
        weights = [math.log2(level["m"] / level["u"]) for level in levels]
        axes.plot(
            [min(weights), max(weights)],
            [row, row],
            color=LINE,
            linewidth=3,
            solid_capstyle="round",
            zorder=1,
        )
        axes.scatter(
            weights, [row] * len(weights), s=34, zorder=2, color=[GOOD if w > 0 else BAD for w in weights]
        )
        for weight, align, shift in ((max(weights), "left", 0.9), (min(weights), "right", -0.9)):
            axes.text(weight + shift, row, f"{weight:+.1f}", ha=align, va="center", fontsize=9.5)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(range(len(names)), [_words(name) for name in names], color=INK)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.14)
    axes.set_xlabel("evidence for the same person: log2(m / u) of each level")
    return _svg(figure, "weights", "Match weights of the comparison levels per attribute")


def cluster_sizes(data: dict) -> str:
    """Customers by number of records."""
    counts = dict.fromkeys(SIZES, 0) | {
        subject: value for metric, subject, value, _ in data["metrics"] if metric == "customers_of_size"
    }
    figure, axes = _figure(2.5)
    values = [counts[size] for size in SIZES]
    axes.bar(range(len(SIZES)), values, color=SERIES[0], width=0.7)
    axes.set_yscale("symlog", linthresh=1)
    for place, value in enumerate(values):
        if value:
            axes.annotate(
                _short(value), (place, value), (0, 3), textcoords="offset points", ha="center", fontsize=9.5
            )
    axes.set_xticks(range(len(SIZES)), [size.replace(" or more", "+") for size in SIZES])
    axes.set_ylim(0, max([*values, 1]) * 4)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return _svg(figure, "sizes", "Customers by number of records")


def completeness(data: dict) -> str:
    """A table of squares: sources across, attributes down."""
    shares = {(cell["source"], cell["attribute"]): cell["completeness"] for cell in data["quality"] or []}
    if not shares:
        return _nothing("No records yet.")
    sources = sorted({source for source, _ in shares})
    attributes = list(dict.fromkeys(attribute for _, attribute in shares))
    figure, axes = _figure(0.55 + 0.34 * len(attributes))
    for row, attribute in enumerate(attributes):
        for column, source in enumerate(sources):
            share = shares.get((source, attribute))
            if share is None:
                axes.text(column, row, "–", ha="center", va="center", color=MUTED)
                continue
            axes.barh(row, 0.96 * share, left=column - 0.48, height=0.8, color=SERIES[0], alpha=0.35)
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=10)
    axes.set_xlim(-0.5, len(sources) - 0.5)
    axes.set_ylim(len(attributes) - 0.5, -0.5)
    axes.set_xticks(range(len(sources)), [_cut(source) for source in sources], color=INK)
    axes.set_yticks(range(len(attributes)), [_words(attribute) for attribute in attributes], color=INK)
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    return _svg(figure, "completeness", "Completeness of each attribute by source")


def conflicts(data: dict) -> str:
    """Conflicts by kind."""
    found = sorted(
        ((value, subject) for metric, subject, value, _ in data["metrics"] if metric == "conflicts"),
        reverse=True,
    )
    if not found:
        return _nothing("No source contradicts another.")
    figure, axes = _figure(0.6 + 0.38 * len(found))
    colours = [BAD if subject.startswith("different") else WAIT for _, subject in found]
    axes.barh(range(len(found)), [count for count, _ in found], color=colours, height=0.62)
    _labelled_bars(axes, [_words(subject) for _, subject in found], [count for count, _ in found])
    return _svg(figure, "conflicts", "Conflicts by kind")


def trend(data: dict, metric: str) -> str:
    """The lines of one metric over the runs."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for run_id, name, subject, value in data["trends"] or []:
        if name == metric:
            lines.setdefault(subject, []).append((run_id, value))
    if not lines:
        return _nothing("Not measured yet.")
    figure, axes = _figure(2.4)
    # The eight with the highest last values; more would not be told apart.
    shown = sorted(lines, key=lambda subject: -lines[subject][-1][1])[: len(SERIES)]
    for subject, colour in zip(shown, SERIES, strict=False):
        runs, values = zip(*lines[subject], strict=True)
        axes.plot(
            runs, values, color=colour, linewidth=1.8, marker="o", markersize=3, label=_cut(subject, 30)
        )
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=8))
    axes.set_xlabel("run")
    axes.set_ylim(0, 1.15 * max(value for subject in shown for _, value in lines[subject]) or 1)
    if metric == "customers":
        _thousands(axes.yaxis)
    else:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.3g}%")
    if len(shown) > 1:
        columns = 3 if len(shown) % 3 == 0 and max(map(len, shown)) < 14 else 2
        figure.set_figheight(2.4 + 0.2 * math.ceil(len(shown) / columns))
        figure.legend(loc="outside lower center", ncols=columns, handlelength=1.2, columnspacing=1.6)
    return _svg(figure, metric, f"{_words(metric)} over runs")


# -- tables ------------------------------------------------------------------------------------------------


def quality_table(data: dict) -> str:
    """The five measures per source and attribute."""
    measures = ("completeness", "validity", "uniqueness", "consistency", "timeliness")
    rows = []
    for cell in data["quality"] or []:
        shares = "".join(f"<td>{_meter(cell[measure])}</td>" for measure in measures)
        rows.append(
            f"<tr><th>{escape(cell['source'])}</th><td>{escape(_words(cell['attribute']))}</td>"
            f'<td class="number">{cell["values"]:,}</td>{shares}</tr>'
        )
    heads = "".join(f"<th>{measure}</th>" for measure in measures)
    return (
        '<div class="scroll"><table><thead><tr><th>source</th><th>attribute</th>'
        f'<th class="number">values</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def review_queue(data: dict) -> str:
    """The top of the queue of each kind."""
    items = data["queue"] or []
    if not items:
        return _nothing("Nothing waits for a steward.")
    now = data["started_at"]
    rows = []
    for item in items:
        ids = " · ".join(
            f"<code>{escape(one[:8])}</code>" for one in (item["customer"], item["other"]) if one
        )
        since = datetime.fromisoformat(item["since"]) if item["since"] else now
        rows.append(
            f'<li><span class="kind {escape(item["kind"])}">{escape(_words(item["kind"]))}</span>'
            f'<span class="ids">{ids}</span><span class="reason">{escape(item["reason"] or "")}</span>'
            f'<span class="since">since {since.astimezone(UTC):%Y-%m-%d}</span></li>'
        )
    return f'<ul class="queue">{"".join(rows)}</ul>'


# -- drawing -----------------------------------------------------------------------------------------------


def _figure(height: float) -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=(WIDTH, height), facecolor="none", layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an SVG element in the page's colours."""
    text = io.StringIO()
    matplotlib.rcParams["svg.hashsalt"] = name
    FigureCanvasSVG(figure).print_figure(text, format="svg", metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)


def _labelled_bars(axes: matplotlib.axes.Axes, labels: list[str], values: list[float]) -> None:
    """Name and count of each horizontal bar instead of an axis; the first on top."""
    for place, value in enumerate(values):
        axes.annotate(f"{int(value):,}", (value, place), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max([*values, 1]) * 1.22)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)


def _thousands(axis: matplotlib.axis.Axis) -> None:
    axis.set_major_formatter(lambda value, _: _short(value))


def _short(count: float) -> str:
    """12,345 as 12k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:g}"


def _percent(share: float) -> str:
    """61.0%, and 0.03% where one digit would say nothing."""
    return f"{share:.1%}" if share >= 0.01 or share == 0 else f"{share * 100:.2g}%"


def _cut(text: str, most: int = 16) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


def _meter(share: float | None) -> str:
    if share is None:
        return '<span class="none">–</span>'
    return f'<span class="meter"><i style="width:{max(0.0, min(share, 1.0)):.1%}"></i></span>{share:.1%}'


def _nothing(text: str) -> str:
    return f'<p class="calm">{escape(text)}</p>'


def _model_note(data: dict) -> str:
    model = data["model"]
    if not model:
        return "no model"
    made = "trained on the data" if model["method"] == "em" else "as written in matching/model.toml"
    return f"model {model['version']}, {made}"


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Data quality, run {run}</title>
<style>
:root {{
  --ink: #1c2430; --muted: #667085; --line: #d9dee7; --paper: #fff; --ground: #f4f6f9;
  --good: #1f8a70; --wait: #e09f3e; --bad: #c8553d;
  --s1: #3366aa; --s2: #1f8a71; --s3: #c77d32; --s4: #8a5aa8; --s5: #c04a6b; --s6: #5b8c2a;
  --s7: #2a8fa8; --s8: #7a6a53;
  color-scheme: light dark;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --ink: #e8ecf2; --muted: #9aa5b5; --line: #364152; --paper: #1a212c; --ground: #10151d;
    --good: #3dbb9a; --wait: #e8b25f; --bad: #e4775f;
    --s1: #6d9fe0; --s2: #4cc0a2; --s3: #e2a05a; --s4: #b48ad1; --s5: #e27a98; --s6: #93c25e;
    --s7: #5fc0d8; --s8: #b5a58c;
  }}
}}
* {{ box-sizing: border-box; }}
body {{
  margin: 0; background: var(--ground); color: var(--ink); line-height: 1.45;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}}
main {{ max-width: 1320px; margin: 0 auto; padding: 28px 20px 48px; }}
header {{ display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 16px; margin-bottom: 18px; }}
h1 {{ font-size: 1.7rem; margin: 0; letter-spacing: -0.01em; }}
header p, .note {{ color: var(--muted); margin: 0; }}
h2 {{ font-size: 1.02rem; margin: 0; }}
.note {{ font-size: 0.85rem; margin: 2px 0 12px; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }}
.tile, .card, .alarm, .wide {{
  background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px;
}}
.tile b {{ display: block; font-size: 1.55rem; font-variant-numeric: tabular-nums; letter-spacing: -0.02em; }}
.tile span {{ color: var(--muted); font-size: 0.85rem; }}
.alarm {{ margin-top: 14px; border-left: 4px solid var(--wait); }}
.alarm ul {{ margin: 8px 0 0; padding-left: 18px; }}
.calm {{ color: var(--muted); margin: 14px 2px 0; font-size: 0.92rem; }}
.grid {{ columns: 3 380px; column-gap: 14px; margin: 14px 0; }}
.card {{ break-inside: avoid; margin-bottom: 14px; }}
.card svg {{
  display: block; width: 100%; height: auto; max-width: 560px; margin: 0 auto; overflow: visible;
}}
svg text {{ font-family: inherit !important; }}
.wide {{ margin-bottom: 14px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 0.88rem; font-variant-numeric: tabular-nums; }}
th, td {{
  text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line);
  white-space: nowrap;
}}
thead th {{ color: var(--muted); font-weight: 500; }}
tbody th {{ font-weight: 600; }}
tbody tr:last-child > * {{ border-bottom: 0; }}
.number {{ text-align: right; }}
.meter {{
  display: inline-block; width: 54px; height: 7px; margin-right: 8px; border-radius: 4px;
  background: var(--line); overflow: hidden; vertical-align: 1px;
}}
.meter i {{ display: block; height: 100%; background: var(--s1); }}
.none {{ color: var(--muted); }}
.queue {{ list-style: none; margin: 0; padding: 0; font-size: 0.9rem; }}
.queue li {{
  display: grid; grid-template-columns: 130px 170px 1fr auto; gap: 2px 14px; padding: 8px 0;
  border-bottom: 1px solid var(--line); align-items: baseline;
}}
.queue li:last-child {{ border-bottom: 0; }}
.kind {{ font-weight: 600; }}
.kind.conflict, .kind.colliding_overrides {{ color: var(--bad); }}
.kind.flagged_pair, .kind.expiring_override {{ color: var(--wait); }}
.ids, .since {{ color: var(--muted); }}
.since {{ white-space: nowrap; }}
code {{ font-size: 0.85em; }}
.reason {{ overflow-wrap: anywhere; }}
footer {{ color: var(--muted); font-size: 0.85rem; margin-top: 20px; }}
@media (max-width: 760px) {{
  main {{ padding: 18px 12px 36px; }}
  .tiles {{ grid-template-columns: 1fr 1fr; gap: 10px; }}
  .tile b {{ font-size: 1.3rem; }}
  .card, .wide {{ padding: 12px; }}
  .queue li {{ grid-template-columns: 1fr auto; }}
  .queue .reason {{ grid-column: 1 / -1; }}
  .queue .since {{ grid-row: 1; grid-column: 2; }}
  .queue .ids {{ grid-column: 1 / -1; }}
}}
</style>
</head>
<body>
<main>
<header><h1>Data quality</h1><p>run {run}, {started}</p></header>
<div class="tiles">{tiles}</div>
{warnings}
<div class="grid">{cards}</div>
<section class="wide"><h2>Quality by source and attribute</h2>
<p class="note">All records; uniqueness of the records that changed in this run.</p>{quality}</section>
<section class="wide"><h2>Waiting for a steward</h2>
<p class="note">The top of each kind; the values and the calls that settle them are in
gold.steward_review_queue.</p>{queue}</section>
<footer>Shares and ids only: no value of a person is in this report.</footer>
</main>
</body>
</html>
"""
