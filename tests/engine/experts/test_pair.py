"""The pair file: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from duetto.errors import InputError
from duetto.experts.allegro.architecture import (
    AllegroArchitecture,
    MLPShape,
    SplineEmbedding,
    ZBLTerm,
)
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.experts.kinds import expert_class
from duetto.experts.pair import ExpertPair
from duetto.files import content_hash
from tests.pairs import architecture, high_fidelity, low_fidelity, mismatched_pair


def saved(path: Path, pair: ExpertPair | None = None) -> Path:
    (pair or mismatched_pair()).save(path)
    return path


def assert_same(one: ExpertPair, other: ExpertPair) -> None:
    assert list(one.experts) == list(other.experts)
    for role, expert in one.experts.items():
        assert other.experts[role].architecture == expert.architecture
        for name, tensor in expert.weights.items():
            assert torch.equal(other.experts[role].weights[name], tensor)
    assert one.provenance == other.provenance
    assert one.content_hash == other.content_hash


@pytest.mark.parametrize("roles", ["both", "hf", "lf"])
def test_round_trip(roles: str, tmp_path: Path) -> None:
    hf = high_fidelity(zbl=ZBLTerm(6.0)) if roles != "lf" else None
    lf = low_fidelity(embedding=SplineEmbedding(9, 5)) if roles != "hf" else None
    pair = ExpertPair(hf, lf, {"trained_on": "é", "lf": {"seen_pairs": [["Pt", "Pt"]]}})
    assert_same(ExpertPair.load(saved(tmp_path / "a.duetto", pair)), pair)


def test_a_pair_without_experts_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        ExpertPair(None, None)


def test_the_file_is_plain_safetensors_with_names_per_expert(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.duetto")
    assert {name.split(".")[0] for name in load_file(path)} == {"hf", "lf"}


def test_a_loaded_pair_is_not_its_file(tmp_path: Path) -> None:
    """Writing over the file, or cutting it short, changes nothing that was read from it."""
    path = saved(tmp_path / "mine.duetto")
    other = saved(tmp_path / "other.duetto", mismatched_pair(seed=7))
    assert path.stat().st_size == other.stat().st_size
    pair = ExpertPair.load(path)
    with path.open("r+b") as stream:  # as `cp` does: into the same file
        stream.write(other.read_bytes())
    assert_same(pair, mismatched_pair())
    with path.open("r+b") as stream:
        stream.truncate(10)
    assert_same(pair, mismatched_pair())


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = saved(tmp_path / "a.duetto")
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        mismatched_pair(seed=9).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.duetto"]


def test_the_same_pair_is_the_same_file(tmp_path: Path) -> None:
    """To the byte, in any process: the library orders its metadata by chance."""
    files = [tmp_path / f"{k}.duetto" for k in range(6)]
    for path in files:
        mismatched_pair(seed=9).save(path)
    assert len({path.read_bytes() for path in files}) == 1


def test_missing_foreign_and_newer_files_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such pair file"):
        ExpertPair.load(tmp_path / "none.duetto")
    (tmp_path / "text.duetto").write_text("not safetensors at all")
    with pytest.raises(InputError, match="not a pair file"):
        ExpertPair.load(tmp_path / "text.duetto")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not one that `duetto pack` wrote"):
        ExpertPair.load(tmp_path / "other.safetensors")
    header, body = read_parts(saved(tmp_path / "new.duetto"))
    header["__metadata__"]["format_version"] = "4"
    write_parts(tmp_path / "new.duetto", header, body)
    with pytest.raises(InputError, match="update Duetto"):
        ExpertPair.load(tmp_path / "new.duetto")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"l_max": 4}, "l_max"),
        ({"num_layers": 0}, "num_layers"),
        ({"latent": MLPShape(3, 8, "silu")}, "latent.hidden_layers_depth"),
        ({"readout": MLPShape(1, 8, "relu")}, "readout.nonlinearity"),
        ({"type_names": ("Pt", "Xx")}, "type_names"),
        ({"type_names": ("Pt", "Pt")}, "type_names"),
        ({"parity": 1}, "parity"),
        ({"avg_num_neighbors": (1.0,)}, "avg_num_neighbors"),
        ({"cutoffs": ((9.0,) * 3,) * 3}, "per_edge_type_cutoff"),
    ],
)
def test_unsupported_hyperparameters_are_refused_by_name(change: dict, name: str) -> None:
    with pytest.raises(InputError, match=name):
        architecture(**change)


def test_architecture_round_trips_through_json() -> None:
    for a in (architecture(), architecture(embedding=SplineEmbedding(9, 5), zbl=ZBLTerm(5.0))):
        assert AllegroArchitecture.from_json(json.loads(json.dumps(a.to_json()))) == a


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l_max": "2"}, "architecture.l_max: got '2'; allowed: a whole number"),
        ({"lmax": 2}, "architecture: unknown key 'lmax'"),
        ({"parity": 1}, "architecture.parity: got 1; allowed: true or false"),
        ({"zbl": 3}, "architecture.zbl: got 3; allowed: a mapping"),
        ({"embedding": {"kind": "gauss"}}, "architecture.embedding.kind: got 'gauss'; allowed: b"),
        ({"latent": {"width": 1, "nonlinearity": None}}, "architecture.latent.depth: missing"),
        ({"l_max": 4}, "Allegro hyperparameter l_max: 4 is not supported"),
    ],
)
def test_a_damaged_architecture_is_refused_by_key(change: dict, message: str) -> None:
    data = json.loads(json.dumps(architecture().to_json()))
    with pytest.raises(InputError) as caught:
        AllegroArchitecture.from_json(data | change)
    assert message in str(caught.value)


def test_weights_that_do_not_fit_are_named() -> None:
    a = architecture()
    weights = random_weights(a, 0)
    for name, wrong in {
        "readout.0": weights["readout.0"].T.contiguous(),
        "product.1": weights["product.1"].float(),
        "environment": weights["environment"] * float("nan"),
    }.items():
        with pytest.raises(InputError, match=name):
            AllegroExpert(a, weights | {name: wrong})
    with pytest.raises(InputError, match=r"energy\.shift"):
        AllegroExpert(a, {k: v for k, v in weights.items() if k != "energy.shift"})


def read_parts(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_parts(path: Path, header: dict, body: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One accident: flipped bits, a cut, a repeat, a swap, or an edit of the header's text."""
    kind = rng.randrange(6)
    (length,) = struct.unpack("<Q", data[:8])
    if kind == 0:
        place = rng.randrange(len(data))
        return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
    if kind == 1:
        return data[: rng.randrange(len(data))]
    if kind == 2:
        place = rng.randrange(8, 8 + length)
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if kind == 3:
        return data + rng.randbytes(rng.randrange(1, 40))
    if kind == 4:
        a, b = sorted(rng.randrange(len(data)) for _ in range(2))
        return data[:a] + data[b:] + data[a:b]
    text = bytearray(data[8 : 8 + length])
    digits = [k for k, c in enumerate(text) if chr(c).isdigit()]
    text[rng.choice(digits)] = ord(str(rng.randrange(10)))
    return data[:8] + bytes(text) + data[8 + length :]


def test_a_thousand_damaged_files_never_pass_for_another_pair(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.duetto")
    original, pair = path.read_bytes(), mismatched_pair()
    rng = random.Random(0)
    refused = []
    for _ in range(1000):
        path.write_bytes(mutate(original, rng))
        try:
            loaded = ExpertPair.load(path)
        except InputError as error:
            refused.append(str(error))
        else:
            assert_same(loaded, pair)  # the accident changed nothing that counts
    assert len(refused) > 900
    for message in refused:
        assert str(path) in message
        assert "\n" not in message


def test_a_file_of_version_1_holds_allegro_and_does_not_say_so(tmp_path: Path) -> None:
    path = tmp_path / "old.duetto"
    pair = mismatched_pair()
    pair.save(path)
    with safe_open(path, framework="pt") as stream:
        metadata = stream.metadata()
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    header = json.loads(metadata["header"])
    for description in header["experts"].values():
        assert description.pop("kind") == "allegro"
    text = json.dumps(header, sort_keys=True)
    metadata |= {
        "format_version": "1",
        "header": text,
        "content_hash": content_hash(text, tensors),
    }
    save_file(tensors, path, metadata)
    assert ExpertPair.load(path).content_hash == pair.content_hash


def test_a_correction_comes_back_as_one(tmp_path: Path) -> None:
    apart = mismatched_pair()
    pair = ExpertPair(apart.hf, apart.lf, {"a": 1}, correction=True)
    read = ExpertPair.load(saved(tmp_path / "delta.duetto", pair))
    assert_same(read, pair)
    assert read.correction
    assert pair.content_hash != apart.content_hash  # another potential of the same experts
    whole = ExpertPair.load(saved(tmp_path / "whole.duetto", apart))
    assert not whole.correction
    versions = [
        read_parts(tmp_path / f"{name}.duetto")[0]["__metadata__"]["format_version"]
        for name in ("delta", "whole")
    ]
    assert versions == ["3", "2"]  # readers of version 2 refuse what they would take for whole
    assert "hf_form" not in read_parts(tmp_path / "whole.duetto")[0]["__metadata__"]["header"]
    assert whole.whole_hf() is whole.hf
    with pytest.raises(InputError, match="correction to its LF"):
        read.whole_hf()


@pytest.mark.parametrize(
    ("hf", "lf", "message"),
    [
        (high_fidelity(), None, "the pair lacks lf"),
        (None, low_fidelity(), "the pair lacks hf"),
        (high_fidelity(), low_fidelity(type_names=("Pt", "C")), r"does not know O \(Pt, C\)"),
    ],
)
def test_a_correction_needs_what_it_corrects(hf, lf, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExpertPair(hf, lf, correction=True)


def test_another_form_of_hf_is_damage(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.duetto", ExpertPair(*mismatched_pair().experts.values()))
    with safe_open(path, framework="pt") as stream:
        metadata = stream.metadata()
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    text = json.dumps(json.loads(metadata["header"]) | {"hf_form": "halved"}, sort_keys=True)
    metadata |= {"header": text, "content_hash": content_hash(text, tensors)}
    save_file(tensors, path, metadata)
    with pytest.raises(InputError, match="hf_form is 'halved'"):
        ExpertPair.load(path)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InputError, match=r"kind 'snap' is not one of .*allegro"):
        expert_class("snap")
