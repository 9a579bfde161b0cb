"""A look at a run before it starts: who computes which atom, and what a step will cost."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms

from duetto.atoms.periodic import Array, wrap
from duetto.files import atomic_write
from duetto.measure.turns import time_in_turns
from duetto.partition.guard import Guard, Watch
from duetto.run.doubts import doubts
from duetto.run.prepare import Prepared

PICTURE, WEIGHTS = "regions.png", "weights.xyz"

REGIONS = ("complex", "blend", "simple")
ROUNDS = 3


@dataclass(frozen=True)
class Look:
    """What there is to see.

    Attributes:
        n_atoms: atoms in all.
        counts: atoms by region (complex, blend, simple) and species.
        warnings: of the words and the timestep.
        guard: what the guard says of the start, the most serious first.
        computed_with: device, dtype, precision, backend.
        step_ms: one evaluation by `mixture`, `full_hf` and `full_lf`, where the pair has them; None
            where nothing was timed.
        speedup_vs_full_hf: of the mixture.
    """

    n_atoms: int
    counts: dict[str, dict[str, int]]
    warnings: tuple[str, ...]
    guard: tuple[str, ...]
    computed_with: dict[str, str]
    step_ms: dict[str, float] | None
    speedup_vs_full_hf: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def look_at(start: Prepared, *, timed: bool, say: Callable[[str], None]) -> Look:
    """Count, ask the guard, and time a few evaluations.

    Args:
        start: what the run would start from.
        timed: whether to evaluate the experts for their cost.
        say: where lines about what is being done go.
    """
    findings = _guard_findings(start)
    step_ms = _step_ms(start, say) if timed else None
    speedup = None
    if step_ms is not None and "full_hf" in step_ms:
        speedup = step_ms["full_hf"] / step_ms["mixture"]
    return Look(
        n_atoms=len(start.atoms),
        counts=count_by_species(start.atoms, start.weights),
        warnings=tuple(doubts(start.config, start.atoms)),
        guard=findings,
        computed_with=start.model.describe(),
        step_ms=step_ms,
        speedup_vs_full_hf=speedup,
    )


def count_by_species(atoms: Atoms, weights: Array) -> dict[str, dict[str, int]]:
    """Atoms of each region by species, the species in the order of the structure."""
    symbols = np.array(atoms.get_chemical_symbols())
    masks = (weights == 1.0, (weights > 0.0) & (weights < 1.0), weights == 0.0)
    kinds = list(dict.fromkeys(symbols.tolist()))
    return {
        region: {kind: n for kind in kinds if (n := int((mask & (symbols == kind)).sum()))}
        for region, mask in zip(REGIONS, masks, strict=True)
    }


def write_look(start: Prepared, folder: Path) -> dict[str, str]:
    """Write the picture and the weights (column w, extended XYZ); return their paths by kind.

    Raises:
        OSError: the folder cannot be made or written.
    """
    from duetto.report.slab import draw_weights

    folder.mkdir(parents=True, exist_ok=True)
    atoms, weights = start.atoms, start.weights
    home = wrap(atoms.positions, atoms.cell.array, atoms.pbc)
    # A crystal has no surface through which a region could be seen.
    symbols, crystal = atoms.get_chemical_symbols(), bool(atoms.pbc.all())
    atomic_write(folder / PICTURE, draw_weights(home, symbols, weights, see_through=crystal))
    marked = Atoms(
        atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc
    )
    marked.set_array("w", weights)
    text = io.StringIO()
    ase.io.write(text, marked, format="extxyz")
    atomic_write(folder / WEIGHTS, text.getvalue())
    return {"picture": str(folder / PICTURE), "weights": str(folder / WEIGHTS)}


def _guard_findings(start: Prepared) -> tuple[str, ...]:
    """What the guard would say at the first list, in its own words."""
    atoms = start.atoms
    guard = Guard.from_config(start.config.guard)
    watch = Watch(guard, start.model.pair, atoms.get_chemical_symbols(), atoms.pbc)
    regions = start.config.regions
    watch.shell = regions.follow is None and regions.update is None
    now = watch.at(atoms.positions, atoms.cell.array, start.weights)
    return tuple(finding.message(0) for finding in watch.look(now))


def _step_ms(start: Prepared, say: Callable[[str], None]) -> dict[str, float]:
    """Milliseconds of an evaluation by the mixture and by each expert alone, timed in turns."""
    shares = {"mixture": start.weights}
    if start.model.pair.hf is not None:
        shares["full_hf"] = np.ones(len(start.atoms))
    if start.model.pair.lf is not None and _lf_knows_all(start):
        shares["full_lf"] = np.zeros(len(start.atoms))
    positions = torch.tensor(start.atoms.positions, device=start.model.device)
    cell = torch.tensor(start.atoms.cell.array, device=start.model.device)
    say(f"timing {', '.join(shares)}: {ROUNDS} evaluations each …")
    tasks = {}
    for name, weights in shares.items():
        potential = start.potential(weights)
        potential.evaluate(positions, cell)  # builds its list and compiles what it needs
        tasks[name] = lambda potential=potential: potential.evaluate(positions, cell)
    on_cuda = start.model.device.type == "cuda"
    timings = time_in_turns(
        tasks, rounds=ROUNDS, synchronize=torch.cuda.synchronize if on_cuda else lambda: None
    )
    return {name: timing.median_ms for name, timing in timings.items()}


def _lf_knows_all(start: Prepared) -> bool:
    known = start.model.pair.experts["lf"].species
    return set(start.atoms.get_chemical_symbols()) <= set(known)
