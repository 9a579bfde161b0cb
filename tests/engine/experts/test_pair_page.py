"""What the page on pair files says is what Duetto writes and answers."""

import contextlib
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from duetto import ExpertPair, InputError
from duetto.experts.allegro.architecture import SplineEmbedding
from duetto.experts.allegro.folding import weight_shapes
from duetto.potential.self_check import random_pair

PAGE = (Path(__file__).parents[3] / "docs" / "pair-file.md").read_text(encoding="utf-8")


def test_the_code_prints_what_its_comments_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, compared = {}, 0
    for source in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "docs/pair-file.md", "exec"), names)
        said = re.findall(r"print\(.*\)  # (.*)$", source, re.MULTILINE)
        assert printed.getvalue().splitlines() == said
        compared += len(said)
    assert compared == 7


def listed(heading):
    """First column of the table under a row of headings."""
    rows = PAGE[PAGE.index(heading) :].splitlines()[2:]
    table = rows[: next(n for n, row in enumerate(rows) if not row.startswith("|"))]
    return [row.removeprefix("| ").split(" | ")[0].strip("` ") for row in table]


def test_the_table_lists_every_array():
    bessel = random_pair().hf.architecture
    spline = replace(bessel, embedding=SplineEmbedding(8, 4))
    written = set(weight_shapes(bessel)) | set(weight_shapes(spline))
    numbered = {re.sub(r"^(two_body|readout)\.\d$", r"\1.k", name) for name in written}
    numbered = {re.sub(r"^latent\.\d\.\d$", "latent.n.k", name) for name in numbered}
    numbered = {re.sub(r"^product\.\d$", "product.n", name) for name in numbered}
    assert set(listed("| array | shape |")) == numbered


def test_the_tables_list_every_entry_of_metadata_and_header(tmp_path):
    replace(random_pair(), correction=True).save(tmp_path / "a.duetto")
    with safe_open(tmp_path / "a.duetto", framework="pt") as file:
        metadata = file.metadata()
    assert set(listed("| entry | value |")) == set(metadata)
    assert set(listed("| key | value |")) == set(json.loads(metadata["header"]))


def rewrite(path, change):
    """Change metadata, header or arrays of a pair file, and make its hash right again."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    header, tensors = json.loads(metadata["header"]), load_file(path)
    change(metadata, header, tensors)
    metadata["header"] = json.dumps(header, sort_keys=True)
    digest = hashlib.sha256(metadata["header"].encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    metadata["content_hash"] = digest.hexdigest()
    save_file(tensors, path, metadata)


def missing(path):
    path.unlink()


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    save_file({"weight": torch.zeros(3)}, path)


def newer(path):
    rewrite(path, lambda metadata, header, tensors: metadata.update(format_version="4"))


def altered(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def without_provenance(path):
    rewrite(path, lambda metadata, header, tensors: header.pop("provenance"))


def without_an_array(path):
    rewrite(path, lambda metadata, header, tensors: tensors.pop("lf.readout.0"))


def unsupported(path):
    rewrite(path, lambda metadata, header, tensors: header["experts"]["hf"].update(l_max=4))


DAMAGES = [
    missing,
    cut_short,
    foreign,
    newer,
    altered,
    without_provenance,
    without_an_array,
    unsupported,
]


def test_every_error_on_the_page_is_shown_to_occur():
    assert len(listed("| the line says |")) == len(DAMAGES)


@pytest.mark.parametrize(
    ("damage", "says"),
    list(zip(DAMAGES, listed("| the line says |"), strict=False)),
    ids=[damage.__name__ for damage in DAMAGES],
)
def test_errors_read_as_on_the_page(tmp_path, damage, says):
    path = tmp_path / "a.duetto"
    random_pair().save(path)
    damage(path)
    with pytest.raises(InputError) as caught:
        ExpertPair.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_one_expert_in_both_roles_is_saved_and_read(tmp_path):
    expert = random_pair().hf
    pair = ExpertPair(expert, expert)
    pair.save(tmp_path / "a.duetto")
    assert ExpertPair.load(tmp_path / "a.duetto").content_hash == pair.content_hash
