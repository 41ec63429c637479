"""Data-parallel training: two processes make the steps of one, whatever their shares of the batches."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
import training_pair as pair
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.core.fingerprint import fingerprint
from symbiosis.core.params import read_document, validate_block
from symbiosis.recommender.training import launching, process_group
from symbiosis.recommender.training.params import FinetuneParams, PretrainParams, TrainingParams
from symbiosis.recommender.training.process_group import ALONE, ProcessGroup

ROUNDING = 2.0**-24
"""Largest relative error of one float32 operation."""
SUMMED = 4096
"""More than the numbers that any one gradient is a sum of here: rows times positions times width."""
STEPS = 20
"""More than any of these trainings takes."""
TOLERANCE = SUMMED**0.5 * ROUNDING * STEPS
"""Errors of a sum in another order grow with the root of its length, and over the steps they at most add up."""
LARGEST_RATE = 3e-2
"""Of the gates: a weight moves by no more at a step, and so by `TOLERANCE` times that otherwise in all steps."""
PRINTED = 1e-6
"""Curves have six decimals."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have trained, one after a single process had left a state."""
    folder = tmp_path_factory.mktemp("pair")
    pair.killed(ALONE, folder / "left_alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(pair.FOLDER, str(folder))
        patch.setenv("PYTHONPATH", str(Path(pair.__file__).parent))
        for name in (
            process_group.WORKER,
            "OMP_NUM_THREADS",
            "CUBLAS_WORKSPACE_CONFIG",
            "GLOO_SOCKET_IFNAME",
            "NCCL_SOCKET_IFNAME",
            "TORCHELASTIC_SIGNALS_TO_HANDLE",
        ):
            patch.setenv(name, "")  # so that what the launcher sets ends with this fixture
            patch.delenv(name)
        launching.run_here("training_pair", 2)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pair.Trained]:
    """What a single process trains, without dropout."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        "finetuned": pair.finetuned(ALONE, folder / "1"),
        "pretrained": pair.pretrained(ALONE, folder / "2"),
        "pretrained_on_documents": pair.pretrained(ALONE, folder / "3", interactions="documents", patience=None),
    }


def read(folder: Path, name: str) -> pair.Trained:
    return load_file(folder / name / "weights.safetensors"), json.loads((folder / name / "curve.json").read_text())


def assert_close(found: pair.Trained, wanted: pair.Trained) -> None:
    """Compare losses and weights; the key's biases, which change no score, have a gradient of rounding errors alone."""
    assert len(found[1]) == len(wanted[1]) > 0
    for row, other in zip(found[1], wanted[1], strict=True):
        assert row == pytest.approx(other, rel=TOLERANCE, abs=PRINTED)
    width = wanted[0]["backbone.wpe.weight"].shape[1]
    for name, tensor in wanted[0].items():
        difference = (found[0][name].double() - tensor.double()).abs()
        if name.endswith("c_attn.bias"):
            difference[width : 2 * width] = 0
        assert difference.max() <= LARGEST_RATE * TOLERANCE, name


@given(st.integers(0, 300), st.integers(1, 20))
def test_shares_are_disjoint_and_complete_and_differ_by_at_most_one_row(count: int, size: int) -> None:
    shares = [range(count)[ProcessGroup(rank, size).rows(count)] for rank in range(size)]
    assert sorted(row for share in shares for row in share) == list(range(count))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1
    assert lengths[0] == max(lengths)


@pytest.mark.parametrize("stage", ["finetuned", "pretrained", "pretrained_on_documents"])
def test_two_processes_train_as_one(stage: str, folder: Path, alone: dict[str, pair.Trained]) -> None:
    assert_close(read(folder, stage), alone[stage])


def test_a_state_of_one_process_is_resumed_by_two(folder: Path, alone: dict[str, pair.Trained]) -> None:
    assert_close(read(folder, "alone_then_together"), alone["finetuned"])


def test_a_state_of_two_processes_is_resumed_by_one(folder: Path, alone: dict[str, pair.Trained]) -> None:
    assert_close(pair.finetuned(ALONE, folder / "left_together"), alone["finetuned"])


def test_two_processes_resume_to_the_byte(folder: Path, alone: dict[str, pair.Trained]) -> None:
    """With dropout, whose generators no state holds."""
    straight, resumed = read(folder, "with_dropout"), read(folder, "with_dropout_resumed")
    assert resumed[1] == straight[1] != alone["finetuned"][1]
    assert all(torch.equal(resumed[0][name], tensor) for name, tensor in straight[0].items())


def test_a_killed_pretraining_ends_with_the_same_bytes(alone: dict[str, pair.Trained], tmp_path: Path) -> None:
    weights, curve = alone["pretrained"]
    assert {"content_loss", "interaction_loss", "score"} <= set(curve[0])
    for kill_at in (3, curve[0]["step"] + 2):  # before the first validation and after it
        folder = tmp_path / str(kill_at)
        with pytest.raises(pair.Killed):
            pair.pretrained(ALONE, folder, int(kill_at))
        resumed = pair.pretrained(ALONE, folder)
        assert resumed[1] == curve
        assert all(torch.equal(resumed[0][name], tensor) for name, tensor in weights.items())


def test_each_process_drops_out_other_units_at_each_step() -> None:
    drawn = set()
    for rank in range(2):
        for step in range(3):
            ProcessGroup(rank, 2).seed(5, step)
            drawn.add(float(torch.rand(())))
    assert len(drawn) == 6


@pytest.mark.parametrize(("block", "model"), [("pretrain", PretrainParams), ("finetune", FinetuneParams)])
def test_the_fingerprint_does_not_depend_on_the_processes(block: str, model: type[TrainingParams]) -> None:
    params = validate_block(read_document(), block, model)

    def mark(**change: object) -> str:
        return fingerprint(process_group.__file__, params.model_copy(update=change), [])

    assert mark() == mark(processes=3) == mark(launcher="ray") != mark(seed=params.seed + 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"processes": 0}, "greater than or equal to 1"),
        ({"processes": 1.5}, "valid integer"),
        ({"processes": "two"}, "valid integer"),
        ({"launcher": "mpi"}, "'torchrun' or 'ray'"),
    ],
)
def test_bad_values_are_refused(change: dict[str, object], told: str) -> None:
    document = read_document()
    block = document["finetune"]
    assert isinstance(block, dict)
    (key,) = change
    with pytest.raises(InputError, match=f"`finetune.{key}`: .*{told}"):
        validate_block(document | {"finetune": block | change}, "finetune", FinetuneParams)


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="`processes` 3 is more than the 2 CUDA devices"):
        launching.run_here("unused", 3)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in (
        "RAY_USAGE_STATS_ENABLED",
        "RAY_TRAIN_V2_ENABLED",
        "RAY_TRAIN_ENABLE_PRINT_PATCH",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S",
        "RAY_worker_niceness",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    ):
        monkeypatch.setenv(name, "")
    params = pair.FINETUNE.model_copy(update={"processes": 2, "launcher": "ray"})
    with pytest.raises(InputError, match=r"`launcher: ray` needs more packages .*\.\[ray\]"):
        launching.train_together("unused", params, params, lambda group: None)


def failure(rank: int, status: int) -> ProcessFailure:
    return ProcessFailure(local_rank=rank, pid=1, exitcode=status, error_file="")


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ({0: -signal.SIGTERM, 1: -signal.SIGKILL}, r"process 2 of the 2 that trained was killed \(SIGKILL\)"),
        ({0: launching.LOST, 1: -signal.SIGSEGV}, r"process 2 of the 2 that trained was killed \(SIGSEGV\)"),
        ({0: -signal.SIGTERM, 1: -signal.SIGTERM}, r"process 1 of the 2 that trained was killed \(SIGTERM\)"),
        ({0: launching.LOST, 1: 1}, "process 2 of the 2 that trained failed, see above"),
        ({1: launching.LOST}, "process 2 of the 2 that trained lost another one"),
    ],
)
def test_the_cause_is_told_not_its_consequences(statuses: dict[int, int], told: str) -> None:
    failures = {rank: failure(rank, status) for rank, status in statuses.items()}
    assert re.match(told, str(launching.why(failures, 2)))


def test_what_a_worker_leaves_is_told(tmp_path: Path) -> None:
    left = tmp_path / "error.json"
    write_json(left, {"message": "params.yaml: `x` is wrong", "timestamp": 1})
    failures = {
        0: failure(0, -signal.SIGTERM),
        1: ProcessFailure(local_rank=1, pid=1, exitcode=1, error_file=str(left)),
    }
    assert str(launching.why(failures, 2)) == "params.yaml: `x` is wrong"
