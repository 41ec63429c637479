"""The graph of stages: honest dependencies, the reach of every param, and where held-out data may go."""

import ast
import copy
import functools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import yaml
from conftest import ROOT, command
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.utils.serialize import _yaml

from flows.dependencies import code_of, rewrite, shared_by_baselines
from symbiosis.core.fingerprint import imported_files
from symbiosis.core.params import read_document
from symbiosis.params import BLOCKS, validate

SIMPLE = ["chance", "popularity", "item_knn", "rp3beta", "ease", "slim", "ials"]
HYBRID = ["tuned_hybrid", "boosting"]
NEURAL = ["multi_vae", "lightgcn", "md_cvae"]
SEQUENTIAL = ["transitions", "sasrec", "gru4rec", "bert4rec", "fdsa", "s3rec", "unisrec"]
LONG_BASELINES = [
    *(f"hybrid-baseline@{name}" for name in HYBRID),
    *(f"neural-baseline@{name}" for name in NEURAL),
    *(f"sequential-baseline@{name}" for name in SEQUENTIAL),
]
"""Not in the table by default."""
BASELINES = [*(f"baseline@{name}" for name in SIMPLE), *LONG_BASELINES]
RECOMMENDER = ["download", "clean", "build-graph", "shortest-paths", "corpus", "embed-items", "propagation", "pretrain",
               "finetune", "rerank", "final-fit", *(f"baseline@{name}" for name in SIMPLE), "evaluate"]  # fmt: skip
WHOLE_RECOMMENDER = [*RECOMMENDER, *LONG_BASELINES]
COMPARISON = ["compare-routers@1", "compare-routers@2"]
STUDY = ["study-feedback@1"]
ROUTER = ["download-routing", "clean-routing", "train-encoder", "embed-queries", "collect-feedback", "router-train",
          "online-replay", *COMPARISON, *STUDY, "report-routers"]  # fmt: skip

WOULD_RUN = {
    "download": WHOLE_RECOMMENDER,
    "clean": WHOLE_RECOMMENDER[1:],
    "build_graph": [
        "build-graph",
        "shortest-paths",
        "corpus",
        "propagation",
        "pretrain",
        "finetune",
        "rerank",
        "final-fit",
        "evaluate",
    ],
    "shortest_paths": ["shortest-paths", "pretrain", "finetune", "rerank", "final-fit", "evaluate"],
    "corpus": ["corpus", "pretrain", "finetune", "rerank", "final-fit", "evaluate"],
    "embed_items": ["embed-items", "propagation", "pretrain", "finetune", "rerank", "final-fit", "evaluate"],
    "propagation": ["propagation", "finetune", "rerank", "final-fit", "evaluate"],
    "pretrain": ["pretrain", "finetune", "rerank", "final-fit", "evaluate"],
    "finetune": ["finetune", "rerank", "final-fit", "evaluate"],
    "rerank": ["rerank", "final-fit", "evaluate"],
    "final_fit": ["final-fit"],
    **{f"baselines.{name.split('@')[1]}": [name, "evaluate"] for name in BASELINES},
    "evaluate": ["evaluate"],
    "download_routing": ROUTER,
    "clean_routing": ROUTER[1:],
    "train_encoder": ROUTER[2:],
    "embed_queries": ROUTER[3:],
    "collect_feedback": ROUTER[4:7],
    "router_train": ROUTER[5:],
    "compare_routers": [*COMPARISON, "report-routers"],
    "study_feedback": [*STUDY, "report-routers"],
    "report_routers": ["report-routers"],
    "online_replay": ["online-replay", *STUDY, "report-routers"],
}
READ_BY_NO_STAGE = ("gate",)
"""By block of params.yaml: every stage that runs if one of its keys changes, and no other."""


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that holds a value; an empty mapping is a value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def every_baseline() -> dict[str, Any]:
    """The params with all baselines in the table, those that take long too."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["evaluate"]["baselines"] |= {"hybrid": HYBRID, "neural": NEURAL, "sequential": SEQUENTIAL}
    return document


LEAVES = dict(leaves(every_baseline()))


def another(value: Any) -> Any:
    """A different value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return value[:-1] if len(value) > 1 else ["another"]
    return {"another": 1} if isinstance(value, dict) else "another"


def changed(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The document with another value at a dotted key."""
    document = copy.deepcopy(document)
    *path, leaf = key.split(".")
    block = document
    for name in path:
        block = block[name]
    block[leaf] = another(block[leaf])
    return document


@pytest.fixture(scope="module", autouse=True)
def parsed_once_by_dvc() -> Iterator[None]:
    """Each text of YAML is parsed once: DVC parses params.yaml anew for every stage, most of the time of this file."""
    parsed = functools.cache(_yaml.parse_yaml)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_yaml, "parse_yaml", lambda *told, **more: copy.deepcopy(parsed(*told, **more)))
        yield


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pipeline that DVC holds for up to date, its outputs being placeholders."""
    folder = tmp_path_factory.mktemp("dag") / "work"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("stages", "symbiosis", "data/local"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "params.yaml").write_text(yaml.safe_dump(every_baseline()))
    command(folder, "dvc", "init", "-q", "--no-scm")
    with Repo(str(folder)) as repo:
        for stage in stages_of(repo):
            for out in stage.outs:
                file = Path(out.fs_path) if Path(out.fs_path).suffix else Path(out.fs_path, "placeholder")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps({"made by": stage.name}))
    command(folder, "dvc", "commit", "-q", "-f")
    return folder


def stages_of(repo: Repo) -> list[PipelineStage]:
    """All stages, templates resolved."""
    return [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]


@pytest.fixture(scope="module")
def stages(pipeline: Path) -> dict[str, PipelineStage]:
    """All stages by name."""
    with Repo(str(pipeline)) as repo:
        return {stage.name: stage for stage in stages_of(repo)}


@pytest.fixture(scope="module")
def graph(pipeline: Path) -> nx.DiGraph:
    """Edges from each stage to what needs its outputs."""
    with Repo(str(pipeline)) as repo:
        return nx.relabel_nodes(repo.index.graph.reverse(), lambda stage: stage.name)


def paths(items: list[Any]) -> set[str]:
    """Relative paths of dependencies or outputs, params aside."""
    return {item.def_path for item in items if item.def_path != "params.yaml"}


def code(items: set[str]) -> set[str]:
    """Those of the paths that are code: files, or folders of them."""
    return {path for path in items if path.split("/")[0] in ("stages", "symbiosis")}


# ------------------------------------------------------------------ code


def test_the_issue_names_these_stages(stages: dict[str, PipelineStage]) -> None:
    """The table of this file covers the whole pipeline."""
    assert sorted(stages) == sorted(WHOLE_RECOMMENDER + ROUTER)


def test_code_dependencies_follow_the_rule(stages: dict[str, PipelineStage]) -> None:
    """Each stage depends on its own module and on all that this imports from the project, and on no other code."""
    for name, stage in stages.items():
        module = re.fullmatch(r"exec python -m stages\.(\w+)(?: (\w+))?", stage.cmd)
        assert module, f"{name}: {stage.cmd}"
        files = set(imported_files(ROOT / f"stages/{module[1]}.py", ROOT))
        kind = name.split("@")[0]
        own = set()
        if module[1] == "baseline":  # which is loaded by name
            baseline = Path(f"symbiosis/recommender/baselines/{module[2]}.py")
            shared, own = shared_by_baselines(kind, ROOT), {str(baseline)}
            assert set(imported_files(ROOT / baseline, ROOT)) - {baseline} <= shared | files, name
            files |= shared
        expected = set(code_of(kind, files, ROOT)) | own
        assert code(paths(stage.deps)) == expected, f"{name}: run python -m flows.dependencies"


def test_lists_of_code_files_are_written_by_the_rule() -> None:
    """The command that writes them has nothing to change."""
    text = (ROOT / "dvc.yaml").read_text()
    assert rewrite(text, ROOT) == text
    assert rewrite(text.replace("      - stages/clean.py\n", ""), ROOT) == text
    assert len(text.splitlines()) <= 680


def test_compiled_files_are_no_dependency(pipeline: Path) -> None:
    """What Python leaves in a folder that a stage depends on re-runs nothing."""
    stray = pipeline / "symbiosis/core/__pycache__/errors.cpython-311.pyc"
    stray.parent.mkdir()
    stray.write_bytes(b"compiled")
    try:
        with Repo(str(pipeline)) as repo:
            assert repo.status() == {}
    finally:
        shutil.rmtree(stray.parent)


def test_packages_hold_a_docstring_only() -> None:
    """What `imported_files` leaves out, and what nobody looks into, holds no code.

    Stages and flows may set the process up, for lack of memory and interruptions, and nothing else.
    """
    for file in (ROOT / "stages/__init__.py", ROOT / "flows/__init__.py"):
        defined = (ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)
        assert not any(isinstance(node, defined) for node in ast.walk(ast.parse(file.read_text()))), file
    for file in ROOT.glob("symbiosis/**/__init__.py"):
        body = ast.parse(file.read_text()).body
        assert len(body) == 1, file
        assert isinstance(body[0], ast.Expr), file
        assert isinstance(body[0].value, ast.Constant), file


def test_nothing_is_imported_in_the_dark() -> None:
    """`imported_files` sees import statements only: relative ones and other ways of importing are not used."""
    # Each says why what it loads is no dependency.
    exceptions = {"symbiosis/core/stage.py", "stages/baseline.py", "symbiosis/recommender/training/ray_workers.py"}
    for file in [*ROOT.glob("symbiosis/**/*.py"), *ROOT.glob("stages/*.py")]:
        text = file.read_text()
        assert not re.search(r"^\s*from \.", text, re.MULTILINE), file
        if str(file.relative_to(ROOT)) not in exceptions:
            assert not re.search(r"import_module|from importlib import|spec_from|__import__|exec\(|runpy", text), file


# ------------------------------------------------------------------ params


def test_every_block_has_a_model_and_a_stage(stages: dict[str, PipelineStage]) -> None:
    """params.yaml holds the blocks of the models, in their order; stages read all but the gate's, and nothing else."""
    document = read_document(ROOT / "params.yaml")
    assert list(document) == list(BLOCKS)
    validate(document)
    read = [param for stage in stages.values() for dep in stage.deps for param in getattr(dep, "params", [])]
    assert set(read) == set(WOULD_RUN)
    assert set(document) - {block.split(".")[0] for block in read} == set(READ_BY_NO_STAGE)


def test_up_to_date(pipeline: Path) -> None:
    """The copy that the next test changes has nothing to run; otherwise that test would prove nothing."""
    with Repo(str(pipeline)) as repo:
        assert repo.status() == {}


@pytest.mark.parametrize("block", WOULD_RUN)
def test_reach_of_every_block(block: str, pipeline: Path, graph: nx.DiGraph) -> None:
    """Another value runs the stages of the table, and no other.

    Stages read blocks whole, as another test proves, so one key stands for all but those that dvc.yaml itself names.
    """
    keys = keys_of(block)
    check_reach(block, [*keys[:1], *(key for key in keys[1:] if named_in_pipeline(key))], pipeline, graph)


def named_in_pipeline(key: str) -> bool:
    """Whether dvc.yaml uses the value of a key, or of what holds it."""
    named = re.findall(r"\$\{([\w.]+)\}", (ROOT / "dvc.yaml").read_text())
    return any(key == name or key.startswith(f"{name}.") for name in named)


def read_by(stage: PipelineStage) -> list[Any]:
    """The dependencies of a stage on params.yaml, its keys or the whole file."""
    return [dep for dep in stage.deps if dep.def_path == "params.yaml"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", [block for block in WOULD_RUN if not block.startswith("baselines.")])
def test_reach_of_every_param(block: str, pipeline: Path, graph: nx.DiGraph) -> None:
    """The same for every key by itself."""
    check_reach(block, keys_of(block), pipeline, graph)


def keys_of(block: str) -> list[str]:
    """Every key of a block but the seeds of splits: these say which stages there are, not which of them run."""
    keys = [key for key in LEAVES if key.startswith(f"{block}.") and not key.endswith(".splits")]
    assert keys
    return keys


def check_reach(block: str, keys: list[str], pipeline: Path, graph: nx.DiGraph) -> None:
    """Change each key by itself and compare what would run with the table."""
    before = every_baseline()
    try:
        for key in keys:
            (pipeline / "params.yaml").write_text(yaml.safe_dump(changed(before, key)))
            with Repo(str(pipeline)) as repo, repo.lock:
                # What dvc.yaml itself names may change any dependency; other keys no file but params.yaml.
                direct = {
                    stage.name
                    for stage in stages_of(repo)
                    if stage.changed_stage()
                    or (stage.changed_deps() if named_in_pipeline(key) else any(dep.status() for dep in read_by(stage)))
                }
            reached = direct.union(*(nx.descendants(graph, stage) for stage in direct))
            assert sorted(reached) == sorted(WOULD_RUN[block]), key
    finally:
        (pipeline / "params.yaml").write_text(yaml.safe_dump(before))


def test_no_key_is_left_out() -> None:
    """Every key of params.yaml belongs to a block of the table."""
    assert all(any(key.startswith(f"{block}.") for block in (*WOULD_RUN, *READ_BY_NO_STAGE)) for key in LEAVES)


# ------------------------------------------------------------------ data


def test_branches_share_no_data(stages: dict[str, PipelineStage], graph: nx.DiGraph) -> None:
    """The two halves are independent: only code is common to them."""
    halves = sorted(map(sorted, (WHOLE_RECOMMENDER, ROUTER)))
    assert sorted(map(sorted, nx.weakly_connected_components(graph))) == halves

    def data(names: list[str]) -> set[str]:
        every = {path for name in names for path in paths(stages[name].deps + stages[name].outs)}
        return every - code(every)

    assert not data(WHOLE_RECOMMENDER) & data(ROUTER)


@pytest.mark.parametrize(
    ("file", "readers"),
    [
        # What the final fit makes serves only: nothing reads it, as the next test proves.
        ("data/clean/test.parquet", {"evaluate", "final-fit"}),
        # Pre-training, fine-tuning and re-ranking choose their epochs by it.
        ("data/clean/validation.parquet", {"pretrain", "finetune", "rerank", "final-fit", "evaluate", *BASELINES}),
        # The comparisons put all queries together and split them anew; nothing that trains reads what they write.
        ("data/routing/test.parquet", {"online-replay", *COMPARISON, *STUDY}),
    ],
)
def test_held_out_data(file: str, readers: set[str], stages: dict[str, PipelineStage]) -> None:
    """Only these stages may read held-out rows, neither by name nor through a folder."""
    folders = {str(parent) for parent in Path(file).parents}
    assert {name for name, stage in stages.items() if paths(stage.deps) & {file, *folders}} == readers


def test_the_final_fit_is_never_measured(stages: dict[str, PipelineStage], graph: nx.DiGraph) -> None:
    """It may have learned from held-out rows: no stage reads what it writes, not even through a folder."""
    (out,) = paths(stages["final-fit"].outs)
    assert nx.descendants(graph, "final-fit") == set()
    folders = {out, *map(str, Path(out).parents)}
    for name, stage in stages.items():
        read = paths(stage.deps)
        assert not read & folders, name
        assert not any(path.startswith(f"{out}/") for path in read), name
    assert "models/finetune" in paths(stages["evaluate"].deps)


def test_declared_once(stages: dict[str, PipelineStage]) -> None:
    """Metrics are small files in git, the run cache is never switched off, and nothing always runs."""
    for name, stage in stages.items():
        assert not stage.always_changed, name
        for out in stage.outs:
            assert not out.persist, name
            assert out.use_cache or out.is_metric or out.is_plot, f"{name}: {out.def_path}"
    metrics = {out.def_path for stage in stages.values() for out in stage.outs if out.is_metric}
    assert {"reports/recommender.json", "reports/router.json"} <= metrics
