"""What serves and why, from this machine's files alone: champions, the gate's last verdicts, and the last run."""

from pathlib import Path
from typing import Any

from symbiosis.core.layout import LAST_RUN
from symbiosis.core.serving import LINKS, Kind, current
from symbiosis.registry.bundles import VERSION
from symbiosis.registry.champions import history, record_of
from symbiosis.registry.gate import KINDS, VERDICT

MOVES = 10
"""Latest moves that are told."""


def overview(root: Path | str = Path()) -> dict[str, Any]:
    """Return champion, verdict and latest moves of each model, and the last scheduled run; no registry is asked.

    Returns
    -------
    dict
        ``router`` and ``recommender``, each with ``champion`` (version, digest, at; None: nothing was promoted),
        ``verdict`` (as `symbiosis.registry.verdict.Verdict.to_dict` gives it; None: none was given) and ``history``,
        the newest first; ``last_run``, as the flows leave it, None if there was none.
    """
    told: dict[str, Any] = {kind: _model(kind, Path(root)) for kind in KINDS}
    return {**told, "last_run": _read(Path(root) / LAST_RUN)}


def _model(kind: Kind, root: Path) -> dict[str, Any]:
    moves = history(kind, root)
    folder = current(kind, root)
    champion = None if folder is None else _read(folder / VERSION)
    if champion is not None and moves:
        champion = {**champion, "at": moves[-1].at}
    latest = [
        {"at": move.at, "action": move.action, "version": move.version, "because": move.because}
        for move in reversed(moves[-MOVES:])
    ]
    return {"champion": champion, "verdict": _read((root / LINKS[kind]).with_name(VERDICT)), "history": latest}


def _read(file: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, None if it is not there or only half of it."""
    try:
        return record_of(file.read_bytes())
    except OSError:
        return None
