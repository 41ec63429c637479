"""The processes that train one network together, each on its share of every batch; usually there is one.

Data-parallel training with the batch that params ask for, however many processes share it: each makes the same batch,
runs its own rows through the network, and gradients are added up before the one step that all of them take. The shares
of a loss are parts of a sum over the whole batch, so that unequal and empty ones need no weights. `accelerate` sets the
group up: NCCL and a device per process where there are CUDA devices, else gloo.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor

from symbiosis.core.errors import InputError, is_out_of_memory

Value = TypeVar("Value")

WORKER = "SYMBIOSIS_TRAINING_WORKER"
"""Environment variable of a worker: its launcher."""

_BUCKET = 1 << 24
"""Numbers that are added up at once: a copy of so many gradients is held."""
PATIENCE = timedelta(days=7)
"""How long the others wait while the first process validates or builds; a process that died is noticed at once."""


class LostPeerError(RuntimeError):
    """Another process of the group is gone; whoever started the group tells why."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process and those it trains with.

    Attributes
    ----------
    rank
        Its number. The first one, 0, validates, logs, keeps the checkpoints and writes the outputs.
    size
        The number of processes.
    device
        Where this one trains. A process alone uses the CPU.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Return this process's share of the rows of a batch.

        Shares are disjoint, complete, and differ by at most one row; the first process has one of the largest. Rows
        are dealt out in turns, because neighbours in a batch are of like length.
        """
        return slice(self.rank, count, self.size)

    def seed(self, seed: int, step: int) -> None:
        """Seed torch for a step, so that each process drops out other units.

        Drawn from seed, step and rank alone: a checkpoint need not hold the generators of all processes. A process
        alone goes on with the generator it has.
        """
        if self.size > 1:
            digest = hashlib.sha256(f"{seed} {step} {self.rank}".encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:8], "little"))

    def add_up(self, loss: Tensor, weights: Iterable[Tensor]) -> float:
        """Add up the shares of a loss and of its gradients, in place, over the processes.

        Parameters
        ----------
        loss
            This process's share, after its backward pass.
        weights
            What is trained, in the same order in each process. A weight without gradient in any process stays without
            one, and the optimiser leaves it alone as it does in a process alone.

        Returns
        -------
        float
            The loss of the whole batch.

        Raises
        ------
        LostPeerError
            Another process is gone.
        """
        if self.size == 1:
            return loss.item()
        weights = [weight for weight in weights if weight.requires_grad]
        told = [loss.item(), *(float(weight.grad is not None) for weight in weights)]
        total = torch.tensor(told, dtype=torch.float64, device=self.device)
        with _noticing_loss():
            torch.distributed.all_reduce(total)
            whole, *users = total.tolist()
            gradients = []
            for weight, used in zip(weights, users, strict=True):
                if used:
                    weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                    gradients.append(weight.grad)
            for bucket in _buckets(gradients):
                flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
                torch.distributed.all_reduce(flat)
                parts = flat.split([gradient.numel() for gradient in bucket])
                for gradient, part in zip(bucket, parts, strict=True):
                    gradient.copy_(part.view_as(gradient))
        return float(whole)

    def from_first(self, value: Value) -> Value:
        """Return the first process's value in all processes; the others wait for it.

        Raises
        ------
        LostPeerError
            Another process is gone.
        """
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        with _noticing_loss():
            (told,) = broadcast_object_list([value])
        return told  # type: ignore[no-any-return]

    def require_same(self, value: object, what: str) -> None:
        """Make sure that all processes see the same.

        Parameters
        ----------
        value
            Compared with the first process's.
        what
            What it is, for the message.

        Raises
        ------
        InputError
            It differs, as where the nodes of a cluster do not share the folder.
        LostPeerError
            Another process is gone.
        """
        if self.from_first(value) != value:
            raise InputError(
                f"process {self.rank + 1} of {self.size} has another {what} than the first one: all nodes must share "
                "the folder that the training runs in"
            )


ALONE = ProcessGroup()


def environment_of_workers(launcher: str, threads: int) -> dict[str, str]:
    """Return the variables that make a process a worker.

    Parameters
    ----------
    launcher
        ``torchrun`` or ``ray``.
    threads
        Of each: all processes of a machine share its cores.
    """
    # cuBLAS has deterministic kernels only with a workspace of fixed size.
    return {WORKER: launcher, "OMP_NUM_THREADS": str(threads), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Join the group that a launcher describes by the variables of torchrun: ``RANK``, ``WORLD_SIZE`` and so on."""
    from accelerate import PartialState

    # Without the variable, accelerate warns and sets a number of threads of its own.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    with _noticing_loss():
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    try:
        yield ProcessGroup(state.process_index, state.num_processes, state.device)
    finally:
        state.destroy_process_group()


@contextmanager
def _noticing_loss() -> Iterator[None]:
    """Tell the failure of a connection from errors of the training."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise LostPeerError(str(error)) from error


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Group gradients, in their order, into lists of about `_BUCKET` numbers."""
    bucket: list[Tensor] = []
    held = 0
    for gradient in gradients:
        bucket.append(gradient)
        held += gradient.numel()
        if held >= _BUCKET:
            yield bucket
            bucket, held = [], 0
    if bucket:
        yield bucket
