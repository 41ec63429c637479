"""One training loop for pre-training and fine-tuning: seeded, resumable to the byte, with loss curves."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from symbiosis.core.progress import tqdm
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.params import TrainingParams
from symbiosis.recommender.training.process_group import ProcessGroup
from symbiosis.recommender.training.torch_setup import prepare_torch

Row = dict[str, float]

_SCALAR_RATE = 10
"""Learning rate of the graph's scalars in that of the backbone: they start at 0 and end near 1, weights near 0."""


class Task(Protocol):
    """What is trained: batches and their loss.

    Attributes
    ----------
    group
        The processes that share the batches.
    """

    group: ProcessGroup

    def batches(self, epoch: int) -> Sequence[Any]:
        """Return the batches of an epoch; the same for the same epoch, whatever ran before."""

    def loss(self, batch: Any) -> tuple[str, Tensor]:
        """Return this process's share of the loss of a batch, and the name of its curve.

        The shares of all processes add up to the loss of the whole batch.
        """

    def validate(self) -> Row:
        """Return metrics after an epoch, among them ``score`` (larger is better)."""


class OptimiserParams(Protocol):
    """What the loop reads of a stage's block of ``params.yaml``."""

    @property
    def seed(self) -> int:
        """Of batches and dropout."""

    @property
    def learning_rate(self) -> float:
        """Peak rate."""

    @property
    def warmup_share(self) -> float:
        """Share of the steps spent warming up."""

    @property
    def precision(self) -> str:
        """Of the forward pass, ``float32`` or ``bfloat16``."""


@dataclass(frozen=True)
class Schedule:
    """Length of one training run and its optimiser settings.

    Attributes
    ----------
    params
        Optimiser settings and seed: the stage's block of ``params.yaml``.
    epochs
        Maximum number of epochs.
    steps
        Steps of all epochs together, for the learning rate: linear warm-up, then half a cosine down to zero.
    patience
        Validate after every epoch, stop after this many without a better ``score`` and end with the best weights;
        None: nothing is validated.
    """

    params: OptimiserParams
    epochs: int
    steps: int
    patience: int | None = None

    def factor(self, step: int) -> float:
        """Return the share of the peak learning rate at a step, counted from 0."""
        warmup = max(1, round(self.params.warmup_share * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, self.steps - warmup))))


def fit(
    model: nn.Module,
    task: Task,
    schedule: Schedule,
    checkpoints: Checkpoints,
    log: Callable[[Row, int], None],
    description: str,
    weights: Sequence[dict[str, Any]] | None = None,
) -> list[Row]:
    """Train a model in place; with a validating task it ends with the weights of the best epoch.

    The curve has a row an epoch, or, where nothing is validated, one every hundredth of the steps.

    A run that was killed continues from its newest checkpoint and ends with the same bytes as one that was not: the
    batches depend on seed and epoch only, and the state holds weights, moments, generator and curve. Another number of
    processes may go on with it.

    Parameters
    ----------
    model
        Trained in place.
    task
        Batches and loss, and the processes that share them: all run this function. The first one alone validates,
        keeps states, and ends with the weights of the best epoch.
    schedule
        Optimiser settings.
    checkpoints
        Where states are kept.
    log
        Called with metrics and step after every row of the curve; it must not raise.
    description
        Shown beside the progress bar.
    weights
        Groups of parameters, each with its ``peak`` learning rate and its ``weight_decay``; those of the language model
        if not given.

    Returns
    -------
    list of dict
        The curve: ``epoch, step``, the mean losses since the last row, and the metrics of `Task.validate`.
    """
    group = task.group
    prepare_torch(schedule.params.seed)
    model.to(group.device).train()
    if weights is None:
        assert isinstance(model, GraphGPT2)
        assert isinstance(schedule.params, TrainingParams)
        weights = _weights_of(model, schedule.params)
    optimiser = torch.optim.AdamW(weights, lr=schedule.params.learning_rate, betas=(0.9, 0.98), fused=True)
    progress: dict[str, Any] = {"epoch": 0, "batch": 0, "step": 0, "losses": {}, "curve": [], "best": None}
    best: dict[str, Tensor] = {}
    if state := checkpoints.load():
        tensors, progress = state
        best = _restore(model, optimiser, tensors)
        tqdm.write(f"{description}: continues from step {progress['step']}", file=sys.stderr)
    group.require_same(progress["step"], "checkpoint")
    validates = schedule.patience is not None
    bar = tqdm(total=schedule.steps, initial=progress["step"], desc=description, unit="step", dynamic_ncols=True)
    while progress["epoch"] < schedule.epochs and not _exhausted(progress, schedule.patience):
        batches = task.batches(progress["epoch"])
        for batch in batches[progress["batch"] :]:
            for part in optimiser.param_groups:
                part["lr"] = part["peak"] * schedule.factor(progress["step"])
            optimiser.zero_grad(set_to_none=True)
            group.seed(schedule.params.seed, progress["step"])
            with torch.autocast(group.device.type, torch.bfloat16, enabled=schedule.params.precision == "bfloat16"):
                name, loss = task.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            value = group.add_up(loss, model.parameters())
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            progress["step"] += 1
            progress["batch"] += 1
            progress["losses"].setdefault(name, []).append(value)
            bar.update()
            if not validates and progress["step"] % max(1, schedule.steps // 100) == 0:
                _add_row(progress, {}, log, bar)
            if group.leads and checkpoints.due() and progress["batch"] < len(batches):
                checkpoints.save(_tensors(model, optimiser, best), progress)
        if validates:
            metrics = group.from_first(validated(model, task) if group.leads else {})
            if progress["best"] is None or metrics["score"] > progress["best"]["score"]:
                progress["best"] = {"score": metrics["score"], "epoch": progress["epoch"] + 1}
                if group.leads:
                    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            _add_row(progress, metrics, log, bar)
        progress |= {"epoch": progress["epoch"] + 1, "batch": 0}
        if group.leads and checkpoints.due():
            checkpoints.save(_tensors(model, optimiser, best), progress)
    bar.close()
    model.cpu()
    if best:
        model.load_state_dict(best)
    return list(progress["curve"])


def _add_row(progress: dict[str, Any], metrics: Row, log: Callable[[Row, int], None], bar: tqdm) -> None:
    """Add a row to the curve, its losses the means since the last one."""
    losses = {name: round(sum(values) / len(values), 6) for name, values in progress["losses"].items()}
    progress["losses"] = {}
    progress["curve"].append({"epoch": progress["epoch"] + 1, "step": progress["step"]} | losses | metrics)
    log(losses | metrics, progress["step"])
    bar.set_postfix({name: f"{value:.4g}" for name, value in (losses | metrics).items()})


def validated(model: nn.Module, task: Task) -> Row:
    """Metrics of the model as it is, on the CPU, the generator left as it was."""
    generator = torch.get_rng_state()
    model.cpu().eval()
    with torch.no_grad():
        metrics = task.validate()
    model.to(task.group.device).train()
    torch.set_rng_state(generator)
    return metrics


def _exhausted(progress: dict[str, Any], patience: int | None) -> bool:
    best = progress["best"]
    return patience is not None and best is not None and progress["epoch"] - best["epoch"] >= patience


def _weights_of(model: GraphGPT2, params: TrainingParams) -> list[dict[str, Any]]:
    """Group the weights of the language model: ID embeddings, other matrices, vectors and the graph's scalars.

    The last two do not decay. What is frozen is in no group: its weights would decay.
    """
    ids = [*model.content.parameters(), *model.collaborative.parameters()]
    scalars = [model.gates, *model.scalars.parameters()]
    listed = {id(p) for p in [*ids, *scalars]}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in listed]
    matrices, vectors = [p for p in others if p.dim() >= 2], [p for p in others if p.dim() < 2]
    return [
        {"params": ids, "peak": params.id_learning_rate, "weight_decay": params.weight_decay},
        {"params": matrices, "peak": params.learning_rate, "weight_decay": params.weight_decay},
        {"params": vectors, "peak": params.learning_rate, "weight_decay": 0.0},
        {"params": scalars, "peak": _SCALAR_RATE * params.learning_rate, "weight_decay": 0.0},
    ]


def _tensors(model: nn.Module, optimiser: torch.optim.AdamW, best: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything that a continued run needs, by flat names."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{key}": torch.as_tensor(value) for key, value in state.items()}
    return tensors | {"generator": torch.get_rng_state()}


def _restore(model: nn.Module, optimiser: torch.optim.AdamW, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put a state back; return the best weights so far."""

    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    model.load_state_dict(below("model."))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in below("optimiser.").items():
        number, key = name.split(".", 1)
        states.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": states})
    torch.set_rng_state(tensors["generator"])
    return below("best.")
