"""What the README shows works as shown."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from duetto.cli.main import main
from duetto.run.config import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_runs(monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    (source,) = blocks("python")
    assert len(source.strip().splitlines()) <= 12
    exec(compile(source, "README.md", "exec"), {})
    counted, energy = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"[\d.]+ of 800 atoms are high fidelity", counted)
    assert re.fullmatch(r"-[\d.]+ eV", energy)


def test_the_yaml_example_is_a_run(tmp_path: Path) -> None:
    (source,) = blocks("yaml")
    (tmp_path / "run.yaml").write_text(source)
    for name in ("slab.extxyz", "ptco.duetto"):
        shutil.copy(ROOT / "examples" / "ptco" / name, tmp_path)
    config = load_config(tmp_path / "run.yaml")
    assert config.timestep_fs == 1.0
    assert main(["run", str(tmp_path / "run.yaml"), "stages.0.steps=3"]) == 0
    assert (tmp_path / "out" / "thermo.csv").exists()


def test_files_and_pictures_that_it_links_to_exist() -> None:
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "command", re.findall(r"^\| `duetto (\w+)` \|", README, flags=re.MULTILINE)
)
def test_commands_in_its_table_exist(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out
