"""Draw the pictures of docs/benchmarks.md, and write its tables, from the recorded rows.

    python scripts/plot_benchmarks.py

Of rows that were recorded more than once under the same conditions, the last counts. The tables
stand between the page's markers `<!-- rows -->` and `<!-- end of rows -->`.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- rows -->", "<!-- end of rows -->"
SAME = (
    *("system", "architecture", "lf_architecture", "r_max", "n_atoms", "complex_fraction"),
    *("engine", "interface", "device", "dtype", "threads", "processor", "allocator"),
)
ALLOCATORS = {"keep": "freed memory kept", "system": "as installed"}
STANDARD = {
    "architecture": "hf64",
    "system": "pt",
    "r_max": 5.0,
    "dtype": "float32",
    "interface": "model",
    "allocator": "keep",
}
LABELS = {"mixture": "mixture, 10 % complex", "full_hf": "full HF", "full_lf": "full LF"}

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """The last row of each set of conditions, in the order of the file."""
    with path.open() as stream:
        last = {tuple(row[name] for name in SAME): row for row in csv.DictReader(stream)}
    return list(last.values())


def chosen(rows: Iterable[Row], **conditions: object) -> list[Row]:
    """Rows in which every named column is the value, or one of the values, given."""

    def fits(row: Row, name: str, wanted: object) -> bool:
        values = wanted if isinstance(wanted, tuple) else (wanted,)
        return row[name] in {str(value) for value in values}

    return [row for row in rows if all(fits(row, *one) for one in conditions.items())]


def most_threads(rows: Sequence[Row]) -> str:
    """The largest number of threads in the rows."""
    return str(max(int(row["threads"]) for row in rows))


def condition(row: Row) -> str:
    """System, architecture, cutoff and precision in short."""
    short = {"float32": "", "float64": ", f64"}[row["dtype"]]
    return f"{row['architecture']} {row['system']} {float(row['r_max']):g} Å{short}"


def per_atom(row: Row) -> float:
    """Median time of a step over atoms, µs."""
    return 1000 * float(row["step_ms_median"]) / int(row["n_atoms"])


def draw_speedups(rows: Sequence[Row], path: Path) -> None:
    """Bars: full HF against nequip's best, condition by condition."""
    smallest = min(int(row["n_atoms"]) for row in rows if row["engine"].startswith("nequip"))
    near = [row for row in rows if int(row["n_atoms"]) <= 1.2 * smallest]
    bars = chosen(near, engine="full_hf", interface="model", threads=most_threads(rows))
    bars = [row for row in bars if row["speedup_vs_nequip_best"]]
    conditions = list(dict.fromkeys(condition(row) for row in bars))
    figure = Figure(figsize=(8, 0.55 * len(conditions) + 1.4), layout="constrained")
    axes = figure.subplots()
    colours = {"keep": "#4c72b0", "system": "#b0c4de"}
    for offset, (allocator, label) in zip((0.0, 0.36), ALLOCATORS.items(), strict=True):
        of_kind = chosen(bars, allocator=allocator)
        if not of_kind:
            continue
        places = [conditions.index(condition(row)) + offset for row in of_kind]
        values = [float(row["speedup_vs_nequip_best"]) for row in of_kind]
        drawn = axes.barh(places, values, height=0.36, color=colours[allocator], label=label)
        axes.bar_label(drawn, [f"{value:.1f}×" for value in values], padding=3)
    axes.set_yticks([place + 0.18 for place in range(len(conditions))], conditions)
    axes.invert_yaxis()
    axes.set_xlabel("speed-up of one expert over nequip's faster engine, same weights")
    axes.margins(x=0.12)
    axes.legend(title="memory allocator", loc="lower right")
    figure.savefig(path, dpi=150)


def draw_sizes(rows: Sequence[Row], path: Path) -> None:
    """Time per atom of each engine by the number of atoms."""
    standard = chosen(rows, **STANDARD)
    standard = chosen(standard, threads=most_threads(rows))
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for engine, label in LABELS.items():
        of_engine = [
            row
            for row in chosen(standard, engine=engine)
            if engine != "mixture" or abs(float(row["complex_fraction"]) - 0.1) < 0.005
        ]
        of_engine.sort(key=lambda row: int(row["n_atoms"]))
        sizes = [int(row["n_atoms"]) for row in of_engine]
        times = [per_atom(row) for row in of_engine]
        axes.loglog(sizes, times, "o-", label=label)
    nequip = chosen(standard, engine=("nequip_eager", "nequip_aoti"))
    for engine, marker in (("nequip_eager", "^"), ("nequip_aoti", "v")):
        points = chosen(nequip, engine=engine)
        if not points:
            continue
        sizes = [int(row["n_atoms"]) for row in points]
        times = [per_atom(row) for row in points]
        axes.loglog(sizes, times, marker, label=engine.replace("_", " ") + ", full HF")
    axes.set_xlabel("atoms")
    axes.set_ylabel("µs per atom and step")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=150)


def most_fractions(mixtures: Sequence[Row]) -> int:
    """The number of atoms with the most fractions, the larger of two with as many."""
    counts = [int(row["n_atoms"]) for row in mixtures]
    return max(set(counts), key=lambda n: (counts.count(n), n))


def draw_fractions(rows: Sequence[Row], path: Path) -> None:
    """Reached and ideal speed-up of the mixture over full HF by the share of complex atoms."""
    mixtures = chosen(rows, **STANDARD)
    mixtures = chosen(mixtures, engine="mixture", threads=most_threads(rows))
    size = most_fractions(mixtures)
    points = sorted(chosen(mixtures, n_atoms=size), key=lambda row: float(row["complex_fraction"]))
    fractions = [100 * float(row["complex_fraction"]) for row in points]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, style, label in (
        ("speedup_ideal", "k--", "ideal"),
        ("speedup_vs_full_hf", "o-", "reached"),
    ):
        axes.plot(fractions, [float(row[name]) for row in points], style, label=label)
    for row, fraction in zip(points, fractions, strict=True):
        share = f"{float(row['share_of_ideal']):.0%}"
        height = float(row["speedup_vs_full_hf"])
        axes.annotate(share, (fraction, height), xytext=(7, 7), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xticks(fractions, [f"{fraction:.3g}" for fraction in fractions])
    axes.minorticks_off()
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel(f"complex atoms, % of {size:,}")
    axes.set_ylabel("speed-up over full HF")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown(row: Row, name: str, form: str) -> str:
    """A number in this format, or nothing where it was not measured."""
    return format(float(row[name]), form) if row[name] else ""


def tables(rows: Sequence[Row]) -> str:
    """What the page says, out of the rows."""
    last = rows[-1]
    where = ", ".join(
        f"{name} {last[name]}" for name in ("torch", "numba", "nequip", "nequip-allegro", "python")
    )
    commits = ", ".join(dict.fromkeys(row["commit"] for row in rows))
    lines = [
        [
            f"{row['architecture']}",
            row["system"],
            f"{float(row['r_max']):g}",
            row["dtype"],
            row["threads"],
            row["allocator"],
            f"{int(row['n_atoms']):,}",
            shown(row, "complex_fraction", ".3f"),
            row["engine"],
            row["interface"],
            shown(row, "step_ms_median", ".3f"),
            shown(row, "step_ms_min", ".3f"),
            shown(row, "cpu_ms_min", ".3f"),
            shown(row, "us_per_edge", ".3f"),
            f"{per_atom(row):.2f}",
            shown(row, "neighbor_list_ms", ".2f"),
            shown(row, "speedup_vs_nequip_best", ".1f"),
            shown(row, "share_of_ideal", ".1%"),
            shown(row, "memory_bytes_per_atom", ",.0f"),
            shown(row, "force_error", ".0e"),
        ]
        for row in rows
    ]
    columns = [
        *("HF", "system", "r_max Å", "dtype", "threads", "malloc", "atoms", "complex", "engine"),
        *("through", "step ms", "min ms", "cpu ms", "µs/edge", "µs/atom", "list ms", "× nequip"),
        *("of ideal", "B/atom", "ΔF/F"),
    ]
    machine = f"{last['processor']}, {last['cores']} cores; {where}; commit {commits}; "
    return f"{machine}{last['date'][:10]}.\n\n{markdown(columns, lines)}"


def headlines(rows: Sequence[Row]) -> str:
    """The rows' answers to what the page is read for, as a list."""
    lines = []
    widest = chosen(rows, threads=most_threads(rows), interface="model")
    standard = chosen(widest, **STANDARD)
    for allocator, label in ALLOCATORS.items():
        compared = chosen(widest, allocator=allocator, engine="full_hf")
        compared = [row for row in compared if row["nequip_n_atoms"] == row["n_atoms"]]
        for kind in dict.fromkeys(row["architecture"][:2] for row in compared):
            single = chosen(compared, dtype="float32")
            of_kind = [row for row in single if row["architecture"].startswith(kind)]
            values = sorted(float(row["speedup_vs_nequip_best"]) for row in of_kind)
            if values:
                span = " to ".join(dict.fromkeys(f"{v:.1f}" for v in (values[0], values[-1])))
                lines.append(
                    f"{kind.upper()} alone, float32, over nequip's faster engine, {label}: "
                    f"{span} times (conditions: {len(values)})"
                )
    mixtures = chosen(standard, engine="mixture")
    largest = chosen(mixtures, n_atoms=most_fractions(mixtures))
    for row in sorted(largest, key=lambda row: float(row["complex_fraction"])):
        if row["speedup_vs_nequip_best"]:
            lines.append(
                f"mixture of {int(row['n_atoms']):,} atoms, "
                f"{100 * float(row['complex_fraction']):.0f} % complex: "
                f"{float(row['share_of_ideal']):.0%} of the ideal speed-up over full HF, "
                f"{float(row['speedup_vs_nequip_best']):.0f} times nequip's best full HF"
            )
    for engine, label in LABELS.items():
        sizes = [row for row in chosen(standard, engine=engine) if int(row["n_atoms"]) >= 1000]
        if engine == "mixture":
            sizes = [row for row in sizes if abs(float(row["complex_fraction"]) - 0.1) < 0.005]
        if len(sizes) > 1:
            times = {int(row["n_atoms"]): per_atom(row) for row in sizes}
            spread = max(times.values()) / min(times.values()) - 1.0
            lines.append(
                f"{label}, {min(times):,} to {max(times):,} atoms: {min(times.values()):.2f} to "
                f"{max(times.values()):.2f} µs per atom, a spread of {spread:.0%}"
            )
        for row in sizes:
            if row["memory_bytes_per_atom"]:
                memory = float(row["memory_bytes_per_atom"]) / 1000.0
                lines.append(
                    f"{label}, {int(row['n_atoms']):,} atoms: {memory:.2f} kB of memory per atom"
                )
    return "\n".join(f"- {line}" for line in lines)


def pictures(images: Path, page: Path) -> str:
    """Links from the page to the pictures that are there, profile included."""
    titles = {
        "speedup_vs_nequip.png": "Speed-up of one expert over nequip's faster engine",
        "mixture_speedup.png": "Speed-up of the mixture over full HF by the share of complex atoms",
        "time_per_atom.png": "Time per atom by the number of atoms",
        "profile.png": "Time of each stage, by region",
    }
    folder = Path(os.path.relpath(images, page.parent)).as_posix()
    found = [
        f"![{title}]({folder}/{name})"
        for name, title in titles.items()
        if (images / name).is_file()
    ]
    return "\n\n".join(found)


def write_page(page: Path, text: str) -> None:
    """Replace what stands between the page's markers.

    Raises:
        ValueError: the markers are not there.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page}: no {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, default=ROOT / "bench" / "results" / "cpu.csv")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    args = parser.parse_args()
    rows = read_rows(args.rows)
    args.images.mkdir(parents=True, exist_ok=True)
    draw_speedups(rows, args.images / "speedup_vs_nequip.png")
    draw_sizes(rows, args.images / "time_per_atom.png")
    draw_fractions(rows, args.images / "mixture_speedup.png")
    parts = (headlines(rows), pictures(args.images, args.page), tables(rows))
    write_page(args.page, "\n\n".join(parts))


if __name__ == "__main__":
    main()
