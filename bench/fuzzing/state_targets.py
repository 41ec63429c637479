"""Targets that read what earlier runs have left on disk: the router's state, trained routers, champions, journals.

Inputs are a line that names the file, and its content. Where a digest guards a file, it is made anew: what is tried is
a file that another program wrote whole, not one that was damaged (which the digest tells).
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.fuzzing.trying import Target, use_test_worlds

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/router_9060492"
DIMENSION = 16


def _encode(text: str) -> np.ndarray:
    return np.eye(DIMENSION)[len(text) % 3]


def _seeds(files: Mapping[str, bytes]) -> list[bytes]:
    return [name.encode() + b"\n" + content for name, content in files.items()]


def _put(files: Mapping[str, bytes], content: bytes, folder: Path) -> str | None:
    """Write files into a folder that is made anew, one of them with other content; return its name, None if none."""
    first, _, rest = content.partition(b"\n")
    name = first.decode("latin-1")
    if name not in files:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    for other, known in files.items():
        path = folder / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rest if other == name else known)
    return name


def _small(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    named = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    return {name: content for name, content in named.items() if not name.startswith(without)}


def states(folder: Path) -> Target:
    """Open versions of the router's state, decide, learn, and list them."""
    from symbiosis.core.artifacts import sha256_of, write_json
    from symbiosis.routing.serving.versions import DIGESTS
    from symbiosis.routing.serving.workspace import Workspace

    def workspace(state: Path) -> Workspace:
        return Workspace(state, router=GOLDEN / "router", encode=_encode)

    made = folder / "made"
    opened = workspace(made)
    decision = opened.route("abc")
    opened.feedback(decision.id, quality=1.0)
    opened.store.close()
    version = sorted(made.glob("v*"))[-1]
    files = {f"{version.name}/{name}": content for name, content in _small(version).items()}
    state = folder / "state"

    def read(content: bytes) -> None:
        name = _put(files, content, state)
        if name is None:
            return
        place = state / version.name
        if not name.endswith(DIGESTS):
            known = sorted(path for path in place.rglob("*") if path.is_file() and path.name != DIGESTS)
            write_json(place / DIGESTS, {path.relative_to(place).as_posix(): sha256_of(path) for path in known})
        used = workspace(state)
        try:
            used.versions()
            used.llms()
            told = used.route("abc")
            used.feedback(told.id, quality=0.5)
            used.training()
        finally:
            used.store.close()

    return Target(read, _seeds(files), "named")


def routers(folder: Path) -> Target:
    """Open a trained router with its serving state."""
    from symbiosis.core.artifacts import sha256_of
    from symbiosis.routing.learning.reference import Reference
    from symbiosis.routing.learning.serving_state import FILE, ServingState
    from symbiosis.routing.model.router import MANIFEST, Router

    files = _small(GOLDEN / "router")
    place = folder / "router"

    def read(content: bytes) -> None:
        name = _put(files, content, place)
        if name is None:
            return
        if name == MANIFEST:
            told = json.loads(files[FILE])
            (place / FILE).write_text(json.dumps({**told, "router_sha256": sha256_of(place / MANIFEST)}))
        router = Router.load(place)
        state = ServingState.load(place)
        state.trained_on.of_store("x")
        Reference.load(place)
        router.predict(router.feature_map(np.eye(DIMENSION)[:2]))

    return Target(read, _seeds(files), "named")


def journals(folder: Path) -> Target:
    """Take over the journal of an earlier release."""
    from symbiosis.routing.serving.store import Store
    from symbiosis.routing.serving.upgrade import JOURNAL, take_over
    from symbiosis.routing.serving.versions import Versions

    lines = (GOLDEN / "state" / JOURNAL).read_bytes().splitlines(keepends=True)
    kinds: dict[bool, list[bytes]] = {True: [], False: []}
    for line in lines:
        kinds[line.startswith(b'{"decision"')].append(line)
    seed = b"".join([*kinds[True][:2], *kinds[False][:2]])
    state = folder / "state"
    state.mkdir()

    def read(content: bytes) -> None:
        for left in state.iterdir():
            left.unlink()
        (state / JOURNAL).write_bytes(content)
        store = Store.in_file(state / "store.db")
        try:
            take_over(Versions(state), store)
            store.number_lessons()
            list(store.answers(0))
        finally:
            store.close()

    return Target(read, [seed], "json")


def bundles(folder: Path) -> Target:
    """Open a recommender's bundle, and ask it for a user, a session and a text."""
    use_test_worlds()
    from recommender_world import write_recommender

    from symbiosis.recommender.inference.asking import RecommendationRequest
    from symbiosis.recommender.inference.recommender import Recommender

    files = _small(write_recommender(folder / "made"))
    tried = {name: content for name, content in files.items() if not name.endswith(".safetensors")}
    root = folder / "bundle"

    def read(content: bytes) -> None:
        if content.partition(b"\n")[0].decode("latin-1") not in tried or _put(files, content, root) is None:
            return
        recommender = Recommender.open(root)
        recommender.recommend(RecommendationRequest(user="0", count=2))
        recommender.recommend(RecommendationRequest(session=("B1",), text="tea", count=2))
        _ = recommender.parts.digest

    return Target(read, _seeds(tried), "named")


class _Registry:
    """A registry without versions."""

    def aliases(self, _: str) -> dict[str, int]:
        return {}

    def aliased(self, _: str, __: str) -> None:
        return None


def champions(folder: Path) -> Target:
    """Read what serves, the moves of the champion, the gate's verdict and the last run."""
    from symbiosis.core.layout import LAST_RUN
    from symbiosis.registry import champions as moves
    from symbiosis.registry.overview import overview

    change: dict[str, Any] = {
        "kind": "router", "action": "promote", "version": 2, "digest": "d", "former": 1, "at": "2026-01-01T00:00:00",
        "because": None, "moved": True,
    }  # fmt: skip
    place = ".champions/router"
    files = {
        f"{place}/history.jsonl": json.dumps(change).encode() + b"\n",
        f"{place}/pending.json": json.dumps(change).encode(),
        f"{place}/verdict.json": b'{"kind": "router", "standing": "passed", "checks": []}',
        f"{place}/versions/d/version.json": b'{"name": "n", "version": 2, "digest": "d"}',
        LAST_RUN.as_posix(): b'{"at": "2026-01-01", "outcome": "promoted"}',
    }
    root = folder / "root"

    def read(content: bytes) -> None:
        if _put(files, content, root) is None:
            return
        (root / place / "current").symlink_to("versions/d")
        json.dumps(overview(root), allow_nan=False)
        moves.history("router", root)
        moves.champion("router", root, _Registry())  # type: ignore[arg-type]

    return Target(read, _seeds(files), "named")
