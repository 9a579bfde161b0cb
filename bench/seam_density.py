"""What the extra force of a following partition does to the density at its seam.

    python bench/seam_density.py run --pair co-trained --partition follow --out outputs/seam
    python bench/seam_density.py report --out outputs/seam --csv bench/results/seam_density.csv \
        --plot docs/images/seam_density.png

Platinum at 300 K in a cell of twelve (001) planes, of which one is followed: HF around it, LF half
a cell away, two seams between. By symmetry an uncut potential has all planes equally far apart, so
what is found is the partition's doing: `follow` has the extra force, `static` the same weights
without it, `hf` and `lf` are uncut. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from matplotlib.figure import Figure
from moving_regions import EXAMPLE
from nve_conservation import LATTICE_CONSTANT, append, provenance
from tqdm import tqdm

from duetto.experts.pair import ExpertPair
from duetto.md import Langevin, Limits, initial_state, run_md
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.mixture import Potential
from duetto.report.style import HF, INK, LF, MUTED, draw_png
from duetto.run.checkpoint import load_checkpoint, save_checkpoint

PAIRS = {"co-trained": "ptco.duetto", "twin": "ptco_independent.duetto"}
PARTITIONS = ("follow", "static", "hf", "lf")
CORE, BLEND = 3.0, 3.0
PLANES, PER_PLANE = 12, 18
TIMESTEP_FS, FRAME_STEPS = 4.0, 20
WARM_UP_PS, TEMPERATURE_K, FRICTION_PER_FS = 4.0, 300.0, 0.002
BLOCKS = 20
"""Of 5 ps in a run of 100 ps: the longest wave of the cell has a period of 1 ps."""
RELAXED_EV_PER_A = 1e-5


def crystal() -> Atoms:
    """3 × 3 × 6 cubic cells, in the order of their planes."""
    atoms = bulk("Pt", "fcc", a=LATTICE_CONSTANT, cubic=True).repeat((3, 3, PLANES // 2))
    return atoms[np.lexsort((atoms.positions[:, 0], atoms.positions[:, 2].round(3)))]


def evaluated(potential: Potential, atoms: Atoms) -> Any:
    """At the positions of `atoms`."""
    return potential.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))


def potential_of(pair: ExpertPair, partition: str, dtype: str) -> Potential:
    """One of PARTITIONS; the static one has the weights of the following one at rest."""
    atoms = crystal()
    symbols, n = list(atoms.symbols), len(atoms)
    settings: dict[str, Any] = {"dtype": dtype, "skin": 0.8}
    if partition in ("hf", "lf"):
        return Potential(pair, symbols, np.full(n, partition == "hf"), atoms.pbc, **settings)
    seeds = Following(np.arange(PER_PLANE), CORE, BLEND)
    moving = FollowingPotential(pair, symbols, np.zeros(n), atoms.pbc, following=seeds, **settings)
    if partition == "follow":
        return moving
    evaluated(moving, atoms)
    return Potential(pair, symbols, moving.weights, atoms.pbc, **settings)


def sample(pair: ExpertPair, partition: str, picoseconds: float, folder: Path, seed: int) -> None:
    """Run, or go on, and keep how far apart the planes are."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, kept = folder / "checkpoint.safetensors", folder / "planes.npy"
    potential, atoms = potential_of(pair, partition, "float32"), crystal()
    rows: list[Any] = []
    if checkpoint.is_file():
        state, record = load_checkpoint(checkpoint)
        rows = list(np.load(kept)[: record["rows"]])
        potential.rebuild(state.list_reference, state.cell)
    else:
        state = initial_state(atoms, potential, temperature_K=2 * TEMPERATURE_K, seed=seed)
    steps = round((picoseconds + WARM_UP_PS) * 1000 / TIMESTEP_FS)
    stage = Langevin(steps, TEMPERATURE_K, FRICTION_PER_FS)
    states = run_md(
        state, potential, [stage], timestep_fs=TIMESTEP_FS, limits=Limits(None, None), first_step=0
    )
    for state in tqdm(states, total=steps, initial=state.step, delay=2.0, disable=None):  # noqa: B020
        if state.step % FRAME_STEPS == 0:
            rows.append(
                np.append(
                    plane_spacings(state.positions, state.cell),
                    state.temperature(state.kinetic_energy),
                )
            )
        if state.step % 1000 == 0 or state.step == steps:
            np.save(kept, rows)
            save_checkpoint(checkpoint, state, {"rows": len(rows)})


def plane_spacings(positions: Any, cell: Any) -> Any:
    """Å from each plane to the next, the last one's next being the first's image, (PLANES,)."""
    z = np.asarray(positions)[:, 2].reshape(PLANES, PER_PLANE).mean(axis=1)
    return np.append(np.diff(z), z[0] + float(cell[2, 2]) - z[-1])


def folded(values: Any) -> Any:
    """(…, PLANES / 2) means over both sides of the followed plane, from it outwards."""
    half = PLANES // 2
    return 0.5 * (values[..., :half] + values[..., ::-1][..., :half])


def relaxed(pair: ExpertPair, partition: str) -> Any:
    """What the planes' spacings are without motion, less the even ones, Å, (PLANES / 2,)."""
    atoms, potential = crystal(), potential_of(pair, partition, "float64")
    z = atoms.positions.copy()
    for _ in range(200):
        forces = evaluated(potential, atoms).forces.numpy()
        if np.abs(forces).max() < RELAXED_EV_PER_A:
            break
        # Planes are held by some 8 eV/Å² per atom from either side: a step that settles.
        atoms.positions += 0.03 * forces
    even = plane_spacings(z, atoms.cell.array)
    return folded(plane_spacings(atoms.positions, atoms.cell.array) - even)


def averaged(folder: Path) -> dict[str, Any]:
    """Mean spacings less the even ones, their standard errors by blocks, and how long that was."""
    rows = np.load(folder / "planes.npy")
    rows = rows[round(WARM_UP_PS * 1000 / TIMESTEP_FS / FRAME_STEPS) :]
    even = crystal().cell[2, 2] / PLANES
    blocks = np.array([part.mean(axis=0) for part in np.array_split(folded(rows[:, :-1]), BLOCKS)])
    return {
        "ps": len(rows) * FRAME_STEPS * TIMESTEP_FS / 1000.0,
        "temperature_K": float(rows[:, -1].mean()),
        "mean": blocks.mean(axis=0) - even,
        "error": blocks.std(axis=0, ddof=1) / np.sqrt(BLOCKS),
    }


def report(args: argparse.Namespace) -> None:
    """Rows of all runs that are there, and a picture."""
    found = {}
    for name in PAIRS:
        pair = ExpertPair.load(EXAMPLE / PAIRS[name])
        for partition in PARTITIONS:
            folder = args.out / f"{name}-{partition}"
            if not (folder / "planes.npy").is_file():
                continue
            hot = averaged(folder)
            cold = relaxed(pair, partition)
            found[name, partition] = hot, cold
            row = {
                "pair": name,
                "pair_hash": pair.content_hash[:12],
                "partition": partition,
                "n_atoms": PLANES * PER_PLANE,
                "core_A": CORE,
                "blend_A": BLEND,
                "ps": hot["ps"],
                "temperature_K": hot["temperature_K"],
            }
            for k in range(PLANES // 2):
                row[f"spacing_{k}_{k + 1}_mA"] = 1000 * hot["mean"][k]
                row[f"error_{k}_{k + 1}_mA"] = 1000 * hot["error"][k]
                row[f"relaxed_{k}_{k + 1}_mA"] = 1000 * cold[k]
            row |= provenance()
            print(row)
            if args.csv:
                append(args.csv, row)
    if args.plot:
        args.plot.write_bytes(draw_png(lambda figure: draw(figure, found), width=7.0, height=3.4))


def draw(figure: Figure, found: dict[tuple[str, str], Any]) -> None:
    """Density of the planes against their distance from the followed one."""
    even = crystal().cell[2, 2] / PLANES
    place = (np.arange(PLANES // 2) + 0.5) * even
    panels = figure.subplots(1, len(PAIRS), sharey=True)
    styles = {"follow": (HF, "o"), "static": (LF, "s"), "hf": (INK, "^"), "lf": (MUTED, "v")}
    for axes, name in zip(panels, PAIRS, strict=True):
        axes.axvspan(CORE, CORE + BLEND, color=MUTED, alpha=0.12, linewidth=0)
        axes.axhline(0.0, color=INK, linewidth=0.8)
        for shift, (partition, (colour, marker)) in enumerate(styles.items()):
            if (name, partition) not in found:
                continue
            hot, cold = found[name, partition]
            # Planes that are further apart are less dense.
            x = place + 0.12 * (shift - 1.5)
            y, error = -100 * hot["mean"] / even, 100 * hot["error"] / even
            axes.errorbar(
                x, y, error, fmt=marker, color=colour, markersize=4, capsize=2, label=partition
            )
            axes.plot(place, -100 * cold / even, color=colour, linewidth=1.0)
        axes.set_title(name)
        axes.set_xlabel("distance from the followed plane, Å")
        axes.grid(True, alpha=0.5)
    panels[0].set_ylabel("density, change in %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def main() -> None:
    """Sample one run, or report on all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "report"])
    parser.add_argument("--pair", choices=PAIRS, default="co-trained")
    parser.add_argument("--partition", choices=PARTITIONS, default="follow")
    parser.add_argument("--ps", type=float, default=100.0, help="simulated time after warming up")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where runs are")
    parser.add_argument("--csv", type=Path, help="append rows to this file")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the profile")
    args = parser.parse_args()
    if args.action == "report":
        report(args)
        return
    pair = ExpertPair.load(EXAMPLE / PAIRS[args.pair])
    seed = 1 + list(PAIRS).index(args.pair) * len(PARTITIONS) + PARTITIONS.index(args.partition)
    sample(pair, args.partition, args.ps, args.out / f"{args.pair}-{args.partition}", seed)


if __name__ == "__main__":
    main()
