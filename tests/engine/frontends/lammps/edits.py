"""What LAMMPS users do to a script, each time followed by forces against the engine.

The engine is given the atoms where LAMMPS has them, and what their types say. On the ranks that
`ranks.py` is started with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duetto.experts.pair import ExpertPair
from duetto.frontends.lammps.session import Session
from duetto.frontends.lammps.types import parse_type
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.mixture import Potential

FOLLOW = (1.5, 3.0)
NAMES = {"still": "Pt Pt_simple C", "follows": "Pt Pt_simple C_seed"}
BOX = """\
clear
units metal
atom_style {style}
atom_modify map yes
boundary p p {z}
lattice fcc 4.1
region box prism 0 3 0 3 0 4 {tilt} 0 0
create_box 3 box
create_atoms 2 box
region up block INF INF INF INF 3 INF
set region up type 1
set atom 1 type 3
set atom 40 type 3
displace_atoms all random 0.1 0.1 0.1 7
mass 1 195.084
mass 2 195.084
mass 3 12.011
"""
NVE = "velocity all create 300 1\nfix motion all nve\n"
EDITS = {
    "charge": ({"style": "charge"}, NVE + "run 5"),
    "delete_atoms": (
        {},
        NVE
        + "run 5\nregion hole sphere 1 1 1 0.8\ndelete_atoms region hole\nreset_atoms id\nrun 5",
    ),
    "delete_seeds": (
        {},
        NVE + "run 3\ngroup seeds type 3\ndelete_atoms group seeds\nreset_atoms id\nrun 3",
    ),
    "new_seed": ({}, NVE + "run 3\nset atom 100 type 3\nset atom 1 type 2\nrun 3"),
    "change_box": (
        {},
        NVE + "run 3\nchange_box all x scale 1.03 remap\nrun 3\n"
        "change_box all xy final 1.5 remap\nrun 3",
    ),
    "replicate": ({}, NVE + "run 3\nreplicate 2 1 1\nrun 3"),
    "deform": ({}, NVE + "fix pull all deform 1 x erate 5.0 xy erate 3.0 remap x\nrun 20"),
    "npt": (
        {"tilt": 0.5},
        "velocity all create 300 1\nfix motion all npt temp 300 300 0.1 tri 0 0 0.2\nrun 20",
    ),
    "minimize": ({}, "minimize 0 1e-2 5 20"),
    "balance": ({}, "comm_style tiled\n" + NVE + "run 5\nbalance 1.0 rcb\nrun 5"),
    "multi": ({}, "neighbor 0.4 multi\ncomm_modify mode multi\n" + NVE + "run 5"),
    "overlay": (
        {},
        "pair_style hybrid/overlay duetto {words} zbl 0.5 1.0\n"
        "pair_coeff * * duetto {pair} {names}\npair_coeff * * zbl 78 78\n" + NVE + "run 5",
    ),
    "no_skin": ({}, "neighbor 0.0 bin\n" + NVE + "run 5"),
    "late_lists": ({"z": "m"}, NVE + "neigh_modify every 4 delay 4 check yes\nrun 21"),
    "respa": ({}, NVE + "run_style respa 2 2 pair 2\nrun 5"),
    "again": ({}, NVE + "run 3\npair_style duetto {words}\npair_coeff * * {pair} {names}\nrun 3"),
    "rerun": (
        {},
        NVE + "dump frames all custom 2 {folder}/frames id type x y z\nrun 6\nundump frames\n"
        "rerun {folder}/frames dump x y z",
    ),
    "restart": (
        {},
        NVE + "run 3\nwrite_restart {folder}/r\nclear\nread_restart {folder}/r\n"
        "pair_style duetto {words}\npair_coeff * * {pair} {names}\n" + NVE + "run 3",
    ),
}
HYBRID = (
    "pair_style hybrid duetto {words} lj/cut 5.0\npair_coeff * * duetto {pair} Pt Pt_simple NULL\n"
    "pair_coeff * 3 lj/cut 0.0 2.0\n" + NVE + "run 5"
)
"""The third type is of another style alone, whose energies are zero here."""
BOXES_MOVE = ("deform", "npt")
STILL = ("charge", "delete_atoms", "change_box", "replicate", "deform", "late_lists", "restart")
"""Those that are tried without seeds, too."""


def difference(lammps: Session, pair: ExpertPair, names: str) -> dict[str, float]:
    """Largest error of a force, and the energy's, where LAMMPS's atoms are."""
    get = lammps.instance
    x = np.array(get.gather_atoms("x", 1, 3)).reshape(-1, 3)
    f = np.array(get.gather_atoms("f", 1, 3)).reshape(-1, 3)
    kinds = [parse_type(names.split()[t - 1]) for t in get.gather_atoms("type", 0, 1)]
    ours = [kind.present for kind in kinds]
    x, f, kinds = x[ours], f[ours], [kind for kind in kinds if kind.present]
    energy = get.get_thermo("pe")
    low, high, xy, yz, xz, periodic, _ = get.extract_box()
    if lammps.rank:
        return {}
    cell = np.diag(np.subtract(high, low))
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    arguments = (
        pair,
        [kind.symbol for kind in kinds],
        np.array([kind.weight for kind in kinds], dtype=float),
        np.array(periodic, dtype=bool),
    )
    seeds = np.flatnonzero([kind.seed for kind in kinds])
    if len(seeds):
        following = Following(seeds, *FOLLOW)
        potential: Potential = FollowingPotential(*arguments, following=following, dtype="float64")
    else:
        potential = Potential(*arguments, dtype="float64")
    expected = potential.evaluate(torch.from_numpy(x), torch.from_numpy(cell))
    return {
        "forces": float(np.abs(f - expected.forces.numpy()).max()),
        "energy": abs(energy - expected.energy) / len(x),
        "largest": float(np.abs(f).max()),
        "blended": int(((potential.weights > 0) & (potential.weights < 1)).sum()),
    }


def work(lammps: Session, path: Path, parts: Sequence[str]) -> dict[str, Any]:
    """All edits, with weights that stay and weights that follow."""
    pair, found = ExpertPair.load(path), {}
    if not parts:
        return found
    lammps.instance.commands_string(
        BOX.format(style="atomic", z="p", tilt=0.0)
        + HYBRID.format(words="dtype float64", pair=path)
    )
    found["still hybrid"] = difference(lammps, pair, "Pt Pt_simple NULL")
    for way, names in NAMES.items():
        words = "dtype float64" + (" follow {} {}".format(*FOLLOW) if way == "follows" else "")
        for edit, (box, commands) in EDITS.items():
            if way == "still" and edit not in STILL:
                continue
            place = {"words": words, "pair": path, "names": names, "folder": path.parent}
            lammps.instance.commands_string(
                BOX.format(**({"style": "atomic", "z": "p", "tilt": 0.0} | box))
                + "pair_style duetto {words}\npair_coeff * * {pair} {names}\n".format(**place)
                + commands.format(**place)
                # Where boxes move after the last forces, these are found once more.
                + ("\nrun 0\n" if edit in BOXES_MOVE else "\n")
            )
            found[f"{way} {edit}"] = difference(lammps, pair, names)
    return found
