"""States that earlier releases wrote load with the right values, or one line says what to do.

`tests/golden` holds them: a router on 16 dimensions, its versions and its journal, as commits 704cca7 and 9060492 wrote
them through their own commands.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from symbiosis.core.artifacts import sha256_of
from symbiosis.core.errors import InputError
from symbiosis.routing.serving.workspace import Workspace

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def opened(name: str, folder: Path) -> Workspace:
    shutil.copytree(GOLDEN / name, folder / name)
    state, router = folder / name / "state", folder / name / "router"
    return Workspace(state, router=router, encode=lambda text: np.eye(16)[len(text) % 3])


def test_a_state_of_9060492_goes_on(tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / "router_9060492" / "expected.json").read_text())
    workspace = opened("router_9060492", tmp_path)
    with workspace.service() as service:
        assert list(service.router.llms.names) == expected["llms"]
        assert service.lessons == expected["lessons"]
        weights = service.router.heads.weights
        assert weights.sum() == pytest.approx(expected["weights_sum"], rel=1e-12)
        assert np.abs(weights).sum() == pytest.approx(expected["weights_abs_sum"], rel=1e-12)
    told = [[one.number, one.lessons, one.current] for one in workspace.versions()]
    assert told == expected["versions"]
    for key in expected["awaiting"]:
        assert workspace.feedback(key, quality=1.0)
    for key in expected["rewarded"]:
        with pytest.raises(InputError, match="has other feedback already"):
            workspace.feedback(key, quality=0.123)
    assert workspace.route("abc").id not in expected["decisions"]


def test_a_state_of_704cca7_is_refused_in_one_line(tmp_path: Path) -> None:
    workspace = opened("router_704cca7", tmp_path)
    for work in (workspace.versions, workspace.adopt, lambda: workspace.route("abc"), workspace.llms):
        with pytest.raises(InputError, match="delete ") as caught:
            work()
        assert "\n" not in str(caught.value)


def test_a_damaged_newest_version_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """The feedback that only the damaged one had learned from comes from the store."""
    workspace = opened("router_9060492", tmp_path)
    for text in ("abc", "abcd"):
        assert workspace.feedback(workspace.route(text).id, quality=1.0)
    with workspace.service() as service:
        lessons, weights = service.lessons, service.router.heads.weights.copy()
    newest = workspace.newest()
    (tmp_path / f"router_9060492/state/v{newest:08d}/router/router.safetensors").write_bytes(b"half")
    with workspace.service() as service:
        assert service.lessons == lessons
        np.testing.assert_allclose(service.router.heads.weights, weights, rtol=1e-9)
    (notice,) = workspace.notices
    assert f"version {newest} " in notice
    assert f"version {newest - 1} goes on as version {newest + 1}" in notice
    workspace.route("abc")
    assert workspace.notices == []
    assert newest not in [one.number for one in workspace.versions()]


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        (
            "service.json",
            '"workers": [',
            '"workers": [1.0, ',
            "service.json: `workers` has . values for . LLMs: load an",
        ),
        ("service.json", '"bit_generator"', '"another"', "service.json: `rng` is damaged .*: load an earlier version"),
        ("records.jsonl", "", "1_000\n", "records.jsonl: line 1 is damaged .*: load an earlier version, or delete "),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, name: str, old: str, new: str, told: str) -> None:
    """Whole by their digests, as another program may have written them."""
    workspace = opened("router_9060492", tmp_path)
    workspace.feedback(workspace.route("abc").id, quality=1.0)
    version = tmp_path / f"router_9060492/state/v{workspace.newest():08d}"
    file = version / name
    text = json.dumps(json.loads(file.read_text())) if name.endswith(".json") else file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1) if old else new)
    digests = json.loads((version / "digests.json").read_text())
    (version / "digests.json").write_text(json.dumps({**digests, name: sha256_of(file)}))
    with pytest.raises(InputError, match=told) as caught:
        workspace.route("abc")
    assert "\n" not in str(caught.value)
