r"""Which low-fidelity expert: what each size costs, and how closely it can follow a given HF.

    python scripts/sweep_lf.py outputs/ptco/independent/best.ckpt --epochs 8 \
        --rows bench/results/lf_sweep.csv --plot docs/images/lf_sweep.png

Every candidate is distilled from the same frozen HF under the configuration of
examples/ptco/cotrain.yaml, for as many epochs. Agreement is measured on held-out bulk frames, the
cost on rattled bulk platinum, the candidates in turns in one process. Candidates are written
scalar/tensor@cutoff: 32/16@4.5.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from duetto.conversion.pack import pack
from duetto.cotrain.train import train
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.measure.bench.systems import bulk_platinum
from duetto.measure.errors.frames import evaluated_frames
from duetto.measure.errors.tables import summarize
from duetto.measure.turns import time_in_turns
from duetto.potential.mixture import Potential
from duetto.report.style import LF, draw_png

DATA = Path(__file__).parents[1] / "examples" / "ptco" / "data"
CONFIG = Path(__file__).parents[1] / "examples" / "ptco" / "cotrain.yaml"
CANDIDATES = ("16/8@4.5", "32/16@4.5", "64/32@4.5", "32/16@4.0", "32/16@5.0")
_ATOMS, _ROUNDS = 2000, 9
_MARKERS = "osD^v<>p"
_KEY_OF_TEMPERATURE = {"300K": "300_K", "900K": "900_K"}


@dataclass(frozen=True)
class Candidate:
    """An LF expert of one layer and l_max 1.

    Attributes:
        scalar, tensor: numbers of features; the hidden layers are as wide as the scalars.
        cutoff: Å.
    """

    scalar: int
    tensor: int
    cutoff: float

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """From scalar/tensor@cutoff.

        Raises:
            argparse.ArgumentTypeError: it is written otherwise.
        """
        try:
            features, cutoff = text.split("@")
            scalar, tensor = features.split("/")
            return cls(int(scalar), int(tensor), float(cutoff))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text}: write it as 32/16@4.5") from None

    @property
    def name(self) -> str:
        """As on the command line."""
        return f"{self.scalar}/{self.tensor}@{self.cutoff:g}"

    def overrides(self) -> list[str]:
        """Changes to the configuration that make this LF."""
        lf = "training_module.model.lf"
        widths = ("scalar_embed_mlp", "allegro_mlp", "readout_mlp")
        return [
            f"lf_cutoff={self.cutoff}",
            f"{lf}.num_scalar_features={self.scalar}",
            f"{lf}.num_tensor_features={self.tensor}",
            *(f"{lf}.{part}_hidden_layers_width={self.scalar}" for part in widths),
        ]


def main() -> None:
    """Train, measure, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "teacher", nargs="?", type=Path, metavar="CKPT",
        help="checkpoint with the model hf; without it, what --rows holds is drawn again",
    )  # fmt: skip
    parser.add_argument(
        "--candidates", nargs="+", type=Candidate.parse, metavar="S/U@R",
        default=[Candidate.parse(text) for text in CANDIDATES], help=" ".join(CANDIDATES),
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rows", type=Path, required=True, metavar="CSV")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more overrides")
    args = parser.parse_args()
    try:
        if args.teacher is None:
            rows = from_csv(args.rows.read_text())
        else:
            rows = sweep(args.teacher.resolve(), args.candidates, args.epochs, args.set)
            atomic_write(args.rows, as_csv(rows))
    except (InputError, OSError) as error:
        parser.error(str(error))
    if args.plot:
        args.plot.write_bytes(draw_png(lambda f: draw(f, rows), width=6.0, height=2.8))


def sweep(
    teacher: Path, candidates: Sequence[Candidate], epochs: int, changes: Sequence[str] = ()
) -> list[dict[str, float | str]]:
    """One row of cost and agreement per candidate.

    Raises:
        InputError: the teacher or an override cannot be used.
    """
    pairs = {
        candidate.name: distilled(teacher, candidate, epochs, changes) for candidate in candidates
    }
    costs = cost_us_per_atom(pairs)
    rows: list[dict[str, float | str]] = []
    for candidate in candidates:
        measured = agreement_of(pairs[candidate.name])
        cost = {"us_per_atom": round(costs[candidate.name], 3)}
        rows.append({"lf": candidate.name, **asdict(candidate), "epochs": epochs} | cost | measured)
    return rows


def distilled(
    teacher: Path, candidate: Candidate, epochs: int, changes: Sequence[str]
) -> ExpertPair:
    """The pair of the teacher's HF and the candidate, trained with HF frozen."""
    given = f"{{_target_: nequip.model.ModelFromCheckpoint, checkpoint_path: '{teacher}'}}"
    with tempfile.TemporaryDirectory() as output:
        overrides = [
            "~training_module.model.hf",
            f"+training_module.model.hf={given}",
            "freeze=[hf]",
            "run=[train]",
            "agreement_warmup_steps=0",  # the teacher knows already
            f"epochs={epochs}",
            f"output={output}",
            *candidate.overrides(),
            *changes,
        ]
        train(CONFIG, overrides)
        pair, _ = pack([str(Path(output) / "last.ckpt")])
    return pair


def cost_us_per_atom(pairs: dict[str, ExpertPair]) -> dict[str, float]:
    """Energy and forces of bulk platinum by each LF, float32, µs per atom; the fastest of turns."""
    atoms = bulk_platinum(_ATOMS)
    positions, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    zeros = torch.zeros(len(atoms), dtype=torch.float64).numpy()
    tasks: dict[str, Callable[[], object]] = {}
    for name, pair in pairs.items():
        potential = Potential(pair, list(atoms.symbols), zeros, atoms.pbc, device="cpu")
        tasks[name] = lambda p=potential: p.evaluate(positions, cell)
        tasks[name]()
    timings = time_in_turns(tasks, rounds=_ROUNDS)
    return {name: 1e3 * timing.minimum_ms / len(atoms) for name, timing in timings.items()}


def agreement_of(pair: ExpertPair) -> dict[str, float]:
    """HF − LF by temperature, and LF's errors against the labels, on held-out bulk."""
    frames = evaluated_frames(pair, [DATA / "bulk_agreement_test.extxyz.gz"])
    rows = summarize(frames, ["*", *(f"*{temperature}*" for temperature in _KEY_OF_TEMPERATURE)])
    groups = rows["by_group"]
    row: dict[str, float] = {}
    for temperature, key in _KEY_OF_TEMPERATURE.items():
        apart = groups[f"*{temperature}*"]["hf_minus_lf"]
        row[f"energy_mev_{key}"] = round(apart["energy_of_atoms_mev"], 3)
        row[f"forces_mev_per_angstrom_{key}"] = round(apart["forces_mev_per_angstrom"], 2)
    against_labels = groups["*"]["lf"]["forces_mev_per_angstrom"]
    row["lf_error_mev_per_angstrom"] = round(against_labels, 2)
    return row


def as_csv(rows: Sequence[dict[str, float | str]]) -> str:
    """The rows with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def from_csv(text: str) -> list[dict[str, float | str]]:
    """The rows that `as_csv` wrote."""
    return [
        {key: value if key == "lf" else float(value) for key, value in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]


def draw(figure: Figure, rows: Sequence[dict[str, float | str]]) -> None:
    """Agreement on forces over cost, a panel per temperature."""
    panels = figure.subplots(1, 2, sharex=True)
    for axes, key in zip(panels, _KEY_OF_TEMPERATURE.values(), strict=True):
        for marker, row in zip(itertools.cycle(_MARKERS), rows, strict=False):
            x, y = float(row["us_per_atom"]), float(row[f"forces_mev_per_angstrom_{key}"])
            axes.plot(x, y, marker, color=LF, label=str(row["lf"]).replace("@", ", ") + " Å")
        axes.set_title(f"HF − LF at {key.replace('_', ' ')}")
        axes.set_xlabel("LF's cost, µs per atom")
        axes.set_ylabel("forces, meV/Å")
        axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
        axes.set_xlim(0, 1.1 * axes.get_xlim()[1])
        axes.grid(True, alpha=0.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", title="LF")


if __name__ == "__main__":
    main()
