"""The page on dynamics shows a configuration that runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from duetto.cli.main import main
from duetto.run.config import load_config

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "dynamics.md").read_text(encoding="utf-8")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (source,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "run.yaml").write_text(source)
    for name in ("slab.extxyz", "ptco.duetto"):
        shutil.copy(ROOT / "examples" / "ptco" / name, tmp_path)
    return tmp_path / "run.yaml"


def test_the_configuration_runs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = [f"stages.{i}.steps=2" for i in (1, 2, 3)]
    assert main(["run", str(config), "stages.0.fmax_eV_per_angstrom=5", *few]) == 0
    assert "step 6 of 6" in capsys.readouterr().out


def test_every_stage_is_on_the_page(config: Path) -> None:
    named = {stage.ensemble for stage in load_config(config).stages}
    assert named == set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
