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
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError, is_out_of_memory, no_memory
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

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

TRACKING = "SYMBIOSIS_TRACKING"

LOST = 75
"""Exit status of a worker that ended because another one was gone."""
_SHUTDOWN_S = 10
"""How long workers may take to end before they are killed."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""That torchrun's launcher takes over."""
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
        with joined() as group, _as_worker(group):
            train(group)
    elif training.processes == 1:
        train(ALONE)
    elif training.launcher == "ray":
        from symbiosis.recommender.training.ray_workers import run_on_ray

        run_on_ray(module, params, training.processes)
    else:
        run_here(module, training.processes)


@contextmanager
def _as_worker(group: ProcessGroup) -> Iterator[None]:
    """Let the first worker alone print and record curves; leave it to the launcher to tell what went wrong."""
    with ExitStack() as stack:
        if not group.leads:
            os.environ[TRACKING] = "off"
            nowhere = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        try:
            yield
        except Exception as error:
            if os.environ[WORKER] != "torchrun":  # Ray hands it over as it is
                raise
            raise SystemExit(_left(error)) from None


def _left(error: Exception) -> int:
    """Leave an error for torchrun's launcher, or its traceback in the log; return the exit status."""
    if isinstance(error, LostPeerError):
        return LOST
    if isinstance(error, InputError | OSError) or is_out_of_memory(error):
        message = no_memory(error) if is_out_of_memory(error) else str(error)
        write_json(os.environ["TORCHELASTIC_ERROR_FILE"], {"message": message, "timestamp": int(time.time())})
    else:
        traceback.print_exc(file=sys.__stderr__)
    return 1


def run_here(module: str, processes: int) -> None:
    """Start workers on this machine by torchrun's launcher, and wait; a signal that ends this process ends them, too.

    Parameters
    ----------
    module
        What each of them runs, as ``python -m MODULE``.
    processes
        The number of workers.

    Raises
    ------
    InputError
        A worker failed or was killed, or there are fewer CUDA devices than workers.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
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
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = [number.name for number, handler in handlers.items() if handler != signal.SIG_IGN]  # `nohup` ignores one
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
            signals_to_handle=",".join(heeded),
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        ended: BaseException | None = None
        try:
            elastic_launch(config, sys.executable)("-m", module)
        except SignalException as error:
            ended = KeyboardInterrupt() if error.sigval == signal.SIGINT else _SignalledError(error.sigval)
        except ChildFailedError as error:
            ended = why(error.failures, processes)
        finally:
            logging.disable(logging.NOTSET)
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if isinstance(ended, _SignalledError):
        os.kill(os.getpid(), ended.number)  # as a stage without workers would have ended
    if ended:
        raise ended


class _SignalledError(Exception):
    """A signal asked the launcher to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


def why(failures: "dict[int, ProcessFailure]", processes: int) -> InputError:
    """Return what ends the stage: why the worker failed that failed first.

    Parameters
    ----------
    failures
        Of each worker that did not succeed, by rank.
    processes
        The number of workers.
    """
    for _, failure in sorted(failures.items()):
        if Path(failure.error_file).is_file():
            return InputError(str(failure.error_file_data["message"]))
    # The launcher ends the others by SIGTERM, and who loses a peer ends by itself.
    statuses = {rank: failure.exitcode for rank, failure in sorted(failures.items())}
    causes = {rank: status for rank, status in statuses.items() if status not in (-signal.SIGTERM, LOST)} or statuses
    rank, status = next(iter(causes.items()))
    who = f"process {rank + 1} of the {processes} that trained"
    if status < 0:
        return InputError(f"{who} was killed ({signal.Signals(-status).name}); {_KEPT}")
    if status == LOST:
        return InputError(f"{who} lost another one; {_KEPT}")
    return InputError(f"{who} failed, see above; {_KEPT}")
