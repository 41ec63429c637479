"""The recommender's training stages: killed, resumed, and the same to the byte; what they leave."""

import hashlib
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from symbiosis.core import layout
from symbiosis.core.artifacts import read_json, sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document, validate_block
from symbiosis.graph.build import Graph
from symbiosis.params import BLOCKS
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.evaluation.evaluation import check_measurable
from symbiosis.recommender.evaluation.report import read_curve
from symbiosis.recommender.inference.loading import load_scorer
from symbiosis.recommender.inference.recommender import Recommender
from symbiosis.recommender.metrics.ranking import rank_all, without
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.final_fit import BUNDLE

ROOT = Path(__file__).resolve().parents[2]
USERS, ITEMS = 40, 24


def stage(name: str, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"SYMBIOSIS_TRACKING": "off", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def run_here(name: str, folder: Path) -> str:
    """Run a stage in this process, which spares the seconds of a start, and return what it printed."""
    spec = importlib.util.spec_from_file_location(f"copied_{name}", folder / f"stages/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)  # with the path of the workspace, to which fingerprints refer
    spec.loader.exec_module(module)
    params = validate_block(read_document(folder / "params.yaml"), name, BLOCKS[name])
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        patch.setenv("SYMBIOSIS_TRACKING", "off")
        module.work(params)
    return printed.getvalue()


def digest(folder: Path) -> dict[str, str]:
    files = [*folder.glob("models/finetune/*"), folder / "reports/curves/finetune.csv"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a tiny cleaned data set, run up to `pretrain`.

    The held-out files come into being after that: nothing that is trained on can depend on them.
    """
    folder = tmp_path_factory.mktemp("workspace")
    for code in ("symbiosis", "stages"):
        shutil.copytree(ROOT / code, folder / code, ignore=shutil.ignore_patterns("__pycache__"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["rerank"] |= {"candidates": 9, "rivals": 8, "targets": 1, "epochs": 1}
    params["pretrain"] |= {
        "scratch": {"vocabulary": 320, "width": 16, "layers": 1, "heads": 2},
        "content_epochs": 1,
        "interaction_epochs": 1,
        "maximum_length": 96,
    }
    params["finetune"] |= {"epochs": 6, "users_per_batch": 8, "checkpoint_seconds": 0, "maximum_items": 16}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    rng = np.random.default_rng(0)
    clean = folder / "data/clean"
    clean.mkdir(parents=True)
    pl.DataFrame({"user": np.arange(USERS, dtype=np.uint32), "user_id": [f"U{u}" for u in range(USERS)]}).write_parquet(
        clean / "users.parquet"
    )
    pl.DataFrame(
        {
            "item": np.arange(ITEMS, dtype=np.uint32),
            "item_id": [f"I{i}" for i in range(ITEMS)],
            "title": [f"thing {i}" for i in range(ITEMS)],
            "brand": [f"brand {i % 3}" for i in range(ITEMS)],
            "categories": [[f"kind {i % 4}"] for i in range(ITEMS)],
            "description": [None] * ITEMS,
        },
        schema_overrides={"description": pl.String},
    ).write_parquet(clean / "items.parquet")
    taken = [rng.permutation(ITEMS)[:7] for _ in range(USERS)]

    def write(part: str, columns: slice) -> None:
        rows = [(user, int(item)) for user in range(USERS) for item in taken[user][columns]]
        frame = pl.DataFrame(rows, schema={"user": pl.UInt32, "item": pl.UInt32}, orient="row").with_columns(
            rating=pl.lit(5.0, pl.Float32), timestamp=pl.lit(1, pl.Int64)
        )
        if part == "train":
            frame = frame.with_columns(review=pl.lit("a good thing of that kind"))
        frame.sort("user", "item").write_parquet(clean / f"{part}.parquet")
        if part == "train":
            frame.select("user", "item").write_parquet(clean / "graph.parquet")

    write_json(clean / layout.PROTOCOL.name, {"protocol": "random"})
    write("train", slice(0, 5))
    for name in ("build_graph", "shortest_paths", "corpus", "embed_items", "propagation", "pretrain"):
        run_here(name, folder)
    write("validation", slice(5, 6))
    write("test", slice(6, 7))
    return folder


def test_finetune_killed_and_run_again_gives_the_same_bytes(workspace: Path) -> None:
    finish(stage("finetune", workspace))
    straight = digest(workspace)
    assert set(straight) == {"model.safetensors", "config.json", "tokenizer.json", "training.json", "finetune.csv"}
    for file in workspace.glob("models/finetune/*"):
        file.unlink()

    process = stage("finetune", workspace)
    deadline = time.monotonic() + 120
    while not list(workspace.glob(".checkpoints/finetune/*/step_00000000[3-9]")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(workspace.glob("models/finetune/*"))

    assert "continues from step" in finish(stage("finetune", workspace))
    assert digest(workspace) == straight
    assert not list(workspace.glob(".checkpoints/finetune/*/*"))


@pytest.fixture(scope="module")
def finetuned(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace whose best epoch is not the last: of what is left, users take what nobody took."""
    folder = tmp_path_factory.mktemp("finetuned") / "workspace"
    shutil.copytree(workspace, folder)
    train, test = (read_matrix(folder / part, (USERS, ITEMS)).toarray() for part in (layout.TRAIN, layout.TEST))
    unpopular = np.where(train + test > 0, np.inf, train.sum(axis=0)).argmin(axis=1)
    frame = pl.read_parquet(folder / layout.VALIDATION).sort("user")
    frame.with_columns(item=pl.Series(unpopular, dtype=pl.UInt32)).write_parquet(folder / layout.VALIDATION)
    run_here("finetune", folder)
    run_here("rerank", folder)
    assert 0 < read_json(folder / layout.FINETUNED / "training.json")["best"]["epoch"] < 6
    return folder


@contextmanager
def params_of(folder: Path, **blocks: dict[str, object]) -> Iterator[None]:
    """Other values in params.yaml, for a while."""
    path = folder / "params.yaml"
    original = path.read_text()
    params = yaml.safe_load(original)
    for name, values in blocks.items():
        params[name] |= values
    path.write_text(yaml.safe_dump(params))
    try:
        yield
    finally:
        path.write_text(original)


def bundle_of(folder: Path) -> Path:
    return folder / layout.RECOMMENDER


def all_scores(folder: Path) -> np.ndarray:
    """Of all users and items, by the model of a folder with data/ and models/."""
    scorer = load_scorer(folder)
    return scorer.scores(np.arange(USERS), read_matrix(folder / layout.TRAIN, (USERS, ITEMS)))


def test_what_serves_is_what_was_measured(finetuned: Path) -> None:
    assert "the measured model" in run_here("final_fit", finetuned)
    bundle = bundle_of(finetuned)
    files = [file for file in bundle.rglob("*") if file.is_file() and file != bundle / BUNDLE]
    assert {path.relative_to(bundle).parent for path in files} >= {
        layout.CLEAN,
        layout.FINETUNED,
        layout.PRETRAINED,
        layout.RERANKER,
    }
    for file in files:
        assert file.read_bytes() == (finetuned / file.relative_to(bundle)).read_bytes(), file
    assert not list(bundle.rglob("without_*"))
    described = read_json(bundle / BUNDLE)
    assert described["data"] == "train"
    assert described["made_from"]["models/finetune"] == sha256_of(bundle / layout.FINETUNED)
    assert described["held_out"] == sha256_of(finetuned / layout.TEST)
    assert (all_scores(bundle) == all_scores(finetuned)).all()
    check_measurable(bundle / layout.FINETUNED)
    train, validation = (read_matrix(finetuned / part, (USERS, ITEMS)) for part in (layout.TRAIN, layout.VALIDATION))
    seed = yaml.safe_load((finetuned / "params.yaml").read_text())["evaluate"]["seed"]
    ranked = rank_all(lambda users: all_scores(finetuned)[users], train, ITEMS, seed)
    (served,) = Recommender.open(bundle).recommend_many(count=9)
    np.testing.assert_array_equal(served.items, without(ranked, validation, 9))  # as the stage `evaluate` does


def test_the_final_fit_to_all_data_learns_from_every_interaction(finetuned: Path) -> None:
    kept = {part: pl.read_parquet(finetuned / part) for part in (layout.TRAIN, layout.VALIDATION, layout.TEST)}
    with params_of(finetuned, final_fit={"data": "all"}):
        assert "never to be evaluated" in run_here("final_fit", finetuned)
    bundle = bundle_of(finetuned)
    learned, *held_out = (pl.read_parquet(bundle / part) for part in kept)
    everything = pl.concat([part.select("user", "item") for part in kept.values()]).sort("user", "item")
    assert learned.select("user", "item").equals(everything)
    assert [len(part) for part in held_out] == [0, 0]
    assert (Graph.load(bundle / layout.GRAPH).interactions().toarray().sum()) == len(everything)
    assert not list(bundle.rglob("without_*"))
    assert read_json(bundle / BUNDLE)["held_out"] == sha256_of(finetuned / layout.TEST)
    assert not np.allclose(all_scores(bundle), all_scores(finetuned))
    (served,) = Recommender.open(bundle).recommend_many(count=ITEMS)
    taken = read_matrix(bundle / layout.TRAIN, (USERS, ITEMS)).toarray() > 0
    listed = [row[row >= 0].tolist() for row in served.items]
    assert [sorted(row) for row in listed] == [np.flatnonzero(~row).tolist() for row in taken]
    with pytest.raises(InputError, match="no measure of it would mean anything"):
        check_measurable(bundle / layout.FINETUNED)


def test_the_final_fit_repeats_the_measured_training_where_nothing_is_held_out(finetuned: Path) -> None:
    """With no held-out interactions to add, it must end with the weights of the best epoch."""
    kept = {part: pl.read_parquet(finetuned / part) for part in (layout.VALIDATION, layout.TEST)}
    seed = yaml.safe_load((finetuned / "params.yaml").read_text())["finetune"]["seed"]
    try:
        for part, frame in kept.items():
            frame.clear().write_parquet(finetuned / part)
        with params_of(finetuned, final_fit={"data": "all", "seed": seed}):
            run_here("final_fit", finetuned)
    finally:
        for part, frame in kept.items():
            frame.write_parquet(finetuned / part)
    weights = [load_file(root / layout.FINETUNED / "model.safetensors") for root in (finetuned, bundle_of(finetuned))]
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())


def test_a_changed_param_never_picks_up_a_stale_state(workspace: Path) -> None:
    process = stage("finetune", workspace)
    deadline = time.monotonic() + 120
    while not list(workspace.glob(".checkpoints/finetune/*/step_*")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()
    rate = yaml.safe_load((workspace / "params.yaml").read_text())["finetune"]["learning_rate"]
    with params_of(workspace, finetune={"epochs": 2, "learning_rate": 0.5 * rate}):
        assert "continues from step" not in finish(stage("finetune", workspace))


def test_prompts_that_do_not_fit_are_refused_before_any_training(workspace: Path) -> None:
    with (
        params_of(workspace, finetune={"maximum_items": 500}),
        pytest.raises(InputError, match=r"^params\.yaml: `finetune\.maximum_items` 500"),
    ):
        run_here("finetune", workspace)


def test_without_pretraining_there_is_a_model_and_an_empty_curve(workspace: Path) -> None:
    untrained: dict[str, object] = {"content_epochs": 0, "interaction_epochs": 0, "content": False, "bias": "none"}
    kept = workspace / "kept"
    shutil.copytree(workspace / "models/pretrain", kept)
    try:
        with params_of(workspace, pretrain=untrained):
            run_here("pretrain", workspace)
        assert (workspace / "models/pretrain/model.safetensors").is_file()
        assert read_curve(workspace / "reports/curves/pretrain.csv").is_empty()
    finally:
        shutil.rmtree(workspace / "models/pretrain")
        kept.rename(workspace / "models/pretrain")


def test_without_epochs_the_pretrained_model_is_validated_and_written(workspace: Path) -> None:
    with params_of(workspace, finetune={"epochs": 0, "graph_term": False}):
        assert "best epoch 0" in run_here("finetune", workspace)
    before, after = (load_file(workspace / f"models/{name}/model.safetensors") for name in ("pretrain", "finetune"))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert read_curve(workspace / "reports/curves/finetune.csv")["step"].to_list() == [0]


def test_adapters_are_merged_before_the_model_is_saved(workspace: Path) -> None:
    with params_of(workspace, finetune={"epochs": 1, "tune": "lora"}):
        run_here("finetune", workspace)
    before, after = (GraphGPT2.load(workspace / f"models/{name}").state_dict() for name in ("pretrain", "finetune"))
    moved = {name for name, tensor in before.items() if name.startswith("backbone.") and (tensor != after[name]).any()}
    assert moved == {"backbone.h.0.attn.c_attn.weight", "backbone.h.0.attn.c_proj.weight"}


# ---------------------------------------------------------------- several processes


def workers_of(process: subprocess.Popen[str], folder: Path, named: str = "python") -> list[psutil.Process]:
    """The two processes that train for a stage, once they have left a state."""
    deadline = time.monotonic() + 240
    while not list(folder.glob(".checkpoints/finetune/*/step_00000000[3-9]")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    below = psutil.Process(process.pid).children(recursive=True)
    workers = [
        child for child in below if child.status() != psutil.STATUS_ZOMBIE and named in " ".join(child.cmdline())
    ]
    assert len(workers) == 2
    return workers


@pytest.fixture
def shared(workspace: Path, tmp_path: Path) -> Path:
    """A copy of the workspace whose fine-tuning two processes share."""
    folder = tmp_path / "workspace"
    shutil.copytree(workspace, folder, ignore=shutil.ignore_patterns(".checkpoints"))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["finetune"] |= {"processes": 2, "dropout": 0.0}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def test_a_killed_worker_is_told_in_one_line_and_one_process_goes_on(shared: Path) -> None:
    process = stage("finetune", shared)
    first, second = workers_of(process, shared)
    second.kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.splitlines() == [
        "error: process 2 of the 2 that trained was killed (SIGKILL); the newest checkpoint is kept: run the stage "
        "again to go on"
    ]
    assert not first.is_running()
    with params_of(shared, finetune={"processes": 1}):
        assert "continues from step" in finish(stage("finetune", shared))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_workers_end_with_their_stage(number: signal.Signals, status: int, shared: Path) -> None:
    process = stage("finetune", shared)
    workers = workers_of(process, shared)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in output
    assert not psutil.wait_procs(workers, timeout=20)[1]


@pytest.mark.slow
def test_bad_input_of_workers_is_told_once(shared: Path) -> None:
    shutil.rmtree(shared / layout.PRETRAINED)
    process = stage("finetune", shared)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output == "error: models/pretrain/training.json is missing: run `dvc repro` to make it\n"


@pytest.mark.slow
def test_all_training_stages_run_in_two_processes(shared: Path) -> None:
    """Without dropout they write what one process writes, but for rounding."""
    outputs = {}
    for processes in (1, 2):
        several = {"processes": processes, "dropout": 0.0}
        with params_of(shared, pretrain=several, finetune=several, final_fit={"data": "all"}):
            printed = [finish(stage(name, shared)) for name in ("pretrain", "finetune", "final_fit")]
        assert all(text.count("\n") <= 1 for text in printed)
        curves = {name: read_curve(shared / f"reports/curves/{name}.csv") for name in ("pretrain", "finetune")}
        outputs[processes] = curves, all_scores(shared), all_scores(bundle_of(shared))
    (curves, *scores), (others, *other_scores) = outputs.values()
    for name, curve in curves.items():
        losses = [column for column in curve.columns if column.endswith("loss")]
        np.testing.assert_allclose(others[name].select(losses), curve.select(losses), rtol=1e-4)
    for mine, other in zip(scores, other_scores, strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_ray_starts_killed_workers_again_and_the_outcome_is_the_same(shared: Path) -> None:
    pytest.importorskip("ray")
    with params_of(shared, finetune={"launcher": "ray", "dropout": 0.1, "epochs": 12, "patience": 12}):
        assert "best epoch" in finish(stage("finetune", shared))
        straight = digest(shared)
        shutil.rmtree(shared / layout.FINETUNED)
        process = stage("finetune", shared)
        _, second = workers_of(process, shared, named="RayTrainWorker")
        second.kill()
        output = finish(process)
    assert "continues from step" in output
    assert digest(shared) == straight
    assert not list(shared.glob(".checkpoints/finetune/*/*"))
    assert not list(shared.glob(".checkpoints/ray/*"))
