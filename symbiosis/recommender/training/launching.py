"""Run a training in several processes: those of torchrun on this machine, or of Ray on a cluster.

A stage with ``processes: 1`` trains in the process that it is. With more it starts workers that run the same stage, and
waits; the workers find each other by the variables of torchrun. Whatever the launcher is, the first worker does all
that a stage does, and the others train only and print nothing.
"""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from symbiosis.core.errors import InputError
from symbiosis.core.params import StageParams
from symbiosis.recommender.training.params import TrainingParams
from symbiosis.recommender.training.process_group import (
    ALONE,
    WORKER,
    LostPeerError,
    ProcessGroup,
    environment_of_workers,
    joined,
)

TRACKING = "SYMBIOSIS_TRACKING"

_LOST = 75
"""Exit status of a worker that ended because another one was gone."""
_SHUTDOWN_S = 10
"""How long workers may take to end before they are killed."""
_KEPT = "the newest checkpoint is kept: run the stage again to go on"


def train_together(
    module: str, params: StageParams, training: TrainingParams, train: Callable[[ProcessGroup], None]
) -> None:
    """Train in as many processes as params ask for.

    Parameters
    ----------
    module
        The stage, as ``stages.pretrain``: workers run it, or its `work`.
    params
        Of the stage.
    training
        The block with the number of processes and the launcher.
    train
        The training proper: called in each process with its group.

    Raises
    ------
    InputError
        A worker failed or was killed, or they cannot be started.
    """
    if os.environ.get(WORKER):
        with joined() as group, _quiet(group):
            train(group)
    elif training.processes == 1:
        train(ALONE)
    elif training.launcher == "ray":
        from symbiosis.recommender.training.ray_workers import run_on_ray

        run_on_ray(module, params, training.processes)
    else:
        _run_here(module, training.processes)


@contextmanager
def _quiet(group: ProcessGroup) -> Iterator[None]:
    """Let the first worker alone print and record curves; one that lost another ends without a traceback."""
    if not group.leads:
        os.environ[TRACKING] = "off"
    try:
        yield
    except LostPeerError:
        if os.environ[WORKER] == "torchrun":
            raise SystemExit(_LOST) from None
        raise


def _run_here(module: str, processes: int) -> None:
    """Start the workers by torchrun's launcher, and wait."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    devices = torch.cuda.device_count()
    if 0 < devices < processes:
        raise InputError(
            f"params.yaml: `processes` {processes} is more than the {devices} CUDA devices of this machine: lower it, "
            "or hide the devices by CUDA_VISIBLE_DEVICES to train on the CPU"
        )
    os.environ |= environment_of_workers("torchrun", max(1, torch.get_num_threads() // processes))
    # Nothing of a training on one machine leaves it.
    loopback = "lo" if sys.platform == "linux" else "lo0"
    os.environ |= {name: os.environ.get(name, loopback) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    logging.disable(logging.CRITICAL)  # the launcher's own account of a failure, many lines
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    with tempfile.TemporaryDirectory(prefix="symbiosis-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="symbiosis",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            monitor_interval=0.1,
            shutdown_timeout=_SHUTDOWN_S,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=dict.fromkeys(range(1, processes), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", module)
        except SignalException as error:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            os.kill(os.getpid(), error.sigval)
        except ChildFailedError as error:
            statuses = {rank: failure.exitcode for rank, failure in error.failures.items()}
            raise _told(statuses, processes, Path(logs)) from None
        finally:
            logging.disable(logging.NOTSET)


def _told(statuses: dict[int, int], processes: int, logs: Path) -> BaseException:
    """Return what ends the stage: the error of the worker that failed first, told once.

    Parameters
    ----------
    statuses
        Exit status of each worker that did not succeed; negative: the signal that killed it.
    processes
        The number of workers.
    logs
        Holds what all but the first have printed.
    """
    # The launcher ends the others by SIGTERM, and who loses a peer ends by itself.
    causes = {rank: status for rank, status in statuses.items() if status not in (-signal.SIGTERM, _LOST)} or statuses
    rank, status = min(causes.items())
    if status < 0:
        return InputError(
            f"process {rank + 1} of the {processes} that trained was killed ({signal.Signals(-status).name}); {_KEPT}"
        )
    if rank == 0 and status != _LOST:  # it has printed why
        return SystemExit(status)
    printed = "".join(path.read_text(errors="replace") for path in logs.rglob(f"{rank}/stderr.log")).strip()
    last = printed.rpartition("\n")[2]
    if last.startswith("error: "):
        return InputError(last.removeprefix("error: "))
    if status == _LOST:
        return InputError(f"the {processes} processes that trained lost each other; {_KEPT}")
    print(printed, file=sys.stderr)
    return InputError(f"process {rank + 1} of the {processes} that trained failed; {_KEPT}")
