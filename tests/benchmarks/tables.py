"""What was measured, as Markdown tables that also read well in a terminal."""

from measured_steps import Step

MB = 1_000_000


def markdown(header: list[str], rows: list[list[object]], left: int = 1) -> str:
    """A table; the first `left` columns are aligned left, the others right."""
    cells = [header, *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: list[str]) -> str:
        padded = (
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])])


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def phases_table(steps: list[Step], records: int | None) -> str:
    """A row per step, then the sums: of phases 2 to 10, and of the whole command."""
    phases = [step for step in steps if step.name not in ("start", "end")]
    rows = [_phase_row(step) for step in steps]
    rows.append(_sum_row("2-10", f"all phases{f', {records:,} records' if records else ''}", phases, records))
    rows.append(_sum_row("", "the whole command", steps, None))
    return markdown(
        [
            "phase",
            "what it does",
            "seconds",
            "of it start-up",
            "cpu Python",
            "cpu PostgreSQL",
            "rows in",
            "rows out",
            "rows/s",
            "MB Python",
            "MB PostgreSQL",
            "MB WAL",
            "MB written",
        ],
        rows,
        left=2,
    )


def _phase_row(step: Step) -> list[object]:
    return [
        step.name,
        step.title[:46],
        f"{step.seconds:.2f}",
        start_up(step),
        f"{step.client_cpu_seconds:.2f}",
        f"{step.server_cpu_seconds:.2f}",
        step.rows_in,
        step.rows_out,
        round(step.rows_in / step.seconds) if step.seconds else None,
        round(step.client_memory / MB),
        round(step.server_memory / MB),
        round(step.wal_bytes / MB),
        round((step.client_written_bytes + step.server_written_bytes) / MB),
    ]


def start_up(step: Step) -> str | None:
    """Seconds of a step outside its scripts' own count: interpreter, imports, exit."""
    return None if step.scripts_seconds is None else f"{max(step.seconds - step.scripts_seconds, 0):.2f}"


def _sum_row(name: str, title: str, steps: list[Step], records: int | None) -> list[object]:
    seconds = sum(step.seconds for step in steps)
    return [
        name,
        title,
        f"{seconds:.2f}",
        f"{sum(float(start_up(step) or 0) for step in steps):.2f}",
        f"{sum(step.client_cpu_seconds for step in steps):.2f}",
        f"{sum(step.server_cpu_seconds for step in steps):.2f}",
        records,
        None,
        round(records / seconds) if records else None,
        round(max(step.client_memory for step in steps) / MB),
        round(max(step.server_memory for step in steps) / MB),
        round(sum(step.wal_bytes for step in steps) / MB),
        round(sum(step.client_written_bytes + step.server_written_bytes for step in steps) / MB),
    ]


def imports_table(steps: list[Step]) -> str:
    """Per step: Python starts, seconds of imports as `python -X importtime` counts them, dearest packages."""
    rows = []
    for step in steps:
        dearest = sorted(step.imports.items(), key=lambda item: -item[1])[:6]
        rows.append(
            [
                step.name,
                ", ".join(f"{package} {seconds:.2f}" for package, seconds in dearest),
                step.python_starts,
                f"{step.import_seconds:.2f}",
            ]
        )
    return markdown(["phase", "dearest packages (s)", "Python starts", "imports (s)"], rows, left=2)


def statements_table(steps: list[Step]) -> str:
    """Per step, the statements that took longest."""
    rows = [
        [
            step.name,
            statement["query"][:110].replace("|", "\\|"),
            f"{statement['seconds']:.2f}",
            statement["calls"],
            statement["rows"],
            round(statement["wal_bytes"] / MB),
            round(statement["temporary_bytes"] / MB),
        ]
        for step in steps
        for statement in step.statements
        if statement["seconds"] >= 0.05
    ]
    return markdown(
        ["phase", "statement", "seconds", "calls", "rows", "MB WAL", "MB temporary"], rows, left=2
    )


def size_table(tables: list[dict], database_bytes: int) -> str:
    """Per table of any size: rows, and megabytes of rows, indexes, TOAST; then the rest and the whole."""
    large = [table for table in tables if table["total_bytes"] >= 0.005 * database_bytes]
    kinds = ("heap_bytes", "index_bytes", "toast_bytes", "total_bytes")
    rows = [
        [table["table_name"], table["row_count"], *(round(table[kind] / MB) for kind in kinds)]
        for table in large
    ]
    small = [table for table in tables if table not in large]
    rows.append(["other tables", None, *(round(sum(table[kind] for table in small) / MB) for kind in kinds)])
    catalogs = database_bytes - sum(table["total_bytes"] for table in tables)
    rows.append(["system catalogs", None, None, None, None, round(catalogs / MB)])
    rows.append(
        [
            "the database",
            None,
            *(round(sum(table[kind] for table in tables) / MB) for kind in kinds[:3]),
            round(database_bytes / MB),
        ]
    )
    return markdown(["table", "rows", "MB heap", "MB indexes", "MB TOAST", "MB"], rows)


def accuracy_table(scores: list[dict]) -> str:
    """A row per data set."""
    return markdown(
        [
            "data set",
            "records",
            "F1",
            "B3",
            "precision",
            "recall",
            "largest cluster",
            "truth's largest",
            "seconds",
        ],
        [
            [
                score["data"],
                score["records"],
                f"{score['f1']:.4f}",
                f"{score['b3_f1']:.4f}",
                f"{score['precision']:.4f}",
                f"{score['recall']:.4f}",
                score["largest_cluster"],
                score["true_largest_cluster"],
                f"{score['seconds']:.1f}",
            ]
            for score in scores
        ],
    )


def calibration_table(bins: list[dict]) -> str:
    """A row per bin of match probability."""
    return markdown(
        ["match probability", "pairs", "mean", "true pairs"],
        [[row["bin"], row["pairs"], f"{row['probability']:.4f}", f"{row['true_share']:.4f}"] for row in bins],
    )


def linking_table(linkings: list[dict], ours: list[Step]) -> str:
    """A row per linking, with the ratio of our steps' time to its time."""
    our_seconds = sum(step.seconds for step in ours)
    our_cpu = sum(step.client_cpu_seconds + step.server_cpu_seconds for step in ours)
    our_memory = max(step.client_memory + step.server_memory for step in ours)
    steps = ("load", "train", "predict", "cluster")
    rows: list[list[object]] = [
        [
            f"this project, phases {', '.join(step.name for step in ours)}",
            *([None] * (2 + len(steps))),
            round(our_memory / MB),
            f"{our_cpu:.2f}",
            f"{our_seconds:.2f}",
            "1.00",
        ]
    ]
    for linking in linkings:
        by_name = {step.name: step for step in linking["steps"]}
        rows.append(
            [
                linking["name"],
                linking["records"],
                linking["pairs"],
                *(f"{by_name[name].seconds:.2f}" for name in steps),
                round(max(step.client_memory for step in linking["steps"]) / MB),
                f"{sum(step.client_cpu_seconds for step in linking['steps']):.2f}",
                f"{linking['seconds']:.2f}",
                f"{our_seconds / linking['seconds']:.2f}",
            ]
        )
    header = ["linking", "records", "pairs", *steps, "MB", "cpu", "seconds", "ours / it"]
    return markdown(header, rows)
