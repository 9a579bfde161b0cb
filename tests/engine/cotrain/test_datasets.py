"""Frames for co-training, their batches and their statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")

from nequip.data import AtomicDataDict

from duetto.cotrain import BulkFrames, CoTrainingDataset, ExpertStatistics, mixed_loader
from duetto.cotrain.frames import AGREEMENT_KEY, fits_key
from duetto.errors import InputError
from tests.engine.cotrain.training import CUTOFFS, FITS, TYPES, labelled_frames, make_batch


@pytest.fixture
def frames(tmp_path: Path) -> str:
    """Two bulk frames and a surface, the middle of which is marked."""
    labelled = labelled_frames(2, 1, seed=3)
    for atoms in labelled:
        atoms.arrays["is_bulk"] = (np.arange(len(atoms)) == 1).astype(int)
    write(tmp_path / "frames.extxyz", labelled)
    return str(tmp_path / "frames.extxyz")


def test_flags_say_what_a_frame_is_for(frames: str) -> None:
    dataset = CoTrainingDataset(
        transforms=[],
        fits=FITS,
        labelled=frames,
        unlabelled=[BulkFrames("Pt", number=2, repeat=(1, 1, 1))],
        agreement=["bulk*"],
        agreement_array="is_bulk",
    )
    assert (len(dataset), dataset.num_labelled) == (5, 3)
    flags = [[int(frame[fits_key(role)]) for role in ("hf", "lf")] for frame in dataset.frames]
    assert flags == [[1, 1], [1, 1], [1, 0], [0, 0], [0, 0]]
    shared = [frame[AGREEMENT_KEY].tolist() for frame in dataset.frames]
    assert shared[0] == [1, 1, 1, 1]
    assert shared[2] == [0, 1, 0, 0, 0]
    assert shared[3] == [1, 1, 1, 1] or shared[3] == [1, 1, 1]
    assert torch.isnan(dataset.frames[3][AtomicDataDict.FORCE_KEY]).all()


def test_bulk_frames_are_what_was_asked_for() -> None:
    settings = {"number": 40, "repeat": (2, 1, 1), "strain": 0.04, "rattle": 0.1}
    frames = list(BulkFrames("Pt", vacancies=0.5, lattice_constant=4.0, seed=7, **settings))
    again = list(BulkFrames("Pt", vacancies=0.5, lattice_constant=4.0, seed=7, **settings))
    assert all(a == b for a, b in zip(frames, again, strict=True))
    assert {len(atoms) for atoms in frames} == {7, 8}
    perfect = bulk("Pt", a=4.0, cubic=True).repeat((2, 1, 1))
    strains = np.array(
        [np.linalg.solve(perfect.cell.array, atoms.cell.array) - np.eye(3) for atoms in frames]
    )
    assert np.abs(strains).max() <= 0.04 + 1e-12
    assert np.abs(strains).max() > 0.03
    np.testing.assert_allclose(strains, np.swapaxes(strains, 1, 2), atol=1e-12)
    for atoms in frames:
        if len(atoms) == len(perfect):
            sites = perfect.get_scaled_positions() @ atoms.cell.array
            assert np.abs(atoms.positions - sites).max() < 5 * 0.1  # five standard deviations


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"strain": 0.9}, "strain"), ({"number": 0}, "number"), ({"structure": "He"}, "crystal")],
)
def test_impossible_bulk_frames_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BulkFrames(**({"structure": "Pt", "number": 1} | changes))  # type: ignore[arg-type]


def test_frames_without_labels_are_named(tmp_path: Path) -> None:
    write(tmp_path / "bare.extxyz", Atoms("Pt", cell=np.eye(3) * 4, pbc=True))
    with pytest.raises(InputError, match=r"bare\.extxyz, frame 0 \(Pt\): no energy"):
        CoTrainingDataset(transforms=[], fits={"hf": "all"}, labelled=str(tmp_path / "bare.extxyz"))
    (tmp_path / "cut.extxyz.gz").write_bytes(b"not gzip")
    with pytest.raises(InputError, match=r"cut\.extxyz\.gz: cannot be read"):
        CoTrainingDataset(transforms=[], fits=FITS, labelled=str(tmp_path / "cut.extxyz.gz"))


def test_labels_that_are_not_numbers_are_refused(frames: str, tmp_path: Path) -> None:
    labelled = labelled_frames(1, 1, seed=3)
    labelled[1].calc.results["forces"][4, 0] = np.nan
    write(tmp_path / "bad.extxyz", labelled)
    with pytest.raises(InputError, match=r"bad\.extxyz, frame 1 \(.*\), atom 4 \(O\): its force"):
        CoTrainingDataset(transforms=[], fits=FITS, labelled=str(tmp_path / "bad.extxyz"))
    with pytest.raises(InputError, match=r"frame 0 .*: no stress under 'stress'"):
        CoTrainingDataset(transforms=[], fits=FITS, labelled=frames, stress=True)


def test_stress_is_asked_only_of_frames_that_train(tmp_path: Path) -> None:
    labelled = labelled_frames(1, 1, seed=3)
    labelled[0].info["virial"] = np.diag([1.0, 2.0, 3.0])
    write(tmp_path / "frames.extxyz", labelled)
    bulk_alone = {"hf": ["bulk*"], "lf": ["bulk*"]}
    dataset = CoTrainingDataset(
        transforms=[],
        fits=bulk_alone,
        labelled=str(tmp_path / "frames.extxyz"),
        unlabelled=[BulkFrames("Pt", number=1, repeat=(1, 1, 1))],
        stress=True,
        keys={"virial": "virial"},
    )
    stress = [frame[AtomicDataDict.STRESS_KEY] for frame in dataset.frames]
    expected = -np.diag([1.0, 2.0, 3.0]) / labelled[0].get_volume()
    np.testing.assert_allclose(stress[0][0], expected, rtol=1e-6)
    assert torch.isnan(stress[1]).all()
    assert torch.isnan(stress[2]).all()


def test_held_out_frames_are_the_last_of_each_kind(tmp_path: Path) -> None:
    labelled = labelled_frames(10, 5, seed=3)
    for k, atoms in enumerate(labelled):
        atoms.positions[0, 0] += 10 * k
    write(tmp_path / "frames.extxyz", labelled)

    def numbers(part: str) -> list[int]:
        dataset = CoTrainingDataset(
            transforms=[],
            fits=FITS,
            labelled=str(tmp_path / "frames.extxyz"),
            held_out=0.2,
            part=part,
        )
        return [round(float(f[AtomicDataDict.POSITIONS_KEY][0, 0]) / 10) for f in dataset.frames]

    assert numbers("held_out") == [8, 9, 14]
    assert numbers("train") == [*range(8), *range(10, 14)]
    with pytest.raises(InputError, match="held_out: 1"):
        CoTrainingDataset(transforms=[], fits=FITS, labelled="", held_out=1.0)
    with pytest.raises(InputError, match="part: got rest"):
        CoTrainingDataset(transforms=[], fits=FITS, labelled="", part="rest")


def test_batches_have_their_share_of_unlabelled_frames(frames: str) -> None:
    dataset = CoTrainingDataset(
        transforms=[],
        fits={"hf": "all", "lf": "all"},
        labelled=[frames] * 3,
        unlabelled=[BulkFrames("Pt", number=4, repeat=(1, 1, 1))],
    )

    def epoch(generator: torch.Generator) -> list[list[int]]:
        loader = mixed_loader(dataset, generator, batch_size=4, agreement_fraction=0.25)
        return list(loader.batch_sampler)

    batches = epoch(torch.Generator().manual_seed(1))
    assert [len(batch) for batch in batches] == [4, 4, 4]
    labelled = [index for batch in batches for index in batch if index < 9]
    assert sorted(labelled) == list(range(9))
    assert all(sum(index >= 9 for index in batch) == 1 for batch in batches)
    assert epoch(torch.Generator().manual_seed(1)) == batches
    assert epoch(torch.Generator().manual_seed(2)) != batches


def test_loader_goes_on_where_it_left_off(frames: str) -> None:
    dataset = CoTrainingDataset(transforms=[], fits={"hf": "all", "lf": "all"}, labelled=frames)

    def loader() -> torch.utils.data.DataLoader:
        return mixed_loader(dataset, torch.Generator().manual_seed(1), 1, collate_fn=len)

    first, second = loader(), loader()
    for _ in range(5):
        list(first)
    second.load_state_dict(first.state_dict())  # type: ignore[attr-defined]
    assert list(first.batch_sampler) == list(second.batch_sampler)
    fresh = loader()
    fresh.load_state_dict({})  # type: ignore[attr-defined]
    assert torch.equal(fresh.generator.get_state(), loader().generator.get_state())


def test_statistics_are_each_experts_own(tmp_path: Path) -> None:
    batch = make_batch(labelled_frames(2, 2, seed=3), tmp_path)
    statistics = ExpertStatistics(TYPES, CUTOFFS).get_statistics([batch])
    counts = batch[AtomicDataDict.NUM_NODES_KEY].tolist()
    forces = batch[AtomicDataDict.FORCE_KEY]
    for role, labelled in (("hf", 4), ("lf", 2)):
        atoms = sum(counts[:labelled])
        expected = float(forces[:atoms].square().mean().sqrt())
        assert statistics[f"{role}_forces_rms"] == pytest.approx(expected)
    # A perfect fcc crystal has 12 neighbours within 3.6 Å; rattling moves few of them out.
    assert statistics["lf_num_neighbors_mean"] == pytest.approx(12, abs=1)
    energies = statistics["lf_per_type_energy"]
    bulk_energies = batch[AtomicDataDict.TOTAL_ENERGY_KEY].view(-1)[:2]
    assert energies["Pt"] == pytest.approx(float(bulk_energies.mean()) / 4)
    assert energies["C"] == energies["O"] == 0.0
