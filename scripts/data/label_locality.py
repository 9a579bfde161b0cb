"""How far the labels' forces reach beyond what an expert sees, and what that leaves of HF's error.

    python scripts/data/label_locality.py --rows bench/results/label_locality.csv \
        --plot docs/images/label_locality.png
    python scripts/data/label_locality.py --rows ROWS --plot PNG --draw

On test frames of examples/ptco; some twelve minutes for CHGNet on one core. `--draw` draws again
what the rows hold. What it means is in docs/cotraining.md.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ptco.calculators import load_calculator
from ptco.locality import Array, Surroundings, force_scatter, local_forces, squared_error

from duetto import DuettoCalculator, ExpertPair
from duetto.errors import InputError, RunStopped
from duetto.files import atomic_write
from duetto.measure.bench.rows import provenance
from duetto.report.style import HF, LF, MIXTURE, MUTED, draw_png

EXAMPLE = Path(__file__).parents[2] / "examples" / "ptco"
FRAMES = EXAMPLE / "data" / "ptco_chgnet_test.extxyz.gz"

MOLECULE, NEAR, FAR, BULK = "C and O", "Pt within 5 Å of C or O", "Pt farther away", "Pt in bulk"
KINDS = {MOLECULE: HF, NEAR: MIXTURE, BULK: LF}
NEAR_A = 5.0

SCATTER, LOCAL = "scatter", "local energies"
RADII_A = (3.0, 4.0, 5.5, 7.0, 9.0, 11.0)
LOCAL_RADII_A = (5.5,)
"""What a centre of the shipped HF sees. A force sees twice as far, through the centres between."""

PLATINUM = 78
SHAKEN = 8
"""Frames that are made of one."""

BULK_FAMILY = "bulk_md"
WIDTH_A, LOCAL_WIDTH_A, BULK_WIDTH_A = 22.0, 14.0, 15.0
BULK_RADII_A = RADII_A[:4]
"""Bulk is repeated in three directions, to 256 atoms that have few neighbours beyond 9 Å."""


BESIDE_A = 0.2
"""Between the marks of two kinds in the picture, which have the same radius."""


@dataclass(frozen=True)
class Sample:
    """What one atom of one frame says; squares of a force component, (eV/Å)²."""

    measure: str
    radius_A: float
    kind: str
    frame: str
    square: float
    hf_square: float
    force_square: float


@dataclass(frozen=True)
class Frame:
    """A test frame, the others of its run, and the errors of HF in it."""

    run: list[Atoms]
    number: int
    hf_squares: Array

    @property
    def atoms(self) -> Atoms:
        """With its labels."""
        return self.run[self.number]

    @property
    def family(self) -> str:
        """Its sort."""
        return str(self.atoms.info["config_type"])

    def surroundings(self, width: float) -> Surroundings:
        """Repeated, a slab in its plane alone."""
        axes = (0, 1, 2) if self.family == BULK_FAMILY else (0, 1)
        return Surroundings.of(self.run, self.number, width, axes)

    def sample(self, measure: str, radius: float, kind: str, atom: int, square: float) -> Sample:
        """Of one atom, of the frame or of a copy."""
        own = atom % len(self.atoms)
        force_square = float((self.atoms.get_forces()[own] ** 2).mean())
        name = f"{self.atoms.info['trajectory']} {self.number}"
        hf_square = float(self.hf_squares[own])
        return Sample(measure, radius, kind, name, float(square), hf_square, force_square)


class Labels:
    """The labels' calculator as a sum over centres."""

    def __init__(self, name: str) -> None:
        self.calculator: Any = load_calculator(name)
        if not hasattr(self.calculator, "site_gradient"):
            raise InputError(f"--calculator {name!r}: it has no energies of centres")

    def forces(self, atoms: Atoms) -> Array:
        """(A, 3) eV/Å."""
        self.calculator.calculate(atoms)
        return np.asarray(self.calculator.results["forces"])

    def site_gradient(self, atoms: Atoms, centre: int) -> Array:
        """(A, 3) eV/Å."""
        return np.asarray(self.calculator.site_gradient(atoms, centre))


def main() -> int:
    """Measure, write and draw; return the exit code."""
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    return rows_and_picture(parser, measure, draw, size=(5.6, 3.4))


def parser_of(doc: str) -> argparse.ArgumentParser:
    """The options of a script that measures labels, keeps rows and draws them."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--calculator", default="chgnet", help="chgnet or module:Class")
    parser.add_argument("--pair", type=Path, default=EXAMPLE / "ptco.duetto")
    parser.add_argument("--rows", type=Path, required=True, metavar="CSV")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--draw", action="store_true", help="what the rows hold, and no more")
    return parser


def rows_and_picture(
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], None],
    draw: Callable[[Figure, Sequence[dict[str, str]]], None],
    size: tuple[float, float],
) -> int:
    """Measure unless it is there, draw if asked to; return the exit code.

    Args:
        parser: that of `parser_of`.
        measure: writes the rows.
        draw: the figure of the rows.
        size: of the picture, inches.
    """
    args = parser.parse_args()
    try:
        if not args.draw:
            measure(args)
        rows = list(csv.DictReader(io.StringIO(args.rows.read_text(encoding="utf-8"))))
    except (InputError, RunStopped, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    if args.plot:
        width, height = size
        atomic_write(args.plot, draw_png(lambda f: draw(f, rows), width=width, height=height))
    return 0


def measure(args: argparse.Namespace) -> None:
    """Write a row for each measure, kind of atoms and radius; again after every frame."""
    labels, rng = Labels(args.calculator), np.random.default_rng(args.seed)
    pair = ExpertPair.load(args.pair)
    origin = {"pair_hash": pair.content_hash[:12], "seed": args.seed} | provenance()
    frames = chosen(read_frames(FRAMES), pair, rng)
    samples: list[Sample] = []
    for k, frame in enumerate(frames):
        samples += scatter(labels, frame, rng)
        if frame.family not in {other.family for other in frames[:k]}:
            samples += local_energies(labels, frame, rng)
        atomic_write(args.rows, as_csv([row | origin for row in rows_of(samples)]))
        print(f"{k + 1}/{len(frames)} {samples[-1].frame}", file=sys.stderr, flush=True)


def read_frames(path: Path) -> list[Atoms]:
    """Unpacked first: ASE seeks back for every frame."""
    text = gzip.decompress(path.read_bytes()).decode()
    return list(ase.io.read(io.StringIO(text), index=":", format="extxyz"))


def chosen(frames: Sequence[Atoms], pair: ExpertPair, rng: np.random.Generator) -> list[Frame]:
    """A frame of each of the two smallest runs of every family with CO, and three of bulk.

    Frames that have no other of the same atoms in their run get others of random displacements,
    as large as between two frames of the runs that have.
    """
    families: dict[str, list[list[Atoms]]] = {}
    for run in sorted(runs_of(frames), key=lambda run: len(run[0])):
        families.setdefault(run[0].info["config_type"], []).append(run)
    found = [
        (run, int(rng.integers(len(run))))
        for family, of_family in families.items()
        if family.startswith("co_")
        for run in of_family[:2]
    ]
    step = typical_step([run for run, _ in found if len(run) > 1])
    found = [(run if len(run) > 1 else shaken(run[0], step, rng), k) for run, k in found]
    found += [(families[BULK_FAMILY][0], k) for k in range(3)]
    return [Frame(run, k, hf_squares(pair, run[k])) for run, k in found]


def runs_of(frames: Sequence[Atoms]) -> list[list[Atoms]]:
    """Frames of the same atoms of one trajectory."""
    runs: dict[tuple[str, str, bytes], list[Atoms]] = {}
    for frame in frames:
        key = (frame.info["trajectory"], str(frame.symbols), frame.cell.array.tobytes())
        runs.setdefault(key, []).append(frame)
    return list(runs.values())


def typical_step(runs: Sequence[Sequence[Atoms]]) -> float:
    """Root mean square component of platinum's displacements between frames of a run, Å."""
    squares = []
    for run in runs:
        around = Surroundings.of(run, 0, width=0.0)
        squares.append((around.moves[:, around.atoms.numbers == PLATINUM] ** 2).mean())
    return float(np.sqrt(np.mean(squares)))


def shaken(frame: Atoms, step: float, rng: np.random.Generator) -> list[Atoms]:
    """The frame and others, each atom displaced at random, each molecule as a whole."""
    leader = Surroundings.of([frame, frame], 0, width=0.0).leader
    others = [frame.copy() for _ in range(SHAKEN)]
    for other in others:
        other.positions += rng.normal(0.0, step, other.positions.shape)[leader]
    return [frame, *others]


def hf_squares(pair: ExpertPair, frame: Atoms) -> Array:
    """(n,) squared errors of HF's forces, mean of the components."""
    atoms = frame.copy()
    atoms.calc = DuettoCalculator(pair, device="cpu", self_check=False)
    return np.asarray(((atoms.get_forces() - frame.get_forces()) ** 2).mean(axis=1))


def scatter(labels: Labels, frame: Frame, rng: np.random.Generator) -> Iterator[Sample]:
    """Of one molecule and a platinum atom near it, or of two atoms in bulk."""
    bulk = frame.family == BULK_FAMILY
    around = frame.surroundings(BULK_WIDTH_A if bulk else WIDTH_A)
    radii = BULK_RADII_A if bulk else RADII_A
    for kind, targets in (bulk_targets if bulk else targets_with_co)(around, rng):
        for radius, squares in zip(
            radii, force_scatter(labels, around, targets, radii, rng), strict=True
        ):
            for atom, square in zip(targets, squares, strict=True):
                yield frame.sample(SCATTER, radius, kind, atom, square)


def bulk_targets(around: Surroundings, rng: np.random.Generator) -> list[tuple[str, list[int]]]:
    """Two atoms, one by one."""
    return [(BULK, [int(k)]) for k in rng.choice(around.n_frame, size=2, replace=False)]


def targets_with_co(around: Surroundings, rng: np.random.Generator) -> list[tuple[str, list[int]]]:
    """Carbon and oxygen of one molecule together, and one platinum atom near it."""
    symbols = np.array(around.atoms.get_chemical_symbols())
    carbon = int(rng.choice(np.flatnonzero(symbols[: around.n_frame] == "C")))
    molecule = np.flatnonzero(around.leader == carbon)
    near = around.within(NEAR_A, list(molecule)) & (symbols == "Pt")
    platinum = int(rng.choice(np.flatnonzero(near)))
    return [(MOLECULE, [int(k) for k in molecule]), (NEAR, [platinum])]


def local_energies(labels: Labels, frame: Frame, rng: np.random.Generator) -> Iterator[Sample]:
    """Of every atom of the frame."""
    bulk = frame.family == BULK_FAMILY
    around = frame.surroundings(BULK_WIDTH_A if bulk else LOCAL_WIDTH_A)
    kinds = kinds_of(around, bulk)
    for radius in LOCAL_RADII_A:
        first, second = (local_forces(labels, around, radius, rng) for _ in range(2))
        squares = squared_error(first, second, frame.atoms.get_forces())
        for atom, (kind, square) in enumerate(zip(kinds, squares, strict=True)):
            yield frame.sample(LOCAL, radius, kind, atom, square)


def kinds_of(around: Surroundings, bulk: bool) -> list[str]:
    """Of each atom of the frame."""
    if bulk:
        return [BULK] * around.n_frame
    adsorbed = np.flatnonzero(around.atoms.numbers != PLATINUM)
    near = around.within(NEAR_A, list(adsorbed))
    inside = np.isin(np.arange(len(near)), adsorbed)
    names = np.where(inside, MOLECULE, np.where(near, NEAR, FAR))
    return [str(name) for name in names[: around.n_frame]]


def rows_of(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Root mean squares of a component, meV/Å, by measure, kind and radius, in order."""
    groups: dict[tuple[str, str, float], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.measure, sample.kind, sample.radius_A), []).append(sample)
    rows = []
    for (name, kind, radius), group in sorted(groups.items()):
        value, error = root_mean_square(group)
        rows.append(
            {
                "measure": name,
                "atoms": kind,
                "radius_angstrom": radius,
                "value_mev_per_angstrom": round(value, 2),
                "standard_error_mev_per_angstrom": round(error, 2),
                "hf_error_mev_per_angstrom": round(root_of([s.hf_square for s in group]), 2),
                "force_rms_mev_per_angstrom": round(root_of([s.force_square for s in group]), 1),
                "number": len(group),
                "frames": len({sample.frame for sample in group}),
            }
        )
    return rows


def root_mean_square(group: Sequence[Sample]) -> tuple[float, float]:
    """Root mean square and its standard error, by the frames as independent samples, meV/Å."""
    names = sorted({sample.frame for sample in group})
    squares = [np.mean([s.square for s in group if s.frame == name]) for name in names]
    value = root_of([sample.square for sample in group])
    if len(names) < 2 or value == 0.0:
        return value, float("nan") if len(names) < 2 else 0.0
    spread = 1e6 * float(np.std(squares, ddof=1)) / len(names) ** 0.5
    return value, spread / (2 * value)


def root_of(squares: Sequence[float]) -> float:
    """Root of the mean of (eV/Å)², meV/Å.

    A mean of products of two draws may be negative where there is nothing to see.
    """
    return 1e3 * float(np.sqrt(max(np.mean(squares), 0.0)))


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def draw(figure: Figure, rows: Sequence[dict[str, str]]) -> None:
    """What lies beyond a radius, and beside it what HF is off by."""
    axes: Axes = figure.subplots()
    for place, (kind, colour) in enumerate(KINDS.items()):
        found = [row for row in rows if row["atoms"] == kind]
        curve = sorted(
            [row for row in found if row["measure"] == SCATTER],
            key=lambda row: float(row["radius_angstrom"]),
        )
        axes.errorbar(
            [float(row["radius_angstrom"]) for row in curve],
            [float(row["value_mev_per_angstrom"]) for row in curve],
            [float(row["standard_error_mev_per_angstrom"]) for row in curve],
            color=colour, marker="o", markersize=3.5, linewidth=1.5, label=kind,
        )  # fmt: skip
        for row in found:
            if row["measure"] == LOCAL:
                radius = float(row["radius_angstrom"]) + BESIDE_A * (place - 1)
                value = float(row["value_mev_per_angstrom"])
                axes.plot(radius, value, marker="D", markersize=6, color=colour, mfc="none")
                off = float(row["hf_error_mev_per_angstrom"])
                axes.plot(radius, off, marker="x", markersize=6, color=colour)
    axes.plot([], [], "D", color=MUTED, mfc="none", label="labels' energies cut at 5.5 Å")
    axes.plot([], [], "x", color=MUTED, label="HF of the shipped pair")
    axes.set(yscale="log", xlabel="radius, Å", ylabel="force component, meV/Å")
    axes.grid(axis="y")
    axes.legend(fontsize=8)


if __name__ == "__main__":
    sys.exit(main())
