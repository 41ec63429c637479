"""Run a training in workers of a Ray cluster, on one node or several, by Ray's `TorchTrainer`.

Workers train as those of torchrun do. Where one dies, Ray starts all of them anew, and they go on from the newest
checkpoint: on several nodes, the folder that the stage runs in must be shared.
"""

import importlib
import logging
import os
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from symbiosis.core.errors import InputError, one_line
from symbiosis.core.params import StageParams
from symbiosis.recommender.training.process_group import PATIENCE, LostPeerError, environment_of_workers

ADDRESS = "RAY_ADDRESS"
"""Environment variable: the cluster to train on; without it one is started on this machine, for this training."""

_RESTARTS = 3
"""How often workers may die before the stage gives up."""
_OBJECTS = 200 << 20
"""Bytes of shared memory of a cluster of our own: nothing large passes through it."""
_STORAGE = Path(".checkpoints") / "ray"
"""Where Ray writes its account of a run, by stage."""
_ERROR = "error.txt"
"""What is wrong with the input, there."""
_PRINTED = "printed.txt"
"""What the first worker prints, there; shown at the end. `tail -f` shows the progress."""


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
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_V2_ENABLED": "1", "RAY_TRAIN_ENABLE_PRINT_PATCH": "0"}
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")  # a busy machine takes long to import torch
    own = not os.environ.get(ADDRESS)
    if own:
        os.environ.setdefault("RAY_worker_niceness", "0")  # workers of a cluster of our own give way to nobody
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # despite its name: listen on loopback alone
    try:
        import ray
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise InputError(
            f'params.yaml: `launcher: ray` needs more packages ({error}): pip install -c requirements.lock ".[ray]"'
        ) from None
    # Its own account of a run, without a dashboard mostly complaints, goes into its logs alone.
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if own:
        cores = max(processes, os.cpu_count() or 1)
        ray.init("local", num_cpus=cores, object_store_memory=_OBJECTS, include_dashboard=False, **quiet)
    else:
        ray.init(**quiet)
    storage = (_STORAGE / module).resolve()
    shutil.rmtree(storage, ignore_errors=True)
    storage.mkdir(parents=True)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"module": module, "params": params, "folder": str(Path.cwd()), "storage": storage},
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=ray.cluster_resources().get("GPU", 0) >= processes),
        # As long as the others wait while the first one validates.
        torch_config=TorchConfig(timeout_s=int(PATIENCE.total_seconds())),
        run_config=RunConfig(  # type: ignore[call-arg]
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=_RESTARTS),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    failed = None
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        failed = _given_up(error)
    finally:
        told, printed = (_text(storage / name) for name in (_ERROR, _PRINTED))
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)
    if told:
        raise InputError(told)
    if failed:
        raise failed
    sys.stdout.write(printed)


def _text(path: Path) -> str:
    """Return what a file holds, nothing if there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _work(config: dict[str, Any]) -> None:
    """Do the work of a stage in a worker."""
    os.chdir(config["folder"])
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"]))
    torch.set_num_threads(threads)
    os.environ |= environment_of_workers("ray", threads)
    storage: Path = config["storage"]
    printed = storage / _PRINTED if os.environ["RANK"] == "0" else Path(os.devnull)
    with printed.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            # The stage that the driver runs: it is where this code was called from, and no dependency of it.
            importlib.import_module(config["module"]).work(config["params"])
        except InputError as error:  # Ray would try again
            (storage / _ERROR).write_text(str(error), encoding="utf-8")


def _given_up(error: Exception) -> InputError:
    """Return what ends the stage after too many restarts: the first failure that is not the loss of another worker."""
    failures = [
        getattr(cause, "_base_exc", cause) for _, cause in sorted(getattr(error, "worker_failures", {}).items())
    ]
    causes = [cause for cause in failures if not isinstance(cause, LostPeerError)]
    told = one_line(next(iter(causes or failures), error), 500)
    return InputError(
        f"the training on Ray was given up after {_RESTARTS} restarts ({told}); the newest checkpoint is kept: run the "
        "stage again to go on"
    )
