"""nequip's engines of the HF expert, ready to be timed, and the reasons for those left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from duetto.experts.allegro.expert import AllegroExpert
from duetto.measure.bench import nequip_engines as nequip
from duetto.measure.bench.force_check import require_same_forces, tensors
from duetto.measure.bench.own_engines import own_potential
from duetto.measure.bench.settings import Array, BenchSettings, Candidate, Case, Say, Step


class ForeignEngines:
    """nequip's eager and compiled models of one expert, each built when it is first needed."""

    def __init__(self, settings: BenchSettings, say: Say) -> None:
        """Remember what is asked for; nothing is imported yet."""
        assert settings.pair.hf is not None
        self.settings, self.say = settings, say
        self._expert = settings.pair.hf
        self._models: dict[str, Any] = {}
        self._left_out: set[tuple[str, str]] = set()

    def candidates(self, case: Case, n_edges: int) -> list[Candidate]:
        """Candidates for this structure, each checked against this package's full HF.

        Args:
            case: the structure.
            n_edges: pairs within the HF expert's cutoff.
        """
        s, A = self.settings, len(case.atoms)
        wanted = self._wanted()
        if not wanted:
            return []
        if s.nequip_max_atoms < A:
            self.say(f"nequip is not run on {A} atoms: its time per edge on fewer is used")
            return []
        # In the arithmetic that nequip has, so that a difference of models is not taken for one
        # of products.
        exact = "fp32" if s.dtype == "float32" else "auto"
        potential = own_potential(case, s, np.ones(A), exact)
        ours = potential.evaluate(*tensors(case.atoms, s.device)).forces.cpu().numpy()
        made = [self._candidate(*engine, case, n_edges, ours) for engine in wanted]
        return [candidate for candidate in made if candidate is not None]

    def _wanted(self) -> list[tuple[str, str]]:
        """Engine and interface of all that can run here."""
        correction = self.settings.pair.correction
        if correction or not isinstance(self._expert, AllegroExpert):
            if any(engine.startswith("nequip") for engine in self.settings.engines):
                what = "a correction to lf" if correction else f"of the kind {self._expert.kind}"
                self.say(f"nequip is left out: the expert hf is {what}")
            return []
        result = []
        for engine in self.settings.engines:
            for interface in self.settings.interfaces if engine.startswith("nequip") else ():
                if (engine, interface) in self._left_out:
                    continue
                reason = nequip.missing_for(engine, interface)
                if reason is None:
                    result.append((engine, interface))
                else:
                    self._leave_out(engine, interface, reason)
        return result

    def _leave_out(self, engine: str, interface: str, reason: str) -> None:
        self._left_out.add((engine, interface))
        self.say(f"{engine} ({interface}) is left out: {reason}")

    def _candidate(
        self, engine: str, interface: str, case: Case, n_edges: int, ours: Array
    ) -> Candidate | None:
        try:
            step, forces, lists = self._step(engine, interface, case)
        except (ImportError, RuntimeError) as error:
            # A version that does not fit, or a compiler that fails, concerns this engine alone.
            self._leave_out(engine, interface, " ".join(str(error).split())[:300])
            return None
        name = f"{engine} ({interface})"
        return Candidate(
            engine=engine,
            interface=interface,
            backend="eager" if engine == "nequip_eager" else "aotinductor",
            edges_by_role={"hf": n_edges},
            step=step,
            force_error=require_same_forces(name, forces(), ours, self.settings.dtype),
            checked_against="full_hf",
            lists=lists,
        )

    def _step(
        self, engine: str, interface: str, case: Case
    ) -> tuple[Step, Callable[[], Array], Mapping[str, Step]]:
        """One evaluation, the forces it gives, and neighbour searches apart from it."""
        device = self.settings.device
        given = nequip.NequipInput(self._eager(), case.atoms, device)
        model = self._model(engine, interface, case)
        if interface == "ase":
            calculator = nequip.ase_calculator(model, given)
            calculator.calculate(case.atoms)
            return (
                lambda: calculator.calculate(case.atoms),
                lambda: calculator.results["forces"],
                {},
            )
        if interface == "torch_sim":
            evaluate = nequip.torch_sim_step(model, given)
            return evaluate, lambda: evaluate()["forces"].cpu().numpy(), {}
        data = given.data()
        searches = {name: _search(given, name) for name in given.list_backends}
        return (
            lambda: model(dict(data)),
            lambda: model(dict(data))["forces"].detach().cpu().numpy(),
            searches,
        )

    def _allegro(self) -> AllegroExpert:
        assert isinstance(self._expert, AllegroExpert)
        return self._expert

    def _eager(self) -> Any:
        if "eager" not in self._models:
            s = self.settings
            self._models["eager"] = nequip.eager(self._allegro(), s.dtype, s.device)
        return self._models["eager"]

    def _model(self, engine: str, interface: str, case: Case) -> Any:
        """The eager model, or the one compiled for this interface."""
        if engine == "nequip_eager":
            return self._eager()
        s, target = self.settings, "batch" if interface == "torch_sim" else "ase"
        if target not in self._models:
            path = nequip.compiled(
                self._allegro(),
                s.dtype,
                s.device,
                case.atoms,
                target=target,
                cache=s.aoti_cache,
                say=self.say,
            )
            self._models[target] = nequip.load_compiled(path, s.device)
        return self._models[target]


def _search(given: nequip.NequipInput, name: str) -> Step:
    return lambda: given.data(name)
