"""The quality report as HTML: figures in, one page out. No database and no lake here.

Charts stand in the page itself, as SVG in the page's colours. All text that comes from data is escaped.
"""

import math
from datetime import UTC, datetime
from html import escape

from gold.drawing import WIDTH, Drawing, ticks, words_width

# The page's variables for colours.
INK, MUTED, LINE = "--ink", "--muted", "--line"
GOOD, WAIT, BAD = "--good", "--wait", "--bad"
SERIES = tuple(f"--s{number}" for number in range(1, 9))
DECISIONS = {"REJECT": BAD, "FLAG_REVIEW": WAIT, "AUTO_MERGE": GOOD}
SIZES = ("1", "2", "3", "4-5", "6-9", "10-19", "20-49", "50-99", "100 or more")
SMALL = 9.5


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
        (f"{data['review_items']:,}{'+' if data['review_capped'] else ''}", "waiting for a steward"),
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
        ("lines delivered", data["delivered"], SERIES[0]),
        ("lines readable", data["readable"], SERIES[0]),
        ("source records", data["records"], SERIES[0]),
        ("customers", data["customers"], SERIES[0]),
        ("in several sources", data["in_several_sources"], SERIES[0]),
    ]
    return _labelled_bars(steps, 34, "Counts from delivered lines to customers")


def score_histogram(data: dict) -> str:
    """Pairs by confidence, stacked by decision, with the two thresholds."""
    if not data["scores"]:
        return _nothing("No pair has been compared yet.")
    counts = {decision: [0] * 20 for decision in DECISIONS}
    for decision, score_from, pairs in data["scores"]:
        counts[decision][score_from // 5] += pairs
    top_count = max(map(sum, zip(*counts.values(), strict=True)))
    left, right, top, bottom = 36, WIDTH - 8, 22, 176
    # From a little below 1, so that one pair is seen, to some room above the highest bar.
    low, high = math.log10(0.8), math.log10(top_count * 6)

    def x(score: float) -> float:
        return left + score / 100 * (right - left)

    def y(count: float) -> float:
        return bottom - (math.log10(max(count, 0.8)) - low) / (high - low) * (bottom - top)

    drawing = Drawing(206)
    drawing.legend(
        [(f"{_words(decision)} ({sum(found):,})", DECISIONS[decision]) for decision, found in counts.items()],
        top=2,
        columns=3,
    )
    for power in range(math.floor(high) + 1):
        drawing.line([(left, y(10**power)), (right, y(10**power))], LINE)
        drawing.words(left - 4, y(10**power), _short(10**power), "end", MUTED)
    for score in range(0, 101, 20):
        drawing.line([(x(score), top), (x(score), bottom)], LINE)
        drawing.words(x(score), bottom + 9, str(score), "middle", MUTED)
    for place in range(20):
        floor = 0
        for decision, colour in DECISIONS.items():
            ceiling = floor + counts[decision][place]
            if ceiling > floor:
                drawing.bar(x(place * 5 + 0.25), y(ceiling), x(4.5) - left, y(floor) - y(ceiling), colour)
            floor = ceiling
    for name in ("flag_review", "auto_merge"):
        at = (data["model"] or {}).get(name)
        if at is not None:
            drawing.line([(x(at * 100), top), (x(at * 100), bottom)], INK, 1, ' stroke-dasharray="3 2"')
            drawing.words(x(at * 100) - 3, y(top_count * 1.9), f"{at * 100:g}", "end", size=SMALL)
    drawing.words((left + right) / 2, bottom + 23, "total_confidence_score", "middle", MUTED)
    return drawing.svg("Histogram of confidence scores by decision")


def model_weights(data: dict) -> str:
    """One row per attribute: the match weight (log2 m/u) of each comparison level."""
    model = data["model"]
    if not model:
        return _nothing("No model yet.")
    names = [_words(name) for name in model["names"]]
    rows = [
        [math.log2(level["m"] / level["u"]) for level in comparison] for comparison in model["comparisons"]
    ]
    low, high = min(0, *map(min, rows)), max(0, *map(max, rows))
    room = 0.14 * (high - low)
    low, high = low - room, high + room
    left, right, bottom = 8 + max(map(words_width, names)), WIDTH - 8, 4 + 26 * len(rows)

    def x(weight: float) -> float:
        return left + (weight - low) / (high - low) * (right - left)

    drawing = Drawing(bottom + 34)
    for weight in ticks(low, high):
        colour, width = (LINE, 0.6) if weight else (MUTED, 0.8)
        drawing.line([(x(weight), 2), (x(weight), bottom)], colour, width)
        drawing.words(x(weight), bottom + 9, f"{weight:g}", "middle", MUTED)
    for row, (name, weights, is_trained) in enumerate(zip(names, rows, _trained(model), strict=True)):
        y = 4 + 26 * (row + 0.5)
        drawing.words(left - 6, y, name, "end", INK if is_trained else MUTED)
        drawing.line([(x(min(weights)), y), (x(max(weights)), y)], LINE, 3, ' stroke-linecap="round"')
        for weight in weights:
            drawing.dot(x(weight), y, 3, (GOOD if weight > 0 else BAD) if is_trained else MUTED)
        drawing.words(x(max(weights)) + 6, y, f"{max(weights):+.1f}", size=SMALL)
        drawing.words(x(min(weights)) - 6, y, f"{min(weights):+.1f}", "end", size=SMALL)
    drawing.words(
        (left + right) / 2,
        bottom + 24,
        "evidence for the same person: log2(m / u) of each level",
        "middle",
        MUTED,
    )
    return drawing.svg("Match weights of the comparison levels per attribute")


def cluster_sizes(data: dict) -> str:
    """Customers by number of records."""
    counts = dict.fromkeys(SIZES, 0) | {
        subject: value for metric, subject, value, _ in data["metrics"] if metric == "customers_of_size"
    }
    # A logarithm that is 0 for none: linear up to 1.
    heights = {size: math.log10(count) + 1 if count >= 1 else count for size, count in counts.items()}
    most = max([*heights.values(), 1]) + math.log10(4)
    bottom, width = 162, (WIDTH - 16) / len(SIZES)
    drawing = Drawing(182)
    for place, size in enumerate(SIZES):
        middle, height = 8 + width * (place + 0.5), heights[size] / most * (bottom - 4)
        if height:
            drawing.bar(middle - 0.35 * width, bottom - height, 0.7 * width, height, SERIES[0])
            drawing.words(middle, bottom - height - 7, _short(counts[size]), "middle", size=SMALL)
        drawing.words(middle, bottom + 11, size.replace(" or more", "+"), "middle", MUTED)
    drawing.line([(8, bottom), (WIDTH - 8, bottom)], LINE, 0.8)
    return drawing.svg("Customers by number of records")


def completeness(data: dict) -> str:
    """A table of bars: sources across, attributes down."""
    shares = {(cell["source"], cell["attribute"]): cell["completeness"] for cell in data["quality"] or []}
    if not shares:
        return _nothing("No records yet.")
    sources = sorted({source for source, _ in shares})
    attributes = list(dict.fromkeys(attribute for _, attribute in shares))
    names = [_words(attribute) for attribute in attributes]
    left = 8 + min(max(map(words_width, names)), WIDTH / 3)
    width = (WIDTH - 8 - left) / len(sources)
    drawing = Drawing(22 + 25 * len(attributes))
    for column, source in enumerate(sources):
        most = max(3, int(width / words_width("n")))
        drawing.words(left + width * (column + 0.5), 9, _cut(source, min(most, 16)), "middle")
    for row, attribute in enumerate(attributes):
        y = 20 + 25 * (row + 0.5)
        drawing.words(left - 6, y, names[row], "end")
        for column, source in enumerate(sources):
            share, x = shares.get((source, attribute)), left + width * column
            if share is None:
                drawing.words(x + width / 2, y, "–", "middle", MUTED)
                continue
            drawing.bar(x + 0.02 * width, y - 10, 0.96 * width * share, 20, SERIES[0], 0.35)
            drawing.words(x + width / 2, y, f"{share:.0%}", "middle")
    return drawing.svg("Completeness of each attribute by source")


def conflicts(data: dict) -> str:
    """Conflicts by kind."""
    found = sorted(
        ((value, subject) for metric, subject, value, _ in data["metrics"] if metric == "conflicts"),
        reverse=True,
    )
    if not found:
        return _nothing("No source contradicts another.")
    bars = [
        (_words(subject), count, BAD if subject.startswith("different") else WAIT) for count, subject in found
    ]
    return _labelled_bars(bars, 36, "Conflicts by kind")


def trend(data: dict, metric: str) -> str:
    """The lines of one metric over the runs."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for run_id, name, subject, value in data["trends"] or []:
        if name == metric:
            lines.setdefault(subject, []).append((run_id, value))
    if not lines:
        return _nothing("Not measured yet.")
    # The eight with the highest last values; more would not be told apart.
    shown = sorted(lines, key=lambda subject: -lines[subject][-1][1])[: len(SERIES)]
    runs = [run_id for subject in shown for run_id, _ in lines[subject]]
    first, last = min(runs), max(runs)
    high = 1.15 * max(value for subject in shown for _, value in lines[subject]) or 1
    values = ticks(0, high)
    said = [_short(value) if metric == "customers" else f"{value * 100:.3g}%" for value in values]
    left, right, top, bottom = 10 + max(map(words_width, said)), WIDTH - 12, 6, 130

    def x(run_id: float) -> float:
        return left + (0.04 + 0.92 * (run_id - first) / (last - first) if last > first else 0.5) * (
            right - left
        )

    def y(value: float) -> float:
        return bottom - value / high * (bottom - top)

    names = [_cut(subject, 30) for subject in shown]
    columns = 3 if len(shown) % 3 == 0 and max(map(len, names)) < 14 else 2
    rows = math.ceil(len(shown) / columns) if len(shown) > 1 else 0
    drawing = Drawing(bottom + 32 + 13 * rows)
    for value, text in zip(values, said, strict=True):
        drawing.line([(left, y(value)), (right, y(value))], LINE)
        drawing.words(left - 4, y(value), text, "end", MUTED)
    for run_id in ticks(first, last, 8, whole=True) if last > first else [first]:
        drawing.line([(x(run_id), top), (x(run_id), bottom)], LINE)
        drawing.words(x(run_id), bottom + 9, str(run_id), "middle", MUTED)
    drawing.words((left + right) / 2, bottom + 22, "run", "middle", MUTED)
    for subject, colour in zip(shown, SERIES, strict=False):
        points = [(x(run_id), y(value)) for run_id, value in lines[subject]]
        drawing.line(points, colour, 1.8, ' stroke-linejoin="round"')
        for point in points:
            drawing.dot(*point, 1.8, colour)
    if rows:
        drawing.legend(list(zip(names, SERIES, strict=False)), bottom + 30, columns, is_line=True)
    left_out = len(lines) - len(shown)
    more = f'<p class="note">and {left_out} lower ones, in gold.run_metrics</p>' if left_out else ""
    return drawing.svg(f"{_words(metric)} over runs") + more


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
    capped = data["review_capped"] or []
    counts = ", ".join(
        f"{count:,.0f}{'+' if kind in capped else ''} {escape(_words(kind))}"
        for metric, kind, count, _ in data["metrics"]
        if metric == "review_queue"
    )
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
    return f'<p class="note">{counts}</p><ul class="queue">{"".join(rows)}</ul>'


# -- words -------------------------------------------------------------------------------------------------


def _labelled_bars(bars: list[tuple[str, float, str]], row: float, description: str) -> str:
    """Horizontal bars (name, count, colour), each with its name and its count; the first on top."""
    left = 8 + max(words_width(name) for name, _, _ in bars)
    longest = max([count for _, count, _ in bars] + [1])
    # Room for the largest count at the end of its bar.
    room = WIDTH - left - 10 - words_width(f"{int(longest):,}")
    drawing = Drawing(row * len(bars) + 8)
    for place, (name, count, colour) in enumerate(bars):
        y, width = 4 + row * (place + 0.5), count / longest * room
        drawing.words(left - 6, y, name, "end")
        drawing.bar(left, y - 0.31 * row, width, 0.62 * row, colour)
        drawing.words(left + width + 5, y, f"{int(count):,}")
    drawing.line([(left, 4), (left, 4 + row * len(bars))], LINE, 0.8)
    return drawing.svg(description)


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
    if not any(trained := _trained(model)):
        return f"model {model['version']}, as written in matching/model.toml"
    rest = "" if all(trained) else "; grey: as written, not trained"
    return f"model {model['version']}, trained on the data{rest}"


def _trained(model: dict) -> list[bool]:
    """Which comparisons are trained: of one person at least one pair was seen, with the attribute on both sides."""
    return [model["method"] == "em" and support >= 1 for support in model["support"]]


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
