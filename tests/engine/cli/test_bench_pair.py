"""`duetto bench --pair` with a pair of another material."""

from duetto.cli.main import main
from duetto.experts.pair import ExpertPair
from tests.pairs import low_fidelity


def test_a_pair_of_other_species_is_pointed_to_config(tmp_path, capsys):
    path = tmp_path / "ni.duetto"
    ExpertPair(hf=None, lf=low_fidelity(type_names=("Ni",))).save(path)
    assert main(["bench", "--pair", str(path), "--atoms", "32"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"--pair {path}: knows Ni, and the system pt has Pt" in line
    assert "--config" in line
