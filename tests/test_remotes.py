"""Remote storage: what one clone has made another one pulls, with nothing to run again; models by name and version."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import PIPELINE, ROOT, command

from symbiosis.core.layout import RECOMMENDER, ROUTER

ARTIFACTS = "artifacts:\n  model: {path: models/train, type: model}\n"


def test_the_models_have_names() -> None:
    """Both that serve are named in dvc.yaml, and each is an output of a stage: what else could be pulled?"""
    document = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    paths = {name: artifact["path"] for name, artifact in document["artifacts"].items()}
    assert paths == {"recommender": str(RECOMMENDER), "router": str(ROUTER)}
    assert set(paths.values()) <= {str(out) for stage in document["stages"].values() for out in stage.get("outs", [])}


@pytest.mark.slow
def test_what_one_clone_pushes_another_pulls(stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second clone every output is there, and no stage runs: each of them would end in an error."""
    (stub_run / "dvc.yaml").write_text(PIPELINE + ARTIFACTS)
    small = ["reports/recommender.json", "reports/router.json", "reports/curves"]  # in git, as in this repository
    command(stub_run, "git", "add", "-f", "dvc.yaml", *small)
    command(stub_run, "git", "commit", "-q", "-m", "a named model")
    command(stub_run, "git", "tag", "-a", "model@v1.0.0", "-m", "first")
    command(stub_run, "dvc", "remote", "add", "--local", "-d", "storage", "../storage")
    command(stub_run, "dvc", "push", "-q")
    clone = stub_run.parent / "zweite Kopie, größer"
    command(stub_run.parent, "git", "clone", "-q", str(stub_run), str(clone))
    command(clone, "dvc", "remote", "add", "--local", "-d", "storage", "../storage")
    for stage in yaml.safe_load(PIPELINE)["stages"]:
        monkeypatch.setenv(f"BEHAVE_{stage}", "crash")
    refused = subprocess.run(["dvc", "repro"], cwd=clone, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "connection reset" in refused.stderr

    command(clone, "dvc", "pull", "-q")
    printed = command(clone, "dvc", "repro")
    assert "Running stage" not in printed
    assert printed.endswith("Data and pipelines are up to date.\n")
    outputs = ["data/raw/rows.txt", "data/rankings/b/ranking.txt", "models/train/model.txt", "reports/page.html"]
    for name in outputs:
        assert (clone / name).read_bytes() == (stub_run / name).read_bytes()

    elsewhere = stub_run.parent / "no repository"
    elsewhere.mkdir()
    shutil.rmtree(stub_run / ".dvc/cache")  # so that the files come from the remote
    command(elsewhere, "dvc", "artifacts", "get", str(stub_run), "model", "--rev", "v1.0.0", "-o", "models/train")
    for name in ("model.txt", "training.json"):
        assert (elsewhere / "models/train" / name).read_bytes() == (clone / "models/train" / name).read_bytes()
