from pathlib import Path

import pytest

from tests.engine.cotrain.training import CONFIG, JOINT, overrides, write_frames


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of frames for a tiny training."""
    return write_frames(tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="session")
def joint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a short co-training."""
    from duetto.cotrain.train import train

    output = tmp_path_factory.mktemp("joint")
    train(CONFIG, overrides(data, output, *JOINT, "energy_agreement=5.0", "force_agreement=0.5"))
    return output
