"""What is packed, generated and cached; what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from duetto.experts.allegro.architecture import BesselEmbedding
from duetto.kernels.triton.expert_cache import source_directory, write_source
from duetto.kernels.triton.expert_launch import ExpertKernels, edge_tile
from duetto.kernels.triton.expert_packing import pack, table_layout
from duetto.kernels.triton.expert_source import kernel_source
from duetto.kernels.triton.expert_spec import (
    KernelSpec,
    kernel_spec,
    padded_width,
    unsupported_reason,
)
from tests.kernels.triton.expert_cases import CASES, folded_expert


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_supported_and_survives_json(name: str) -> None:
    expert = folded_expert(**CASES[name])
    assert unsupported_reason(expert) is None
    spec = kernel_spec(expert)
    assert KernelSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"depth": 2}, "more than one hidden layer"),
        ({"latent": 129}, "129 wide"),
        ({"num_tensor_features": 200}, "200 wide"),
    ],
)
def test_what_is_not_covered_is_named(changes: dict[str, int], reason: str) -> None:
    expert = folded_expert(**changes)
    assert reason in str(unsupported_reason(expert))
    with pytest.raises(ValueError, match=reason):
        pack(expert)


def test_widths_are_padded_to_what_tiles_can_have() -> None:
    assert [padded_width(n) for n in (1, 16, 17, 48, 64, 65)] == [16, 16, 32, 64, 64, 128]


def test_packed_weights_are_those_of_the_expert() -> None:
    expert = folded_expert(**CASES["widths_to_pad"])
    packed = pack(expert)
    layout = table_layout(packed.spec)
    end = 0
    for block in layout.values():
        assert block.offset >= end
        assert block.offset % 16 == 0
        end = block.offset + block.rows * block.cols
    assert len(packed.table) >= end
    block = layout["Wh_1_0"]
    matrix = packed.table[block.offset : block.offset + block.rows * block.cols]
    matrix = matrix.view(block.rows, block.cols)
    assert (block.rows, block.cols) == (32, 16)
    assert torch.equal(matrix[:20, :10], expert.Wh[1][0].float())
    assert (matrix[20:] == 0).all()
    assert (matrix[:, 10:] == 0).all()


def test_parts_of_the_weights_add_up() -> None:
    packed = pack(folded_expert(l_max=2, num_layers=2))
    two = packed.high.double() + packed.middle.double()
    # Eight bits each; the last one is rounded. The table itself is rounded to 2⁻²⁴.
    assert ((two - packed.table).abs() <= 2**-16.9 * packed.table.abs()).all()
    three = two + packed.low.double()
    assert ((three - packed.table).abs() <= 2**-23.9 * packed.table.abs()).all()


def test_source_depends_on_the_structure_only() -> None:
    sources = [kernel_source(kernel_spec(folded_expert(seed=seed))) for seed in (1, 2)]
    assert sources[0] == sources[1]
    other = kernel_spec(folded_expert(embedding=BesselEmbedding(8, 5.0)))
    assert kernel_source(other) != sources[0]


def test_source_names_its_equations() -> None:
    source = kernel_source(kernel_spec(folded_expert(l_max=2, num_layers=2)))
    for equation in (
        "h_0 = φ(B(r_ij) · K1[t_i, t_j])",
        "H = Σ_j h_1 Y_lm, A_1 = norm · (PE_1)ᵀ H",
        "N_1 = e · M_1(A_1) M_0(A_0)",
        "s_1[u] = Σ_l wV[u, l] Σ_m Y_lm N_1[u, lm]",
        "h_2 = φ(h_0 · Wh_10 + h_1 · Wh_11 + s_1 · Ws_1)",
        "e_ij = φ(h_0 · Rh_0 + h_1 · Rh_1 + h_2 · Rh_2) · ro",
    ):
        assert f"# {equation}\n" in source


def test_cache_is_found_again_and_mended(tmp_path: Path) -> None:
    spec = kernel_spec(folded_expert())
    path = write_source(spec, tmp_path / "kernels")
    written = path.stat().st_mtime_ns
    assert write_source(spec, tmp_path / "kernels") == path
    assert path.stat().st_mtime_ns == written
    path.write_text("half a fi", encoding="utf-8")
    write_source(spec, tmp_path / "kernels")
    assert path.read_text(encoding="utf-8") == kernel_source(spec)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert source_directory() == tmp_path / "duetto" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert source_directory() == Path.home() / ".cache" / "duetto" / "kernels"


def test_tiles_hold_their_edges() -> None:
    assert [edge_tile(n) for n in (0, 16, 17, 64, 65, 256)] == [16, 16, 32, 64, 128, 256]
    with pytest.raises(ValueError, match="257 neighbours"):
        edge_tile(257)


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="tf32"):
        ExpertKernels(pack(folded_expert()), precision="tf32")


def test_packing_and_generating_need_no_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import duetto.kernels, duetto.kernels.triton\n"
        "import duetto.kernels.triton.expert_spec, duetto.kernels.triton.expert_packing\n"
        "import duetto.kernels.triton.expert_source\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
