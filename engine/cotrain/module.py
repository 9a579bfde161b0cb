"""The Lightning module that trains experts together, through nequip's trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hydra.utils import instantiate
from nequip.data import AtomicDataDict
from nequip.train import EMALightningModule, MeanSquaredError, RootMeanSquaredError
from torch import Tensor, nn
from torchmetrics import Metric

from duetto.conversion.expert import architecture_of
from duetto.conversion.pack import CORRECTED_LF
from duetto.cotrain.agreement import squared_differences
from duetto.cotrain.correction import FORMS, corrected, nothing_like
from duetto.cotrain.epochs import EpochLines
from duetto.cotrain.frames import (
    AGREEMENT_KEY,
    edges_within,
    fits_key,
    frames_with,
    register_cotraining_fields,
    select_frames,
)
from duetto.cotrain.frozen import FrozenOutputs
from duetto.errors import InputError

_COMPARED = (
    AtomicDataDict.TOTAL_ENERGY_KEY,
    AtomicDataDict.FORCE_KEY,
    AtomicDataDict.STRESS_KEY,
    AtomicDataDict.ATOM_TYPE_KEY,
    AtomicDataDict.NUM_NODES_KEY,
    AtomicDataDict.BATCH_KEY,
)
"""What nequip's losses and metrics look at."""


class CoTrainingModule(EMALightningModule):
    """Trains a high- and a low-fidelity expert so that they agree on shared bulk, or HF alone.

        L = L_data^HF + L_data^LF + λ_E mean_i (E_i^HF − E_i^LF)² + λ_F mean_i |F_i^HF − F_i^LF|²

    The means run over the atoms of a batch that are marked as shared bulk. Each data loss is
    nequip's weighted sum (`loss`) over the frames that train the expert; it is left out of a
    batch without such frames.

    HF is an expert of its own, or a correction Δ to LF, E_i^HF = E_i^LF + Δ_i: then `model.hf` is
    Δ, and the agreement terms are the squares of Δ and its forces. Without `lf` the labels must be
    those less a given LF's (`minus_lf` of `CoTrainingDataset`).

    Logged beside nequip's names: `train_loss_step/hf_…` and `lf_…` (every term of the data
    losses), `train_loss_step/agreement_energy` (eV²) and `agreement_forces` (eV²/Å²), the sum as
    `train_loss_step/weighted_sum`; on validation set k `valk_epoch/hf_…`, `lf_…` (the
    `val_metrics`), `agreement_energy_rmse` (eV), `agreement_forces_rmse` (eV/Å, per component) and
    `valk_epoch/loss`, the L of that set.

    Args:
        energy_agreement: λ_E, 1/eV² × the unit of the loss.
        force_agreement: λ_F, Å²/eV² × the unit of the loss. Both zero: independent training.
        agreement_warmup_steps: number of steps over which λ_E and λ_F rise linearly to their
            values; two untrained experts that are tied together learn slowly. Losses of held-out
            sets always have the full values.
        freeze: role or roles that are not trained; the others are trained towards them.
        hf_form: "whole" or "correction".
        ema_decay: of the exponential moving average of the weights; 0 for none.
        kwargs: arguments of `nequip.train.NequIPLightningModule`; `model` must build a
            `ModuleDict` with the experts, see `duetto.cotrain.ExpertModels`.

    Raises:
        InputError: unknown role to freeze, negative λ, unknown form of HF, or a model that is no
            pair.
    """

    # Dictionaries of dictionaries of metrics, which the type of ModuleDict cannot say.
    losses: Any
    step_metrics: Any
    epoch_agreement: Any
    held_out: Any

    def __init__(
        self,
        energy_agreement: float = 0.0,
        force_agreement: float = 0.0,
        agreement_warmup_steps: int = 0,
        freeze: str | Sequence[str] = (),
        ema_decay: float = 0.999,
        hf_form: str = "whole",
        **kwargs: Any,
    ):
        super().__init__(ema_decay=ema_decay, **kwargs)
        self.roles = tuple(self.model)
        if len(self.roles) not in (1, 2):
            raise InputError(f"co-training takes two experts or one: {', '.join(self.roles)}")
        if min(energy_agreement, force_agreement, agreement_warmup_steps) < 0:
            raise InputError("energy_agreement, force_agreement and their warmup: none below zero")
        if hf_form not in FORMS or (hf_form == "correction" and "hf" not in self.roles):
            raise InputError(
                f"hf_form: got {hf_form!r}; allowed: {', '.join(FORMS)}, of a model hf"
            )
        self.corrects = hf_form == "correction"
        self._corrected_lf: str | None = None
        register_cotraining_fields(self.roles)
        self.frozen = _frozen(freeze, self.roles)
        for role in self.frozen:
            self.model[role].requires_grad_(False)
        self._remembered = {role: FrozenOutputs() for role in self.frozen}
        self.energy_agreement, self.force_agreement = energy_agreement, force_agreement
        self.agreement_warmup_steps = agreement_warmup_steps
        self._make_metrics(kwargs)
        T = len(self.model[self.roles[0]].type_names)
        for role in self.roles:
            cutoffs = torch.tensor(architecture_of(self.model[role]).cutoffs, dtype=torch.float64)
            self.register_buffer(_cutoffs(role), cutoffs, persistent=False)
            # Which (centre, neighbour) types the expert was trained on: the pair file says so.
            seen = torch.zeros(T, T, dtype=torch.bool)
            self.register_buffer(_seen_pairs(role), seen)

    def _make_metrics(self, config: dict[str, Any]) -> None:
        """Every expert's own losses and metrics, for training and each validation and test set."""
        names = self.model[self.roles[0]].type_names

        def per_expert(key: str) -> nn.ModuleDict:
            made = {role: instantiate(config.get(key), type_names=names) for role in self.roles}
            return nn.ModuleDict({role: m for role, m in made.items() if m is not None})

        def agreement() -> nn.ModuleDict:
            return nn.ModuleDict(
                {"energy_rmse": RootMeanSquaredError(), "forces_rmse": RootMeanSquaredError()}
            )

        self.losses = per_expert("loss")
        self.step_metrics = per_expert("train_metrics")
        self.epoch_agreement = nn.ModuleDict(
            {"energy": MeanSquaredError(), "forces": MeanSquaredError()}
        )
        self.held_out = nn.ModuleDict()
        for stage in ("val", "test"):
            for index in range(self.num_datasets[stage]):
                self.held_out[f"{stage}{index}"] = nn.ModuleDict(
                    {
                        "metrics": per_expert(f"{stage}_metrics"),
                        "losses": per_expert("loss"),
                        "agreement": agreement(),
                    }
                )

    def configure_callbacks(self) -> list[Any]:
        """What Lightning adds to the trainer's callbacks: a line for every epoch."""
        return [*super().configure_callbacks(), EpochLines()]

    def on_fit_start(self) -> None:
        """Learn which LF the labels were taken less: HF is a correction to no other."""
        super().on_fit_start()
        trained = getattr(getattr(self.trainer, "datamodule", None), "train_dataset", None)
        for dataset in trained if isinstance(trained, Sequence) else (trained,):
            self._corrected_lf = getattr(dataset, "lf_hash", None) or self._corrected_lf

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember that LF."""
        super().on_save_checkpoint(checkpoint)
        if self._corrected_lf is not None:
            checkpoint[CORRECTED_LF] = self._corrected_lf

    @property
    def agreement_wanted(self) -> bool:
        """Whether the loss has agreement terms."""
        return self.energy_agreement > 0 or self.force_agreement > 0

    # ---- evaluation --------------------------------------------------------------------------

    def forward(self, inputs: AtomicDataDict.Type) -> dict[str, AtomicDataDict.Type]:
        """Outputs of every expert on all frames of a batch, by role."""
        everything = torch.ones_like(inputs[AtomicDataDict.NUM_NODES_KEY], dtype=torch.bool)
        evaluations = self._evaluate_all(inputs, dict.fromkeys(self.roles, everything))
        return {role: output for role, (output, _) in evaluations.items()}

    def _evaluate(
        self, role: str, batch: AtomicDataDict.Type, frames: Tensor
    ) -> AtomicDataDict.Type:
        data = edges_within(select_frames(batch, frames), getattr(self, _cutoffs(role)))
        if role in self.frozen:
            return self._remembered[role](self.model[role], data)
        with torch.enable_grad():
            return self.model[role](data)

    def _evaluations(
        self, batch: AtomicDataDict.Type, fitted: tuple[str, ...], agreeing: bool
    ) -> dict[str, tuple[AtomicDataDict.Type, Tensor]]:
        """Each expert's output and the frames (B,) that it was evaluated on."""
        shared = frames_with(batch, batch[AGREEMENT_KEY] > 0)
        wanted = {}
        for role in self.roles:
            wanted[role] = shared.clone() if agreeing else torch.zeros_like(shared)
            if role in fitted:
                wanted[role] |= batch[fits_key(role)] > 0
        return self._evaluate_all(batch, wanted)

    def _evaluate_all(
        self, batch: AtomicDataDict.Type, wanted: dict[str, Tensor]
    ) -> dict[str, tuple[AtomicDataDict.Type, Tensor]]:
        """By role, the output on the frames (B,) that are wanted, if any, and these frames."""
        on_lf = self.corrects and "lf" in wanted
        if on_lf:
            wanted = wanted | {"lf": wanted["lf"] | wanted["hf"]}
        evaluations = {
            role: (self._evaluate(role, batch, frames), frames)
            for role, frames in wanted.items()
            if bool(frames.any())
        }
        if on_lf and "hf" in evaluations:
            (delta, frames), (lf, of_lf) = evaluations["hf"], evaluations["lf"]
            evaluations["hf"] = corrected(lf, delta, frames[of_lf]), frames
        return evaluations

    def _labelled(
        self,
        role: str,
        batch: AtomicDataDict.Type,
        evaluations: dict[str, tuple[AtomicDataDict.Type, Tensor]],
    ) -> tuple[AtomicDataDict.Type, AtomicDataDict.Type] | None:
        """Predictions and targets on the frames whose labels train this expert."""
        fits = batch[fits_key(role)] > 0
        if role not in evaluations or not bool(fits.any()):
            return None
        output, frames = evaluations[role]
        predictions = {key: output[key] for key in _COMPARED if key in output}
        targets = {key: batch[key] for key in _COMPARED if key in batch}
        return select_frames(predictions, fits[frames]), select_frames(targets, fits)

    def _differences(
        self,
        batch: AtomicDataDict.Type,
        evaluations: dict[str, tuple[AtomicDataDict.Type, Tensor]],
    ) -> tuple[Tensor, Tensor] | None:
        """Squared differences of the experts on the shared atoms that both were evaluated on."""
        if self.corrects and self.roles == ("hf",) and evaluations:
            delta, frames = evaluations["hf"]
            evaluations = {"hf": (delta, frames), "lf": (nothing_like(delta), frames)}
        if len(evaluations) < 2:
            return None
        frame_of_atom = batch[AtomicDataDict.BATCH_KEY]
        present = [frames[frame_of_atom] for _, frames in evaluations.values()]
        shared = (batch[AGREEMENT_KEY] > 0) & present[0] & present[1]
        if not bool(shared.any()):
            return None
        atoms = ((present[0].cumsum(0) - 1)[shared], (present[1].cumsum(0) - 1)[shared])
        (first, _), (second, _) = evaluations.values()
        return squared_differences(first, second, atoms)

    # ---- training ----------------------------------------------------------------------------

    def training_step(
        self, batch: AtomicDataDict.Type, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor | None:
        """The loss of a batch; None if nothing in it trains anything."""
        trained = tuple(role for role in self.roles if role not in self.frozen)
        self._note_seen_pairs(batch, trained)
        evaluations = self._evaluations(batch, trained, self.agreement_wanted)
        total: Tensor | None = None
        for role in trained:
            pair = self._labelled(role, batch, evaluations)
            if pair is not None:
                terms = self.losses[role](*pair, prefix=f"train_loss_step/{role}_")
                self.log_dict(terms)
                data_loss = terms[f"train_loss_step/{role}_weighted_sum"]
                total = data_loss if total is None else total + data_loss
                self._log_step_metrics(role, pair)
        differences = self._differences(batch, evaluations)
        if differences is not None:
            terms = self._log_agreement(*differences)
            if self.agreement_wanted:
                agreement = self.energy_agreement * terms[0] + self.force_agreement * terms[1]
                agreement = self._warmup() * agreement
                total = agreement if total is None else total + agreement
        if total is None:
            return None
        self.log("train_loss_step/weighted_sum", total.detach())
        return total * self.world_size

    def _warmup(self) -> float:
        """Fraction of λ_E and λ_F in force at this step."""
        return min(1.0, (self.global_step + 1) / max(1, self.agreement_warmup_steps))

    def _log_agreement(self, energy: Tensor, forces: Tensor) -> tuple[Tensor, Tensor]:
        means = (energy.mean(), forces.mean())
        self.log("train_loss_step/agreement_energy", means[0].detach())
        self.log("train_loss_step/agreement_forces", means[1].detach())
        self.epoch_agreement["energy"](energy.detach().sqrt(), torch.zeros_like(energy))
        self.epoch_agreement["forces"](forces.detach().sqrt(), torch.zeros_like(forces))
        return means

    def _log_step_metrics(
        self, role: str, pair: tuple[AtomicDataDict.Type, AtomicDataDict.Type]
    ) -> None:
        if role in self.step_metrics:
            with torch.no_grad():
                self.log_dict(self.step_metrics[role](*pair, prefix=f"train_metric_step/{role}_"))

    def _note_seen_pairs(self, batch: AtomicDataDict.Type, trained: tuple[str, ...]) -> None:
        """Remember which neighbours around which centres an expert's loss has depended on."""
        types = batch[AtomicDataDict.ATOM_TYPE_KEY].view(-1)
        for role in trained:
            learns = (batch[fits_key(role)] > 0)[batch[AtomicDataDict.BATCH_KEY]]
            if self.agreement_wanted:
                learns = learns | (batch[AGREEMENT_KEY] > 0)
            inside = edges_within(batch, getattr(self, _cutoffs(role)))
            centre, neighbor = inside[AtomicDataDict.EDGE_INDEX_KEY]
            centre, neighbor = centre[learns[centre]], neighbor[learns[centre]]
            getattr(self, _seen_pairs(role))[types[centre], types[neighbor]] = True

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch."""
        for role, losses in self.losses.items():
            if _updated(losses):
                self.log_dict(losses.compute(prefix=f"train_loss_epoch/{role}_"))
                losses.reset()
        for role, metrics in self.step_metrics.items():
            if _updated(metrics):
                self.log_dict(metrics.compute(prefix=f"train_metric_epoch/{role}_"))
                metrics.reset()
        for name, metric in self.epoch_agreement.items():
            if metric.update_called:
                self.log(f"train_loss_epoch/agreement_{name}", metric.compute())
                metric.reset()

    # ---- validation and test -----------------------------------------------------------------

    def validation_step(
        self, batch: AtomicDataDict.Type, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Any]:
        """Accumulate the metrics of a batch of validation set `dataloader_idx`."""
        return self._measure(batch, "val", dataloader_idx)

    def test_step(
        self, batch: AtomicDataDict.Type, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Any]:
        """Accumulate the metrics of a batch of test set `dataloader_idx`."""
        return self._measure(batch, "test", dataloader_idx)

    def _measure(self, batch: AtomicDataDict.Type, stage: str, index: int) -> dict[str, Any]:
        sinks = self.held_out[f"{stage}{index}"]
        evaluations = self._evaluations(batch, self.roles, agreeing=True)
        step: dict[str, Any] = {}
        with torch.no_grad():
            for role in self.roles:
                pair = self._labelled(role, batch, evaluations)
                if pair is not None:
                    for kind in ("metrics", "losses"):
                        if role in sinks[kind]:
                            prefix = f"{stage}{index}_step/{role}_"
                            step |= sinks[kind][role](*pair, prefix=prefix)
            differences = self._differences(batch, evaluations)
            if differences is not None:
                energy, forces = differences
                sinks["agreement"]["energy_rmse"](energy.sqrt(), torch.zeros_like(energy))
                per_component = (forces / 3).sqrt()
                sinks["agreement"]["forces_rmse"](per_component, torch.zeros_like(forces))
        return step

    def on_validation_epoch_end(self) -> None:
        """Log every validation set's metrics and loss."""
        self._log_held_out("val")

    def on_test_epoch_end(self) -> None:
        """Log every test set's metrics and loss."""
        self._log_held_out("test")

    def _log_held_out(self, stage: str) -> None:
        for index in range(self.num_datasets[stage]):
            sinks, prefix = self.held_out[f"{stage}{index}"], f"{stage}{index}_epoch/"
            loss = torch.zeros((), dtype=torch.float64, device=self.device)
            for role in self.roles:
                if role in sinks["metrics"] and _updated(sinks["metrics"][role]):
                    self.log_dict(sinks["metrics"][role].compute(prefix=f"{prefix}{role}_"))
                    sinks["metrics"][role].reset()
                if role in sinks["losses"] and _updated(sinks["losses"][role]):
                    loss = loss + sinks["losses"][role].compute()["weighted_sum"]
                    sinks["losses"][role].reset()
            agreement = sinks["agreement"]
            if agreement["energy_rmse"].update_called:
                energy, forces = (agreement[f"{k}_rmse"].compute() for k in ("energy", "forces"))
                self.log(f"{prefix}agreement_energy_rmse", energy)
                self.log(f"{prefix}agreement_forces_rmse", forces)
                loss = loss + self.energy_agreement * energy**2
                loss = loss + 3 * self.force_agreement * forces**2
                for metric in agreement.values():
                    metric.reset()
            self.log(f"{prefix}loss", loss)


def _cutoffs(role: str) -> str:
    return f"{role}_cutoffs"


def _seen_pairs(role: str) -> str:
    return f"{role}_seen_pairs"


def _updated(metrics: nn.Module) -> bool:
    """Whether anything was added since the last reset: a set may hold no frame of an expert."""
    return any(isinstance(m, Metric) and m.update_called for m in metrics.modules())


def _frozen(freeze: str | Sequence[str], roles: tuple[str, ...]) -> frozenset[str]:
    frozen = frozenset([freeze] if isinstance(freeze, str) else freeze)
    unknown = frozen - set(roles)
    if unknown or frozen == set(roles):
        raise InputError(f"freeze: {sorted(frozen)} given; name one of {', '.join(roles)}")
    return frozen
