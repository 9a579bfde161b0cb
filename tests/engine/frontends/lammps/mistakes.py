"""Mistakes on all ranks, one after the other; at last one that a single rank makes.

Prints what each rank was told. It is started by mpiexec, not by pytest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from duetto.frontends.lammps.callback import PairStyle
from duetto.frontends.lammps.session import session

BOX = """\
clear
units {units}
newton {newton}
atom_style atomic
lattice fcc 4.0
region box block 0 3 0 3 0 3
create_box 2 box
create_atoms 1 box
mass * 195.0
"""
SCRIPTS = {
    "newton": ("pair_style duetto\npair_coeff * * {pair} Pt Pt_simple\nrun 0\n", "off", "metal"),
    "units": ("pair_style duetto\npair_coeff * * {pair} Pt Pt_simple\nrun 0\n", "on", "lj"),
    "type": ("pair_style duetto\npair_coeff * * {pair} Pt Pd_simple\n", "on", "metal"),
    "file": ("pair_style duetto\npair_coeff * * {pair}.not Pt Pt\n", "on", "metal"),
    "count": ("pair_style duetto\npair_coeff * * {pair} Pt\n", "on", "metal"),
    "pairs": ("pair_style duetto\npair_coeff 1 1 {pair} Pt Pt\n", "on", "metal"),
    "blend": ("pair_style duetto\npair_coeff * * {pair} Pt Pt_blend\nrun 0\n", "on", "metal"),
    "exclude": (
        "pair_style duetto\npair_coeff * * {pair} Pt Pt\nneigh_modify exclude type 1 1\nrun 0\n",
        "on",
        "metal",
    ),
    "include": (
        "pair_style duetto\npair_coeff * * {pair} Pt Pt\ngroup a id 1:9\natom_modify first a\n"
        "neigh_modify include a\nrun 0\n",
        "on",
        "metal",
    ),
    "bonds": (
        "clear\nunits metal\natom_style bond\nlattice fcc 4.0\n"
        "region box block 0 3 0 3 0 3\ncreate_box 2 box bond/types 1 extra/bond/per/atom 1 "
        "extra/special/per/atom 4\ncreate_atoms 1 box\nmass * 195.0\nbond_style zero\n"
        "bond_coeff 1 2.8\ncreate_bonds single/bond 1 1 2\npair_style duetto\n"
        "pair_coeff * * {pair} Pt Pt\nrun 0\n",
        "on",
        "metal",
    ),
    "seeds": ("pair_style duetto\npair_coeff * * {pair} Pt_seed Pt\n", "on", "metal"),
    "follow": ("pair_style duetto follow 3 2\npair_coeff * * {pair} Pt Pt\n", "on", "metal"),
    "lengths": ("pair_style duetto follow 3 none\n", "on", "metal"),
    "core": ("pair_style duetto follow -1 2\n", "on", "metal"),
    "twice": ("pair_style duetto dtype float64 dtype float32\n", "on", "metal"),
    "value": ("pair_style duetto dtype\n", "on", "metal"),
    "keyword": ("pair_style duetto dytpe float64\n", "on", "metal"),
    "terms": ("pair_style duetto terms quick\npair_coeff * * {pair} Pt Pt\n", "on", "metal"),
    "threads": ("pair_style duetto threads none\n", "on", "metal"),
    "device": ("pair_style duetto device tpu\n", "on", "metal"),
}


def main() -> None:
    """Make the mistakes, then break the second rank's potential and run."""
    pair = Path(sys.argv[1])
    with session(["-log", "none", "-screen", "none"]) as lammps:
        told: dict[str, str] = {}
        for name, (script, newton, units) in SCRIPTS.items():
            text = (BOX + script).format(pair=pair, newton=newton, units=units)
            told[name] = _message(lammps.instance, text)
        Path(f"{pair}.told{lammps.rank}").write_text(json.dumps(told))
        text = (BOX + SCRIPTS["newton"][0]).format(pair=pair, newton="on", units="metal")
        if lammps.rank == 1:
            PairStyle.potential = _broken  # type: ignore[method-assign]
        lammps.instance.commands_string(text)
        print("a rank went on")


def _message(instance: Any, text: str) -> str:
    try:
        instance.commands_string(text)
    except Exception as error:
        return str(error)
    return "nothing"


def _broken(self: PairStyle) -> Any:
    raise ZeroDivisionError("the second rank divides")


if __name__ == "__main__":
    main()
