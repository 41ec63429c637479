"""A small pipeline in a git and DVC repository of its own, for tests of flows and tracking."""

import atexit
import copy
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings
from postgres_server import server

from flows.overrides import override
from symbiosis.core.telemetry import switch_telemetry_off

pytest_plugins = ["gateway_fixtures"]
ROOT = Path(__file__).resolve().parents[1]

switch_telemetry_off()
settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-")  # read when prefect is imported
atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# `--dist loadfile` hands files out in their order. One that begins last would leave the other processes without work.
LONGEST = (
    "tests/test_pipeline.py",
    "tests/test_dag.py",
    "tests/flows/test_flows_prefect.py",
    "tests/stages/test_recommender_stages.py",
    "tests/flows/test_flows_configuration.py",
    "tests/flows/test_flows.py",
    "tests/routing/simulation/test_replay.py",
    "tests/text/test_encoder.py",
    "tests/gateway/test_faults.py",
    "tests/registry/test_publication.py",
    "tests/tracking/test_tracking.py",
    "tests/registry/test_champions.py",
    "tests/tracking/test_database.py",
    "tests/cli/test_models_command.py",
)

# The small pipeline's stages read keys of the real params.yaml, so that its validation holds for them too.
PARAMS = {"download.seed": 3, "finetune.learning_rate": 0.1, "evaluate.seed": 1, "router_train.seed": 4}

PIPELINE = """\
stages:
  download:
    cmd: exec python work.py download
    params: [download.seed]
    deps: [work.py]
    outs: [data/raw]
  baseline:
    matrix: {name: [a, b]}
    cmd: exec python work.py baseline ${item.name}
    deps: [data/raw]
    outs: ["data/rankings/${item.name}"]
  train:
    cmd: exec python work.py train
    params: [finetune.learning_rate]
    deps: [data/raw]
    outs: [models/train]
    plots: [{reports/curves/train.csv: {cache: false}}]
  evaluate:
    cmd: exec python work.py evaluate
    params: [evaluate.seed]
    deps: [models/train, data/rankings]
    outs: [reports/page.html]
    metrics: [{reports/recommender.json: {cache: false}}]
  router:
    cmd: exec python work.py router
    params: [router_train.seed]
    deps: [work.py]
    metrics: [{reports/router.json: {cache: false}}]
    plots: [{reports/curves/regret.csv: {cache: false}}]
plots:
  - reports/curves/train.csv: {x: epoch, y: loss}
  - reports/curves/regret.csv: {x: round, y: regret}
"""

WORK = """\
import json, os, pathlib, sys, time, yaml
stage, params = sys.argv[1], yaml.safe_load(open("params.yaml"))
behave = os.environ.get("BEHAVE_" + stage, "")
print(f"{stage} begins", flush=True)
if behave == "sleep":
    from symbiosis.core.stage import die_with_parent
    die_with_parent()
    pathlib.Path("child.pid").write_text(str(os.getpid()))
    time.sleep(600)
if behave == "bad input":
    sys.exit("error: data/raw: no rows; fetch it again")
if behave == "crash":
    raise OSError("connection reset")
if behave == "bar":
    for i in range(50):
        print(f"\\r{i}/50", end="", flush=True)
    print()
def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
if stage == "download":
    write("data/raw/rows.txt", "x" * params["download"]["seed"])
if stage == "baseline":
    write(f"data/rankings/{sys.argv[2]}/ranking.txt", sys.argv[2])
if stage == "train":
    rate = params["finetune"]["learning_rate"]
    write("models/train/model.txt", str(rate))
    write("models/train/training.json", json.dumps({"fingerprint": f"mark{rate}"}))
    rows = [f"{e},{10 * e},{rate / e},{e / 100}" for e in (1, 2, 3)]
    write("reports/curves/train.csv", "epoch,step,loss,recall@20\\n" + "\\n".join(rows) + "\\n")
if stage == "evaluate":
    rate = params["finetune"]["learning_rate"]
    write("reports/page.html", f"<p>{rate}</p>")
    metric = {"mean": rate, "low": 0.0, "high": 1.0}
    method = {name: metric for name in ("recall@20", "recall@40", "ndcg@100")}
    data = {"users": 7, "items": 5, "training interactions": 1000, "note": "x"}
    write("reports/recommender.json", json.dumps({"recommender": method, "baselines": {"ease": method}, "data": data}))
if stage == "router":
    quality = params["router_train"]["seed"] / 10
    policies = ("router_none", "nearest_neighbours", "random", "cheapest", "best_single", "oracle")
    policy = {"quality": quality, "quality_95": {"low": 0.0, "high": 1.0}, "cost_usd": 0.00123}
    report = {
        "headline": {"feedback": "none", "trade_off": 1.0},
        "reference": {"cheapest": "small", "best_single": "large", "queries_online": 30, "queries_test": 20},
        "test": {name: policy for name in policies},
        "curves": {"router_none": {"aiq": 0.5}},
    }
    write("reports/router.json", json.dumps(report))
    rows = ["round,regret,method", "1,0.5,random", "2,0.75,random", "1,0,oracle", "2,0,oracle"]
    write("reports/curves/regret.csv", "\\n".join(rows) + "\\n")
"""


def pytest_configure(config: pytest.Config) -> None:
    """Pass over a warning of a package that only Ray brings, and that other packages use where it is there."""
    config.addinivalue_line("filterwarnings", "ignore:Please install grpcio-status:ImportWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, where the tests run in several processes."""
    assert all((ROOT / name).is_file() for name in LONGEST)
    if hasattr(config, "workerinput"):
        rank = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.nodeid.split("::")[0], len(rank)))


def command(folder: Path, *arguments: str) -> str:
    """Run a command that must succeed and return what it printed, errors included."""
    done = subprocess.run(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def repository(folder: Path) -> Path:
    """Make a git and DVC repository of what the folder holds."""
    command(folder, "git", "init", "-q", "-b", "main")
    command(folder, "git", "config", "user.email", "test@example.org")
    command(folder, "git", "config", "user.name", "test")
    if not (folder / ".dvc").exists():
        command(folder, "dvc", "init", "-q")
        command(folder, "dvc", "config", "core.analytics", "false")
    command(folder, "git", "add", "-A")
    command(folder, "git", "commit", "-q", "-m", "begin")
    return folder


@pytest.fixture(scope="session", autouse=True)
def parsed_once() -> Iterator[None]:
    """The same text of YAML is parsed once: many tests read params.yaml, which takes longer than what they test."""
    parse = yaml.safe_load
    parsed = functools.lru_cache(maxsize=16)(parse)

    def load(stream: Any) -> Any:
        return copy.deepcopy(parsed(stream)) if isinstance(stream, str) else parse(stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "safe_load", load)
        yield


@pytest.fixture(scope="session")
def stub_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small pipeline, never run."""
    folder = tmp_path_factory.mktemp("stub") / "template"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "work.py").write_text(WORK)
    shutil.copy(ROOT / "params.yaml", folder)
    override(folder / "params.yaml", PARAMS)
    (folder / ".gitignore").write_text("/data\n/models\n/reports\n/mlflow.db\n/mlartifacts\n/child.pid\n")
    return repository(folder)


@pytest.fixture(scope="session")
def stub_run_template(stub_template: Path) -> Path:
    """The small pipeline, run once."""
    folder = stub_template.with_name("run")
    shutil.copytree(stub_template, folder, symlinks=True)
    command(folder, "dvc", "repro", "-q")
    command(folder, "git", "add", "-A")
    command(folder, "git", "commit", "-q", "-m", "run")
    return folder


@pytest.fixture
def stub(stub_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small pipeline, never run; the working directory."""
    return _copy(stub_template, tmp_path, monkeypatch)


@pytest.fixture
def stub_run(stub_run_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small pipeline, run once; the working directory."""
    return _copy(stub_run_template, tmp_path, monkeypatch)


def _copy(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    shutil.copytree(template, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs; its migration takes seconds, a copy none."""
    from symbiosis.tracking.store import Store

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    store = Store(f"sqlite:///{file}", file.parent)
    store.client.delete_experiment(store.experiment_id)
    return file


@pytest.fixture
def database(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a fresh MLflow database, which is also the default for the test."""
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_database, file)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
    monkeypatch.delenv("SYMBIOSIS_TRACKING", raising=False)
    return f"sqlite:///{file}"


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[Callable[[], str]]:
    """Makes an empty database of PostgreSQL and returns its address; skips where no server can be started."""
    with server() as databases:
        yield databases


@pytest.fixture
def postgres_url(postgres_databases: Callable[[], str]) -> str:
    """The address of an empty database of PostgreSQL."""
    return postgres_databases()
