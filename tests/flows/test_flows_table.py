"""The table of runs: what a run's params are, what is done is not done again, and what is asked no longer goes."""

import copy
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, command
from prefect.testing.utilities import prefect_test_harness

from flows.configuration import overlay
from flows.overrides import override
from flows.parallel.runner import Runner
from flows.table import table as table_flow
from flows.table_configuration import Run, params_of, read_table, runs
from symbiosis.core.errors import InputError
from symbiosis.params import validate

TABLE = """\
data_sets: {faster: {seeds: [1, 2]}}
seeded: [finetune.learning_rate]
baselines: {simple: [ease], hybrid: [], neural: [], sequential: []}
variants:
  other: {router_train: {seed: 3}}
  full: {}
"""


@pytest.fixture
def configured(stub_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Path:
    """The small pipeline with one table over one data set."""
    (stub_run / "configs/tables").mkdir(parents=True)
    (stub_run / "configs/faster.yaml").write_text("data: {data/local/rows: rows}\ntargets: [evaluate]\nparams: {}\n")
    (stub_run / "configs/tables/small.yaml").write_text(TABLE)
    with (stub_run / ".gitignore").open("a") as ignored:
        ignored.write("/.runs\n")
    command(stub_run, "git", "add", "-A")
    command(stub_run, "git", "commit", "-q", "-m", "table")
    (tmp_path / "rows").mkdir()
    monkeypatch.setenv("SYMBIOSIS_DATA_DIR", str(tmp_path))
    return stub_run


@pytest.fixture
def server() -> Iterator[None]:
    """Starting it takes seconds."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_runs_are_done_once(configured: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every seed and variant is measured, a lost one alone is repeated, from the cache, with its first time."""
    results = Path(str(table_flow("small")))
    means = {
        str(file.parent.relative_to(results)): json.loads(file.read_text())["recommender"]["recall@20"]["mean"]
        for file in results.rglob("recommender.json")
    }
    assert means == {"faster/full/1": 1, "faster/full/2": 2, "faster/other/1": 1, "faster/other/2": 2}
    first = json.loads((results / "faster/full/1/run.json").read_text())
    assert set(first["seconds"]) >= {"train", "evaluate"}
    assert command(configured, "git", "status", "--porcelain", "-uno") == ""

    (results / "faster/full/1/run.json").unlink()
    caplog.clear()
    table_flow("small")
    assert caplog.text.count("done before") == 3
    assert "Running stage" not in caplog.text
    assert json.loads((results / "faster/full/1/run.json").read_text()) == first

    (configured / "configs/tables/small.yaml").write_text(TABLE.replace("[1, 2]", "[2]"))
    table_flow("small", dirty=True)
    assert sorted(str(file.parent.relative_to(results)) for file in results.rglob("run.json")) == [
        "faster/full/2",
        "faster/other/2",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_data_sets_side_by_side(configured: Path) -> None:
    """Each in its own work tree; a run that fails is named, and those of the other data set are done."""
    broken = (configured / "configs/faster.yaml").read_text().replace("params: {}", "params: {download: {seed: 9}}")
    (configured / "configs/broken.yaml").write_text(broken)
    both = TABLE.replace(
        "data_sets: {faster: {seeds: [1, 2]}}", "data_sets: {faster: {seeds: [1]}, broken: {seeds: [1]}}"
    )
    (configured / "configs/tables/small.yaml").write_text(both)
    work = (configured / "work.py").read_text()
    (configured / "work.py").write_text(
        f"{work}\nif params['download']['seed'] == 9: sys.exit('error: no such data')\n"
    )
    command(configured, "git", "add", "-A")
    command(configured, "git", "commit", "-q", "-m", "two data sets")
    with pytest.raises(RuntimeError, match=r"^broken/full/1: failed: download; not run, .*; broken/other/1: failed"):
        table_flow("small", runner=Runner(workers=4))
    results = configured / ".runs/results/small"
    assert sorted(str(file.parent.relative_to(results)) for file in results.rglob("run.json")) == [
        "faster/full/1",
        "faster/other/1",
    ]


def test_full_comes_first_and_alone_has_the_baselines(configured: Path) -> None:
    table = read_table("small", configured)
    names = [run.name for run in runs(table)]
    assert names == ["faster/full/1", "faster/full/2", "faster/other/1", "faster/other/2"]
    document = yaml.safe_load((configured / "params.yaml").read_text())
    full, other = (params_of(Run("faster", variant, 2), table, configured, document) for variant in ("full", "other"))
    assert full["evaluate.baselines.simple"] == ["ease"]
    assert other["evaluate.baselines.simple"] == ["chance"]
    assert other["router_train.seed"] == 3
    assert full["finetune.learning_rate"] == other["finetune.learning_rate"] == 2


def test_a_data_set_may_leave_out_variants_and_seeds(configured: Path) -> None:
    some = TABLE.replace("seeds: [1, 2]", "seeds: [1, 2], variant_seeds: [2]")
    for text, left in ((some, ["faster/other/2"]), (some.replace("variant_seeds: [2]", "without: [other]"), [])):
        (configured / "configs/tables/small.yaml").write_text(text)
        names = [run.name for run in runs(read_table("small", configured))]
        assert names == ["faster/full/1", "faster/full/2", *left]
    (configured / "configs/tables/small.yaml").write_text(
        TABLE.replace("[ease]", "[ease, slim]").replace("[1, 2]", "[1, 2], without: [ease]")
    )
    document = yaml.safe_load((configured / "params.yaml").read_text())
    asked = params_of(Run("faster", "full", 1), read_table("small", configured), configured, document)
    assert asked["evaluate.baselines.simple"] == ["slim"]


def test_baselines_alone(configured: Path) -> None:
    """Their stages are wanted instead of the evaluation's; a variant has baselines of its own."""
    alone = f"{TABLE}model: false\npage: some\nvariant_baselines: {{other: {{simple: [], sequential: [sasrec]}}}}\n"
    (configured / "configs/tables/small.yaml").write_text(alone)
    table = read_table("small", configured)
    full, other = (Run("faster", variant, 1) for variant in ("full", "other"))
    assert table.targets_of(full) == ["baseline"]
    assert table.targets_of(other) == ["sequential-baseline"]
    document = yaml.safe_load((configured / "params.yaml").read_text())
    params = params_of(other, table, configured, document)
    assert params["evaluate.baselines.sequential"] == ["sasrec"]
    (configured / "configs/tables/small.yaml").write_text(TABLE)
    assert read_table("small", configured).targets_of(other) == ["evaluate"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{TABLE}model: false\n", "without the model, the variant `other` needs `variant_baselines`"),
        (f"{TABLE}variant_baselines: {{another: {{}}}}\n", "there is no another"),
        (f"{TABLE}variant_baselines: {{other: {{deep: []}}}}\n", "there is no deep"),
        (f"{TABLE}page: a/b\n", "page"),
        (TABLE.replace("[1, 2]", "[1, 2], variant_seeds: [3]"), "names 3"),
        (TABLE.replace("[1, 2]", "[1, 2], without: [unknown]"), "names unknown"),
        (TABLE.replace("full", "whole"), "`variants` must hold `full`"),
        (TABLE.replace("seeded", "sown"), "sown"),
        ("[", "while parsing"),
    ],
)
def test_refusals(text: str, message: str, configured: Path) -> None:
    (configured / "configs/tables/small.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_table("small", configured)
    with pytest.raises(InputError, match="the tables are small"):
        read_table("other", configured)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs/tables").glob("*.yaml")))
def test_committed_tables(name: str, tmp_path: Path) -> None:
    """Every run of every committed table fits params.yaml, and every variant changes something of its own."""
    table = read_table(name, ROOT)
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    for run in runs(table):
        params = params_of(run, table, ROOT, document)
        changed = copy.deepcopy(document)
        for key, value in params.items():
            *path, leaf = key.split(".")
            block = functools.reduce(dict.__getitem__, path, changed)
            assert leaf in block, key
            block[leaf] = value
        validate(changed)
    file = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", file)
    override(file, params)  # of one run, as the command does, which takes ten times as long
    assert yaml.safe_load(file.read_text()) == changed
    changes = [sorted(map(str, overlay(variant, document).items())) for variant in table.variants.values()]
    assert len({str(change) for change in changes}) == len(changes)
