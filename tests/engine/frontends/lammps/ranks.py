"""What is compared on MPI ranks, all of it in one start: on a rank that takes seconds.

    mpiexec -n 2 python -m tests.engine.frontends.lammps.ranks PAIR comparison.at_once edits.all

Prints JSON from the first rank. It is started by mpiexec, not by pytest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from duetto.frontends.lammps.session import session
from tests.engine.frontends.lammps import comparison, edits, followed

SUBJECTS = {"comparison": comparison.work, "followed": followed.work, "edits": edits.work}


def main() -> None:
    """Run the parts that are named, with the pair file of the first argument."""
    path, words = Path(sys.argv[1]), [word.split(".") for word in sys.argv[2:]]
    with session(["-log", "none", "-screen", "none"]) as lammps:
        found = {
            subject: work(lammps, path, [part for name, part in words if name == subject])
            for subject, work in SUBJECTS.items()
        }
        if lammps.rank == 0:
            print(json.dumps(found))


if __name__ == "__main__":
    main()
