"""What an installed package holds."""

import re
import sys
import tomllib
from pathlib import Path

from tests.test_house import MODULES, imports

ROOT = Path(__file__).parents[1]


def test_every_package_is_listed():
    """A folder that is missing in the list would be missing in a wheel, and only there."""
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    found = {"duetto.examples.ptco"}
    for folder, name in (("engine", "duetto"), ("kernels", "duetto.kernels")):
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(ROOT / folder).parts]))
    assert listed == found


PROVIDER = {
    "yaml": "pyyaml",
    "llvmlite": "numba",
    "pydantic_core": "pydantic",
    "allegro": "nequip-allegro",
    **dict.fromkeys(("hydra", "omegaconf", "lightning", "torchmetrics", "e3nn"), "nequip"),
    "metatomic": "metatomic-torch",
    "metatensor": "metatomic-torch",
    "torch_sim": "torch-sim-atomistic",
    "mace": "mace-torch",
}
"""What is installed for the sake of an import of another name."""


def test_what_is_imported_is_declared():
    """And the other way round, but for what the tests and scripts alone use."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    name = re.compile(r"[\w.-]+")
    core = {name.match(line).group() for line in project["dependencies"]}
    declared = core | {name.match(line).group() for lines in extras.values() for line in lines}
    imported = {top.split(".")[0] for path in MODULES.values() for top in imports(path)}
    imported -= {"duetto", *sys.stdlib_module_names}
    wanted = {PROVIDER.get(top, top) for top in imported}
    assert wanted <= declared
    assert core <= wanted


def test_numba_and_triton_have_upper_bounds():
    """Private parts of both are used: a version that is not out yet may be another."""
    text = (ROOT / "pyproject.toml").read_text()
    for package in ("numba", "triton"):
        lines = re.findall(rf'"({package}>=[^"]*)"', text)
        assert lines
        assert all(",<" in line for line in lines)
