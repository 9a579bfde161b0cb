"""Drawing learning curves."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def _script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_curves_of_a_resumed_training_are_one(tmp_path: Path) -> None:
    plotting = _script("plot_training")
    names = ("hf_forces_rmse", "lf_forces_rmse", "hf_per_atom_energy_rmse")
    names += ("lf_per_atom_energy_rmse", "agreement_forces_rmse", "agreement_energy_rmse")
    for version, epochs in ((0, (0, 1, 2)), (1, (2, 3))):
        folder = tmp_path / "logs" / f"version_{version}"
        folder.mkdir(parents=True)
        with (folder / "metrics.csv").open("w") as stream:
            writer = csv.DictWriter(stream, ["epoch", *(f"val0_epoch/{name}" for name in names)])
            writer.writeheader()
            writer.writerow({"epoch": epochs[0]})  # a row of a training step
            for epoch in epochs:
                values = {f"val0_epoch/{name}": 0.1 / (epoch + 1 + version) for name in names}
                writer.writerow({"epoch": epoch, **values})
    curves = plotting.read_logs(tmp_path)
    assert curves["hf_forces_rmse"] == pytest.approx({1: 100, 2: 50, 3: 25, 4: 20})
    image = plotting.draw_png(lambda f: plotting.draw(f, curves), width=6.0, height=2.6)
    assert image.startswith(b"\x89PNG")
