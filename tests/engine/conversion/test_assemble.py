"""Pairs from setfl files and other pairs, and an embedded-atom LF adjusted to HF."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.io import write

from duetto.cli.main import main
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential
from tests.engine.experts.eam.tables import expert, setfl_text, write_setfl
from tests.pairs import mismatched_pair


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """An HF and an LF potential that differ, each a setfl file, and a crystal."""
    expert(tmp_path, "eam/alloy")
    (tmp_path / "hf.eam.fs").write_text(setfl_text("eam/fs", repulsion=14.0))
    write(tmp_path / "pt.extxyz", bulk("Pt", "fcc", a=3.6, cubic=True))
    return tmp_path


def sums(pair: ExpertPair, role: str, a: float) -> tuple[float, float]:
    """Energy of an atom and pressure (eV/Å³) in an fcc crystal of platinum."""
    atoms = bulk("Pt", "fcc", a=a, cubic=True)
    weight = np.full(4, 1.0 if role == "hf" else 0.0)
    found = Potential(pair, ["Pt"] * 4, weight, atoms.pbc, dtype="float64").evaluate(
        torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    )
    return found.energy / 4, float(found.virial.trace()) / (3 * a**3)


def equilibrium(pair: ExpertPair, role: str) -> float:
    from scipy.optimize import brentq

    return float(brentq(lambda a: sums(pair, role, a)[1], 3.1, 4.1, xtol=1e-10))


def test_a_setfl_file_alone_and_beside_another_pairs_expert(files: Path) -> None:
    assert main(["pack", str(files / "toy.eam.alloy"), "-o", str(files / "one.duetto")]) == 0
    one = ExpertPair.load(files / "one.duetto")
    assert one.lf is None
    assert one.hf is not None
    assert one.hf.kind == "eam"
    mismatched_pair().save(files / "allegro.duetto")
    both = ["--hf", str(files / "allegro.duetto"), "--lf", str(files / "toy.eam.alloy")]
    assert main(["pack", *both, "-o", str(files / "two.duetto")]) == 0
    two = ExpertPair.load(files / "two.duetto")
    assert two.hf is not None
    assert two.lf is not None
    assert (two.hf.kind, two.lf.kind) == ("allegro", "eam")
    assert two.provenance["lf"]["file"] == "toy.eam.alloy"


def test_adjusted_to_the_lattice_the_modulus_and_the_energy_of_hf(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = [str(files / "hf.eam.fs"), str(files / "toy.eam.alloy")]
    target = str(files / "adjusted.duetto")
    options = ["--adjust-to", str(files / "pt.extxyz"), "--adjust-modulus", "--json"]
    assert main(["pack", *inputs, "-o", str(files / "plain.duetto")]) == 0
    capsys.readouterr()
    assert main(["pack", *inputs, *options, "-o", target]) == 0
    told = json.loads(capsys.readouterr().out)["experts"]["lf"]["provenance"]["adjusted"]
    plain, pair = ExpertPair.load(files / "plain.duetto"), ExpertPair.load(target)
    a = equilibrium(pair, "hf")
    assert abs(equilibrium(plain, "lf") / a - 1) > 1e-3, "nothing to adjust"
    assert equilibrium(pair, "lf") == pytest.approx(a, rel=1e-7)
    assert sums(pair, "lf", a)[0] == pytest.approx(sums(pair, "hf", a)[0], abs=1e-8)
    slopes = [
        (sums(pair, role, a * 1.001)[1] - sums(pair, role, a * 0.999)[1]) for role in ("hf", "lf")
    ]
    assert slopes[1] == pytest.approx(slopes[0], rel=1e-4)
    assert told["modulus_GPa"]["after"] == pytest.approx(told["modulus_GPa"]["hf"], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy.eam.alloy", "--adjust-to", "pt.extxyz"], "needs an HF expert and an LF from"),
        (["hf.eam.fs", "toy.eam.alloy", "--adjust-modulus"], "needs --adjust-to"),
        (["hf.eam.fs", "toy.eam.alloy", "--adjust-to", "absent.xyz"], "no such structure file"),
        (["hf.eam.fs", "toy.eam.alloy", "--adjust-to", "cu.extxyz"], "holds Cu, which the expert"),
        (["hf.eam.fs", "toy.eam.alloy", "--adjust-to", "free.extxyz"], "must be periodic"),
        (["hf.eam.fs", "toy.eam.alloy", "--adjust-to", "wide.extxyz"], "has no equilibrium"),
        (["hf.eam.fs", "toy.eam.alloy", "--adjust-to", "off.extxyz"], "on the atoms, at its own"),
        (["absent.eam.alloy"], "absent.eam.alloy: no such file"),
        (["absent.duetto"], "no such pair file"),
        (["one.eam.fs", "toy.eam.alloy"], "the LF expert knows O, and the HF expert does not"),
    ],
)
def test_refusals(
    files: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    write("cu.extxyz", bulk("Cu", "fcc", a=3.6, cubic=True))
    write("wide.extxyz", bulk("Pt", "fcc", a=7.0, cubic=True))
    off = bulk("Pt", "fcc", a=3.6, cubic=True)
    off.rattle(0.2, seed=1)
    write("off.extxyz", off)
    free = bulk("Pt", "fcc", a=3.6, cubic=True)
    free.pbc = False
    write("free.extxyz", free)
    write_setfl(files, "eam/fs", 1).rename("one.eam.fs")
    assert main(["pack", *arguments, "-o", "out.duetto"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("out.duetto").exists()
