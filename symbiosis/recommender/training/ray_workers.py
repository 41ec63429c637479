"""Run a training in workers of a Ray cluster, on one node or several, by Ray's `TorchTrainer`.

Workers train as those of torchrun do. Where one dies, Ray starts all of them anew, and they go on from the newest
checkpoint: on several nodes, the folder that the stage runs in must be shared.
"""

import importlib
import logging
import os
import shutil
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from symbiosis.core.errors import InputError, one_line
from symbiosis.core.params import StageParams
from symbiosis.recommender.training.process_group import LostPeerError, environment_of_workers

ADDRESS = "RAY_ADDRESS"
"""Environment variable: the cluster to train on; without it one is started on this machine, for this training."""

_RESTARTS = 3
"""How often workers may die before the stage gives up."""
_OBJECTS = 200 << 20
"""Bytes of shared memory of a cluster of our own: nothing large passes through it."""
_STORAGE = Path(".checkpoints") / "ray"
"""Where Ray writes its account of a run."""


def run_on_ray(module: str, params: StageParams, processes: int) -> None:
    """Train in workers of a Ray cluster, and wait.

    Parameters
    ----------
    module
        The stage, whose `work` each of them calls.
    params
        Its params.
    processes
        The number of workers.

    Raises
    ------
    InputError
        Ray is not installed, a worker told bad input, or workers died too often.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_V2_ENABLED": "1"}
    try:
        import ray
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise InputError(
            f'params.yaml: `launcher: ray` needs more packages ({error}): pip install -c requirements.lock ".[ray]"'
        ) from None
    if os.environ.get(ADDRESS):
        ray.init(logging_level=logging.WARNING)
    else:
        cores = max(processes, os.cpu_count() or 1)
        ray.init(
            "local",
            num_cpus=cores,
            object_store_memory=_OBJECTS,
            include_dashboard=False,
            logging_level=logging.WARNING,
        )
    storage = _STORAGE.resolve()
    trainer = TorchTrainer(
        _work,
        train_loop_config={"module": module, "params": params, "folder": str(Path.cwd())},
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=ray.cluster_resources().get("GPU", 0) >= processes),
        run_config=RunConfig(  # type: ignore[call-arg]
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=_RESTARTS),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _told(error) from None
    finally:
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)


def _work(config: dict[str, Any]) -> None:
    """Do the work of a stage in a worker."""
    os.chdir(config["folder"])
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"]))
    torch.set_num_threads(threads)
    os.environ |= environment_of_workers("ray", threads)
    with ExitStack() as stack:
        if os.environ["RANK"] != "0":
            nowhere = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        importlib.import_module(config["module"]).work(config["params"])


def _told(error: Exception) -> InputError:
    """Return what a worker told, or else what Ray does."""
    failures = getattr(error, "worker_failures", {})
    causes = [failure for _, failure in sorted(failures.items()) if not isinstance(failure, LostPeerError)]
    for cause in causes:
        if isinstance(cause, InputError):
            return InputError(str(cause))
    told = one_line(next(iter(causes), error), 500)
    return InputError(
        f"the training on Ray was given up after {_RESTARTS} restarts ({told}); the newest checkpoint is kept: run the "
        "stage again to go on"
    )
