"""Launches for a chip that is not there, and what Triton was asked for, in a process of its own.

    python -m tests.kernels.triton.absent_chip offline    what is compiled beforehand
    python -m tests.kernels.triton.absent_chip run        what a run launches, at several sizes

Prints JSON. Without TRITON_INTERPRET; TRITON_CACHE_DIR says where the code is kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from triton.runtime.jit import JITFunction

from duetto.kernels.linear import LinearForm
from duetto.kernels.triton.dynamics import Dynamics, Thermostat
from duetto.kernels.triton.expert_launch import ExpertKernels, WorkList, kernel_kinds
from duetto.kernels.triton.expert_offline import compile_kernel
from duetto.kernels.triton.expert_packing import pack
from duetto.kernels.triton.expert_spec import SLOTS, kernel_spec
from duetto.kernels.triton.flags import N_FLAGS
from duetto.kernels.triton.following import SeedsByAtom
from duetto.kernels.triton.linear_launch import LinearKernels
from duetto.kernels.triton.linear_offline import KINDS, compile_linear
from duetto.kernels.triton.mixture import Mixture
from duetto.kernels.triton.multiple_timestep import SplitDynamics
from duetto.kernels.triton.neighbor_list import DeviceNeighborList
from duetto.kernels.triton.offline import Compilation, compiling_for
from duetto.kernels.triton.step_offline import compile_step
from tests.kernels.triton.expert_cases import folded_expert, surroundings
from tests.linear_experts import random_expert

CAPABILITY = 90
TILE = 16
EXPERTS = [folded_expert(types=("Pt",)), folded_expert(types=("Pt",), num_layers=2)]
LINEAR = random_expert("one species, l_max 2").form()
SIZES = (1, 16, 50, 129)
"""Atoms: 1 and multiples of 16 are the numbers that Triton would make code of their own for."""


def offline() -> dict[str, Any]:
    with compiling_for(CAPABILITY) as compiled:
        for expert in EXPERTS:
            spec = kernel_spec(expert)
            for kind in kernel_kinds(spec):
                compile_kernel(spec, kind, TILE, "bf16x3", CAPABILITY)
        for kind in KINDS:
            compile_linear(LINEAR.layout, kind, exponent_of(LINEAR), CAPABILITY)
    return {"kernels": plain([*compiled, *compile_step(CAPABILITY, cell_capacities=(16,))])}


def run() -> dict[str, Any]:
    arguments: dict[str, dict[str, list[Any]]] = {}
    launch = JITFunction.run

    def noted(self: JITFunction, *args: Any, **kwargs: Any) -> Any:
        seen = arguments.setdefault(self.fn.__name__, {"integers": [], "specialised": []})
        names = [parameter.name for parameter in self.params]
        given = dict(zip(names, args, strict=False)) | kwargs
        for parameter in (one for one in self.params if not one.is_constexpr):
            if isinstance(given[parameter.name], int):
                seen["integers"].append(parameter.name)
                if not parameter.do_not_specialize:
                    seen["specialised"].append(parameter.name)
        return launch(self, *args, **kwargs)

    JITFunction.run = noted
    counts = []
    with compiling_for(CAPABILITY) as compiled:
        for n_atoms in SIZES:
            for bath in (None, Thermostat(0.025, 0.01, seed=1)):
                take_steps(n_atoms, bath)
            evaluate_experts(n_atoms)
            follow(n_atoms)
            counts.append(len(compiled))
    return {"kernels": plain(compiled), "counts": counts, "arguments": arguments}


def take_steps(n_atoms: int, bath: Thermostat | None) -> None:
    types = torch.zeros(2, n_atoms, dtype=torch.int32)
    cutoffs = torch.full((2, 1 + n_atoms % 3, 1 + n_atoms % 3), 5.0, dtype=torch.float64)
    neighbors = DeviceNeighborList(types, cutoffs, (True, True, n_atoms % 2 == 0), skin=0.5)
    mixture = Mixture(neighbors, [None, Nothing()])
    mixture.set_weights(torch.zeros(n_atoms))
    # A row further on in memory: such tensors are not aligned as whole ones are.
    x = torch.randn(n_atoms + 1, 3, dtype=torch.float64)[1:]
    cell = torch.eye(3, dtype=torch.float64) * (9.0 + n_atoms)
    masses = torch.ones(n_atoms, dtype=torch.float64)
    neighbors.build(x, cell)
    neighbors.check_displacements(x)
    mixture.evaluate(x)
    Dynamics(mixture, x, x, cell, masses, 1.0, thermostat=bath).run(4)
    fast = torch.ones(n_atoms, dtype=torch.float64)
    SplitDynamics(
        mixture, x, x, cell, masses, 1.0, thermostat=bath, every=2, fast_weights=fast
    ).run(4)


def evaluate_experts(n_rows: int) -> None:
    experts = [(one, ExpertKernels(pack(one), "bf16x3", stash_bytes=1 << 20)) for one in EXPERTS]
    for form, kernels in (*experts, (LINEAR, LinearKernels(LINEAR, "cpu", max_centres=100))):
        edges = surroundings(form, (5,) * n_rows)
        energies = torch.zeros(n_rows, dtype=torch.float64)
        gradients = torch.zeros_like(edges.vectors)
        packs, counts = (torch.zeros(n, dtype=torch.int32) for n in (SLOTS * n_rows + 1, 3))
        work = [WorkList(packs[1:].view(n_rows, SLOTS), counts[1:2], n_rows, TILE)]
        kernels.evaluate_rows(edges, work, energies, gradients)


def follow(n_atoms: int) -> None:
    atoms = np.arange(n_atoms)
    offsets = np.zeros((n_atoms, 3))
    following = SeedsByAtom.of(np.zeros_like(atoms), atoms, offsets, 1.0, 1.0, "cpu")
    x = torch.zeros(n_atoms + 1, 3, dtype=torch.float64)[1:]
    q = following.follow(x, torch.ones(n_atoms, dtype=torch.float64))
    following.pull(x, q, q, torch.zeros(N_FLAGS, dtype=torch.int32))


def exponent_of(form: LinearForm) -> float:
    return 0.0 if form.wall is None else float(form.wall.pair.p)


class Nothing:
    pack_size = 3

    def evaluate(self, *arguments: object) -> None: ...


def plain(compiled: Sequence[Compilation]) -> list[dict[str, Any]]:
    rows = [asdict(one) for one in compiled]
    return [row | {"files": {k: str(v) for k, v in row["files"].items()}} for row in rows]


if __name__ == "__main__":
    print(json.dumps({"offline": offline, "run": run}[sys.argv[1]]()))
