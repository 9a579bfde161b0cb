"""Strong and weak scaling of `duetto lammps`, with and without balancing.

    python scripts/lammps_scaling.py --ranks 1 2 --atoms 8000 30000 --csv bench/results/lammps.csv

The complex slab is at one end of a block of platinum: equal volumes are unequal work. Strong: the
same block on more ranks. Weak: as many atoms a rank as the block has on one. Every rank has one
thread. Rows are appended with their provenance. `--check` compares each block with the engine in
one process first, and stops where they differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
from ase.build import bulk

from duetto.environment import describe_machine, package_versions
from duetto.frontends.lammps.library import mpich_files
from duetto.measure.bench.rows import append_records

ROOT = Path(__file__).resolve().parents[1]
PAIR = ROOT / "examples" / "ptco" / "ptco.duetto"
LATTICE = 3.98
MAIN = "import sys; from duetto.cli.main import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--atoms", type=int, nargs="+", default=[8000, 30000])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--complex-fraction", type=float, default=0.1)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--csv", type=Path, help="append rows to this file")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    for scaling, atoms, ranks in _cases(args.atoms, args.ranks):
        rows = [row | {"scaling": scaling} for row in _measure(args, atoms, ranks)]
        for row in rows:
            print(json.dumps(row), flush=True)
        if args.csv:
            append_records(args.csv, list(rows[0]), rows)


def _cases(atoms: list[int], ranks: list[int]) -> Iterator[tuple[str, int, int]]:
    for number in atoms:
        for size in ranks:
            yield "strong", number, size
            if size > 1:
                yield "weak", number * size, size


def _measure(args: argparse.Namespace, atoms: int, ranks: int) -> list[dict[str, Any]]:
    """With balancing, and on several ranks without it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_atoms = _write_block(folder, atoms, args)
        if args.check:
            _duetto(ranks, "lammps", str(folder / "run.yaml"), "dtype=float64", "--check")
        summary = json.loads(_duetto(ranks, "lammps", str(folder / "run.yaml"), "--json"))
        # Ranks' times are those of all steps, with balancing as without.
        measured = _from_log(folder / "out" / "log.lammps") | {"costs": summary["costs"]}
        rows = [_row(args, n_atoms, ranks, measured, balanced=ranks > 1)]
        if ranks > 1:
            deck = folder / "out" / "in.lammps"
            lines = deck.read_text().splitlines()
            words = ("balance", "fix             balance", "comm_style", "run             0")
            kept = [line for line in lines if not line.startswith(words)]
            (folder / "plain.in").write_text("\n".join(kept) + "\n")
            log = folder / "plain.log"
            _duetto(ranks, "lammps", str(folder / "plain.in"), "--", "-log", str(log))
            rows.append(_row(args, n_atoms, ranks, _from_log(log), balanced=False))
        return rows


def _write_block(folder: Path, atoms: int, args: argparse.Namespace) -> int:
    """A block twice as high as wide, and the run's configuration."""
    wide = max(2, round((atoms / 8) ** (1 / 3)))
    high = max(2, round(atoms / (4 * wide * wide)))
    block = bulk("Pt", "fcc", a=LATTICE, cubic=True).repeat((wide, wide, high))
    ase.io.write(folder / "block.extxyz", block)
    border = LATTICE * high * (1.0 - args.complex_fraction)
    (folder / "run.yaml").write_text(f"""
structure: block.extxyz
pair: {PAIR}
regions: {{complex: {{slab: {{axis: z, min: {border}}}}}}}
dtype: {args.dtype}
timestep_fs: 2.0
initial_temperature_K: 600
stages: [{{ensemble: nve, steps: {args.steps}}}]
output: {{dir: out, thermo_every: {args.steps}, trajectory_every: 0, checkpoint_every: 0}}
""")
    return len(block)


def _duetto(ranks: int, *words: str) -> str:
    """Standard output of the command on ranks of one thread each."""
    launcher = next((str(path) for path in mpich_files("mpiexec")), "mpiexec")
    done = subprocess.run(
        [launcher, "-n", str(ranks), sys.executable, "-c", MAIN, *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"duetto {' '.join(words)} on {ranks} ranks failed:\n{done.stdout}")
    return done.stdout


def _from_log(path: Path) -> dict[str, Any]:
    from duetto.frontends.lammps.summary import read_runs

    run = read_runs(path)[-1]
    return {
        "seconds_per_step": run.seconds / run.steps,
        "rank_ms_after": run.rank_ms,
        "imbalance_after": run.imbalance,
        "costs": {},
    }


def _row(
    args: argparse.Namespace, atoms: int, ranks: int, summary: dict[str, Any], *, balanced: bool
) -> dict[str, Any]:
    machine, versions = describe_machine(), package_versions(("duetto", "torch", "lammps"))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "scaling": "",
        "atoms": atoms,
        "ranks": ranks,
        "balanced": balanced,
        "dtype": args.dtype,
        "complex_fraction": args.complex_fraction,
        "step_ms": round(1000.0 * summary["seconds_per_step"], 3),
        "rank_ms": " ".join(f"{ms:.2f}" for ms in summary["rank_ms_after"] or ()),
        "longest_over_mean": summary["imbalance_after"],
        "costs": json.dumps(summary["costs"]),
        "processor": machine["processor"],
        "cores": machine["cores"],
        "commit": commit.stdout.strip(),
        **{f"version_{name}": value for name, value in versions.items()},
    }


if __name__ == "__main__":
    main()
