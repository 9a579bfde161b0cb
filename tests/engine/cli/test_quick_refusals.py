"""A refusal comes before the imports that take seconds."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from duetto.experts.pair import ExpertPair
from tests.pairs import low_fidelity

SLOW = ("torch", "numba", "nequip", "matplotlib")

CONFIG = """
structure: pt.xyz
pair: pair.duetto
regions: {complex: {indices: [0]}}
timestep_fs: 1
initial_temperature_K: 300
stages: [{ensemble: nve, steps: 10}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals")
    ase.io.write(folder / "pt.xyz", bulk("Pt", cubic=True))
    ase.io.write(folder / "ni.xyz", bulk("Ni", cubic=True))
    ExpertPair(hf=None, lf=low_fidelity(type_names=("Pt",))).save(folder / "pair.duetto")
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "used").mkdir()
    (folder / "used" / "thermo.csv").write_text("step\n")
    return folder


REFUSED = [
    ("run run.yaml timestep_fs=-1", "timestep_fs"),
    ("run run.yaml stucture=pt.xyz", "stucture"),
    ("run run.yaml guard=wran", "guard"),
    ("run none.yaml", "none.yaml"),
    ("run run.yaml output.dir=used", "exists; continue that run with --resume"),
    ("run run.yaml --resume", "no checkpoint to resume"),
    ("run run.yaml structure=none.xyz", "no such structure file"),
    ("run run.yaml structure=ni.xyz", "a species that the pair file does not know"),
    ("run run.yaml pair=none.duetto", "no such pair file"),
    ("run run.yaml regions.complex.indices=[99]", "regions.complex.indices"),
    ("regions run.yaml structure=ni.xyz", "a species that the pair file does not know"),
    ("bench --threads 0", "use at least 1"),
    ("bench --config none.yaml", "none.yaml"),
    ("bench --pair none.duetto", "no such pair file"),
    ("demo --steps 1", "allowed: 2 or more"),
    ("demo --pair none.duetto", "no such pair file"),
]

ONE_BY_ONE = """
import json, os, sys
import ase.io, duetto.run.config  # what most of them need is imported once, and is not slow
from duetto.cli.main import main

for number, arguments in enumerate(json.loads(sys.argv[1])):
    child = os.fork()
    if not child:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        code = main(arguments.split())
        print(code, [name for name in json.loads(sys.argv[2]) if name in sys.modules], flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
"""Each command in a process of its own, a copy of one that has imported nothing slow."""


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, tuple[str, str]]:
    """What each refused command says, on both streams."""
    asked = [arguments for arguments, _ in REFUSED]
    words = [sys.executable, "-c", ONE_BY_ONE, json.dumps(asked), json.dumps(SLOW)]
    subprocess.run(words, cwd=folder, timeout=120, check=True)
    return {
        one: ((folder / f"{n}.out").read_text(), (folder / f"{n}.err").read_text())
        for n, one in enumerate(asked)
    }


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_refused_before_anything_slow_is_imported(
    answers: dict[str, tuple[str, str]], arguments: str, said: str
) -> None:
    out, err = answers[arguments]
    assert out == "2 []\n", err
    (line,) = err.strip().splitlines()
    assert said in line


def test_doctor_says_its_first_lines_before_the_imports() -> None:
    """A finder that refuses torch stands for a slow or broken one: what is said before stays."""
    code = (
        "import sys\nfrom duetto.cli.main import main\n"
        "class NoTorch:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name in {SLOW!r}: raise SystemExit(f'importing {{name}}')\n"
        "sys.meta_path.insert(0, NoTorch)\n"
        "main(['doctor'])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.stderr.strip() == "importing torch"
    said = [line.split()[0] for line in finished.stdout.splitlines()]
    assert said == ["versions", "system", "processor"]
    assert f"torch {version('torch')}" in finished.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["regions", "--help"]])
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom duetto.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        f"sys.exit(any(name in sys.modules for name in {(*SLOW, 'numpy', 'ase')!r}))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert finished.returncode == 0
