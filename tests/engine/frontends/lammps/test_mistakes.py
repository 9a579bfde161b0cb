"""One clear line for every mistake, all ranks end, none hangs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from duetto.errors import InputError
from duetto.frontends.lammps import build, library
from tests.engine.frontends.lammps.mistakes import BOX
from tests.engine.frontends.lammps.mpi import ROOT, needs_compiler, needs_lammps, on_ranks
from tests.pairs import mismatched_pair

MAIN = "import sys; from duetto.cli.main import main; sys.exit(main(sys.argv[1:]))"
TOLD = {
    "newton": 'needs "newton on"',
    "units": 'use "units metal"',
    "type": "atom type Pd_simple: the expert lf does not know Pd",
    "file": "no such pair file",
    "count": "1 names for 2 atom types: Pt",
    "pairs": "Pair_coeff must start with * *",
    "blend": 'need their weights: "fix blend all property/atom d_duetto ghost yes"',
    "exclude": 'leave out "neigh_modify exclude"',
    "include": 'leave out "neigh_modify exclude" and "include"',
    "bonds": 'bonded ones, too: use "special_bonds lj/coul 1 1 1"',
    "seeds": "atom type Pt_seed: weights follow seeds where pair_style duetto has the words follow",
    "follow": "follow: none of the atom types is a seed, such as Pt_seed",
    "lengths": "follow 3 none: use follow CORE BLEND, two numbers above 0",
    "core": "follow -1 2: use follow CORE BLEND",
    "twice": "dtype is given twice",
    "value": "dtype has no value",
    "keyword": 'unknown keyword dytpe (did you mean "dtype"?)',
    "terms": "terms 'quick': use one of mixture, fast, slow",
    "threads": "threads none: use auto or a number from 1",
    "device": "device tpu: use auto, cpu, cuda or cuda:N",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two ranks that make every mistake; what they were told, and how they ended."""
    folder = tmp_path_factory.mktemp("mistakes")
    mismatched_pair().save(folder / "p.duetto")
    worker = ("-m", "tests.engine.frontends.lammps.mistakes", str(folder / "p.duetto"))
    done = on_ranks(2, *worker, timeout_s=200.0)
    told = [json.loads((folder / f"p.duetto.told{rank}").read_text()) for rank in (0, 1)]
    return SimpleNamespace(done=done, told=told)


@needs_lammps
@needs_compiler
@pytest.mark.parametrize("mistake", TOLD)
def test_all_ranks_are_told(made: Any, mistake: str) -> None:
    for told in made.told:
        assert TOLD[mistake] in told[mistake]
        assert told[mistake].startswith("ERROR")


@needs_lammps
@needs_compiler
def test_names_in_another_order_than_the_types_are_doubted(tmp_path: Path) -> None:
    """By the masses of the types, which say what they are."""
    mismatched_pair().save(tmp_path / "p.duetto")
    text = BOX.format(units="metal", newton="on").replace("mass * 195.0", "mass 1 12.0")
    text += f"mass 2 195.1\npair_style duetto\npair_coeff * * {tmp_path}/p.duetto Pt C_simple\n"
    (tmp_path / "swapped.in").write_text(text + "run 0\n")
    words = ("-c", MAIN, "lammps", str(tmp_path / "swapped.in"), "--", "-log", "none")
    done = on_ranks(1, *words)
    assert done.returncode == 0, done.stderr
    assert "WARNING: Type 1 has mass 12 and pair_coeff calls it an element of 195" in done.stdout
    assert "WARNING: Type 2 has mass 195.1 and" in done.stdout


@needs_lammps
@needs_compiler
def test_weights_of_a_blend_that_did_not_come_along_are_doubted(tmp_path: Path) -> None:
    """A restart gives them to the fix of the same ID alone, and LAMMPS goes on without."""
    mismatched_pair().save(tmp_path / "p.duetto")
    pair = f"pair_style duetto\npair_coeff * * {tmp_path}/p.duetto Pt Pt_blend\nrun 0\n"
    blend = "fix {} all property/atom d_duetto ghost yes\n"
    text = BOX.format(units="metal", newton="on") + "set atom 1*50 type 2\n"
    text += blend.format("blend") + "set atom 1*50 d_duetto 0.5\n" + pair
    text += f"write_restart {tmp_path}/r\n"
    again = f"clear\nread_restart {tmp_path}/r\n"
    same, other = (text + again + blend.format(name) + pair for name in ("blend", "other"))
    (tmp_path / "in").write_text(f"{same}print next\n{other}")
    words = ("-c", MAIN, "lammps", str(tmp_path / "in"), "--", "-log", "none")
    done = on_ranks(2, *words, timeout_s=120.0)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split("\nnext\n")
    doubts = [part.count("WARNING: The weights of all 50 atoms") for part in said]
    assert doubts == [0, 1]


@needs_lammps
@needs_compiler
def test_an_exception_on_one_rank_ends_all(made: Any) -> None:
    assert made.done.returncode == 1
    assert "ZeroDivisionError: the second rank divides" in made.done.stderr
    assert made.done.stderr.count("duetto:") == 1
    assert "Traceback" not in made.done.stderr
    assert "a rank went on" not in made.done.stdout


@needs_lammps
@needs_compiler
def test_one_partition_alone_may_have_the_style(tmp_path: Path) -> None:
    """The other one never comes to this pair style, and is not waited for."""
    mismatched_pair().save(tmp_path / "p.duetto")
    text = BOX.format(units="metal", newton="on")
    text += f"""partition yes 1 pair_style duetto
partition yes 1 pair_coeff * * {tmp_path}/p.duetto Pt Pt_simple
partition yes 2 pair_style zero 5.0
partition yes 2 pair_coeff * *
run 0
partition yes 1 print $(pe) file {tmp_path}/energy1 screen no
partition yes 2 print $(pe) file {tmp_path}/energy2 screen no
"""
    (tmp_path / "in").write_text(text)
    options = ("--", "-partition", "2x1", "-log", "none", "-screen", "none")
    done = on_ranks(2, "-c", MAIN, "lammps", str(tmp_path / "in"), *options, timeout_s=120.0)
    assert done.returncode == 0, done.stderr
    assert float((tmp_path / "energy1").read_text()) != 0.0
    assert float((tmp_path / "energy2").read_text()) == 0.0


@needs_lammps
@needs_compiler
def test_several_instances_in_a_process_keep_their_potentials(tmp_path: Path) -> None:
    mismatched_pair().save(tmp_path / "p.duetto")
    text = BOX.format(units="metal", newton="on")
    text += f"pair_style duetto\npair_coeff * * {tmp_path}/p.duetto"
    script = f"""
from duetto.frontends.lammps.callback import install
from duetto.frontends.lammps.library import open_lammps
instances = []
for names in ("Pt Pt", "Pt_simple Pt"):
    instances.append(open_lammps(["-log", "none", "-screen", "none"]))
    install(instances[-1])
    instances[-1].commands_string({text!r} + f" {{names}}\\nrun 0\\n")
    print(instances[-1].get_thermo("pe"))
for instance in instances:
    instance.command("run 0")
    print(instance.get_thermo("pe"))
"""
    done = on_ranks(1, "-c", script, timeout_s=120.0)
    assert done.returncode == 0, done.stderr
    first, second, *again = (float(line) for line in done.stdout.split())
    assert first != second
    assert again == [first, second]


@needs_lammps
@needs_compiler
def test_another_version_of_lammps_is_refused(tmp_path: Path) -> None:
    """The plugin knows what it was compiled for."""
    script = f"""
from pathlib import Path
from duetto.frontends.lammps import build, library
instance = library.open_lammps(["-log", "none", "-screen", "none"])
honest, build.version_of = build.version_of, lambda instance: 20240829
build.cache_folder = lambda: Path({str(tmp_path)!r})
path = build.build_plugin(instance)
try:
    instance.command(f"plugin load {{path}}")
except Exception as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    assert "compiled for LAMMPS 20240829, and this is LAMMPS" in done.stdout, done.stderr


def test_a_launcher_of_another_mpi_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each of its processes would run everything, into the same files."""
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    library.require_one_world(1)
    monkeypatch.setenv("SLURM_NTASKS", "4")  # of the job: this process may be alone in it
    library.require_one_world(1)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    library.require_one_world(2)
    with pytest.raises(InputError, match="has started 2 processes and LAMMPS knows of one"):
        library.require_one_world(1)


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="needs a C\\+\\+ compiler: none of c\\+\\+, g\\+\\+"):
        build.compiler()
    monkeypatch.setenv("CXX", "/opt/odd/c++ -O3")
    with pytest.raises(InputError, match="CXX=/opt/odd/c\\+\\+ -O3 is not there"):
        build.compiler()


def test_a_refusing_compiler_is_quoted(tmp_path: Path) -> None:
    fake = tmp_path / "c++"
    fake.write_text("#!/bin/sh\necho 'pair.h:1: error: no such luck' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(InputError, match="no such luck"):
        build._compile(str(fake), [], tmp_path / "x-plugin.so")
    assert list(tmp_path.iterdir()) == [fake]


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CACHE_HOME"):
        build.cache_folder()
