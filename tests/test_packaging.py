"""What an installed package holds."""

import tomllib
from pathlib import Path

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
