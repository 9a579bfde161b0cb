"""nequip's own ways of evaluating an expert: eager, compiled, through ASE and torch-sim.

Imports nequip. Compilation is what `nequip-compile --mode aotinductor` does, with its defaults.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor, nn

from duetto.conversion.model import nequip_model
from duetto.environment import package_versions, processor_name
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.pair import ExpertPair

Data = dict[str, Tensor]
LIST_BACKENDS = ("matscipy", "vesin")
"""nequip's faster neighbour searches on a processor, its default first."""


def missing_for(engine: str, interface: str = "model") -> str | None:
    """Why an engine cannot run here, or None: a package or the compiler that is not installed."""
    needed = {"nequip": "nequip", "allegro": "nequip-allegro"}
    if interface == "torch_sim":
        needed["torch_sim"] = "torch-sim-atomistic"
    for module, package in needed.items():
        if find_spec(module) is None:
            return f"{package} is not installed"
    compiler = os.environ.get("CXX", "g++")
    if engine == "nequip_aoti" and shutil.which(compiler) is None:
        return f"there is no C++ compiler ({compiler}) for AOTInductor"
    return None


class NequipInput:
    """A structure as nequip takes it: types, and a neighbour list by nequip's own transforms."""

    def __init__(self, model: nn.Module, atoms: Atoms, device: str) -> None:
        """Prepare the transforms of the model's calculators; `list_backend` is the default's."""
        from nequip.integrations.utils import basic_transforms

        self.atoms, self.device = atoms, torch.device(device)
        metadata: dict[str, Any] = model.metadata  # type: ignore[assignment]
        self.type_names = metadata["type_names"].split()
        self.transforms = {
            backend: basic_transforms(
                metadata,
                float(metadata["r_max"]),
                self.type_names,
                {name: name for name in self.type_names},
                neighborlist_backend=backend,
            )
            for backend in LIST_BACKENDS
        }

    @property
    def list_backends(self) -> tuple[str, ...]:
        """Those that take this structure: nequip's vesin wants all axes periodic, or none."""
        mixed = self.atoms.pbc.any() and not self.atoms.pbc.all()
        return LIST_BACKENDS[:1] if mixed else LIST_BACKENDS

    def data(self, backend: str = LIST_BACKENDS[0]) -> Data:
        """The structure with its neighbour list, on the device."""
        from nequip.data import AtomicDataDict, from_ase

        data = from_ase(self.atoms)
        for transform in self.transforms[backend]:
            data = transform(data)
        moved: Data = AtomicDataDict.to_(data, self.device)
        return moved


def eager(expert: AllegroExpert, dtype: str, device: str) -> nn.Module:
    """nequip's model as Python runs it."""
    return nequip_model(expert, dtype).to(device)


def compiled(
    expert: AllegroExpert,
    dtype: str,
    device: str,
    atoms: Atoms,
    *,
    target: str = "ase",
    cache: Path | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Path:
    """Compile nequip's model with AOTInductor, once per expert, machine, threads and versions.

    Args:
        expert: architecture and weights.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".
        atoms: an example to trace with.
        target: nequip-compile's target, "ase" or "batch".
        cache: folder of compiled models; by default `duetto` in the user's cache folder.
        say: told before a compilation, which takes a minute or two.

    Returns:
        The path of the `.nequip.pt2` file.
    """
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "duetto"
    folder.mkdir(parents=True, exist_ok=True)
    versions = package_versions(("torch", "nequip", "nequip-allegro", "triton"))
    weights = ExpertPair(hf=expert, lf=None).content_hash
    machine = processor_name() if device == "cpu" else torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()  # Inductor writes their number into the code
    key = repr((weights, dtype, device, target, machine, threads, sorted(versions.items())))
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.nequip.pt2"
    if not path.is_file():
        say(f"compiling nequip's model for {device} in {dtype}, a minute or two")
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            made = Path(temporary) / "model.nequip.pt2"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of its own deprecated calls
                model = with_fast_product(nequip_model(expert, dtype), device)
                _compile(model, device, atoms, target, made)
            os.replace(made, path)
    return path


def with_fast_product(model: nn.Module, device: str) -> nn.Module:
    """On CUDA the model with Allegro's Triton tensor product, its fastest; else as it is."""
    if torch.device(device).type != "cuda":
        return model
    from nequip.model.modify_utils import modify

    modified: nn.Module = modify(model, [{"modifier": "enable_TritonContracter"}])
    return modified


def _compile(model: nn.Module, device: str, atoms: Atoms, target: str, path: Path) -> None:
    from nequip.scripts._compile_utils import COMPILE_TARGET_DICT
    from nequip.utils.aot import aot_export_model
    from nequip.utils.aoti_metadata import (
        NEQUIP_AOTI_INPUTS_KEY,
        NEQUIP_AOTI_OUTPUTS_KEY,
        serialize_aoti_keys,
    )
    from nequip.utils.global_state import get_latest_global_state
    from torch.export import Dim

    settings = COMPILE_TARGET_DICT[target]
    dimensions = {
        "graph": Dim("num_frames", min=2),
        "node": Dim("num_nodes", min=2),
        "edge": Dim("num_edges", min=2),
    }
    metadata = {**model.metadata, **get_latest_global_state(only_metadata_related=True)}  # type: ignore[dict-item]
    metadata = {key: str(int(v)) if isinstance(v, bool) else v for key, v in metadata.items()}
    metadata[NEQUIP_AOTI_INPUTS_KEY] = serialize_aoti_keys(settings["input"])
    metadata[NEQUIP_AOTI_OUTPUTS_KEY] = serialize_aoti_keys(settings["output"])
    example = NequipInput(model, atoms, device).data()
    if target == "batch":
        example |= _one_frame(len(atoms), device)
    aot_export_model(
        model=model,
        device=torch.device(device),
        input_fields=settings["input"],
        output_fields=settings["output"],
        data=settings["data_settings"](example),
        batch_map=settings["batch_map_settings"](dimensions),
        output_path=str(path),
        inductor_configs={"aot_inductor.metadata": {k: str(v) for k, v in metadata.items()}},
    )


def _one_frame(n_atoms: int, device: str) -> Data:
    from nequip.data import AtomicDataDict

    return {
        AtomicDataDict.BATCH_KEY: torch.zeros(n_atoms, dtype=torch.int64, device=device),
        AtomicDataDict.NUM_NODES_KEY: torch.tensor([n_atoms], device=device),
    }


def load_compiled(path: Path, device: str) -> nn.Module:
    """A compiled model, called with a dictionary of tensors as the eager one is."""
    from nequip.model.inference_models import load_compiled_model

    model: nn.Module = load_compiled_model(str(path), device)[0]
    return model


def ase_calculator(model: nn.Module, data: NequipInput) -> Any:
    """nequip's ASE calculator of an eager or compiled model; it searches neighbours every time."""
    from nequip.integrations.ase import NequIPCalculator

    transforms = data.transforms[LIST_BACKENDS[0]]
    return NequIPCalculator(model, device=data.device, transforms=transforms)


def torch_sim_step(model: nn.Module, data: NequipInput) -> Callable[[], dict[str, Tensor]]:
    """One evaluation by nequip's torch-sim model, its neighbour search included."""
    from nequip.integrations.torchsim import NequIPTorchSimCalc

    calculator = NequIPTorchSimCalc(
        model, device=data.device, transforms=data.transforms[LIST_BACKENDS[0]]
    )
    # Not installed everywhere, and the type checker should not need it.
    torch_sim_io = import_module("torch_sim.io")
    state = torch_sim_io.atoms_to_state([data.atoms], data.device, torch.float64)
    return lambda: calculator(state)
