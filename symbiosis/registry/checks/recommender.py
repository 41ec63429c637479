"""A candidate recommender against the champion on the same held-out users, or against popularity if it is the first.

A bundle that was fitted to all interactions has nothing left to be measured on: the model that was measured before,
trained on the training part alone in the same state of the pipeline, decides in its place (its *twin*). What the twin
reached is kept beside the champions, since it cannot be measured later, when the workspace has moved on.
"""

from functools import cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core import layout
from symbiosis.core.artifacts import sha256_of
from symbiosis.core.errors import InputError
from symbiosis.core.statistics import resampled_means
from symbiosis.recommender.evaluation.evaluation import held_out_edges
from symbiosis.recommender.metrics.metrics import protocol_with
from symbiosis.registry.checks.check import Check, not_worse
from symbiosis.registry.checks.users import MODEL, SPLIT, Measured, Origin, Part, Scores
from symbiosis.registry.params import GateParams
from symbiosis.reporting.names import metric

FEWEST = 20
"""Users that a judgement needs at least."""
_STANDS_IN = "the measured model stands for the {}, which has learned from the held-out items, too"
LEAK = "held-out interactions in the graph"
KEPT = layout.CHAMPIONS / "recommender" / "measured"
"""What twins of models fitted to all interactions have reached, by their digest and that of the split."""


def recommender_checks(
    candidate: Path, champion: Path | None, root: Path, params: GateParams, *, keep: bool = True
) -> tuple[Check, ...]:
    """Judge a candidate on the test part of the workspace.

    Parameters
    ----------
    candidate, champion
        Their bundles; None: there is no champion yet.
    root
        The top of the repository.
    params
        Of the gate.
    keep
        Whether to keep what the twin of a bundle fitted to all interactions has reached.

    Raises
    ------
    InputError
        Something that a judgement needs is missing or damaged, or is of another state of the pipeline.
    """
    origin = Origin.read(candidate)
    ours, said = _measurable(candidate, origin, root)
    workspace = Part(root)
    if leaked := held_out_edges(ours.graph, workspace.test):
        words = f"the candidate's graph holds {leaked:,} held-out interactions: set `clean.graph_edges: train`"
        return (Check(LEAK, False, leaked, None, None, 0, words),)
    scores = ours.scores()

    @cache
    def reached() -> Measured:
        held_out = workspace.taken, workspace.test, workspace.users
        return Measured.of(scores, *held_out, params.seed, workspace.protocol)

    if origin.data == "all" and keep:
        reached().keep(root / KEPT / f"{origin.twin}.parquet")
    if champion is None:
        return _by_itself(reached(), workspace, params, said)
    theirs = Origin.read(champion)
    if theirs.data == "all" and theirs.split == origin.split:
        return _compared(reached(), _kept(theirs, root), [*said, _STANDS_IN.format("champion")], params)
    return _compared(*_on_common_ground(scores, workspace, Part(champion), params, said), params)


def _kept(champion: Origin, root: Path) -> Measured:
    """Return what the twin of a champion fitted to all interactions reached.

    Raises
    ------
    InputError
        It was not kept.
    """
    file = root / KEPT / f"{champion.twin}.parquet"
    if not file.is_file():
        raise InputError(
            "the champion was fitted to all interactions of this very split, and what its measured model reached was "
            "not kept here: nothing is held out from it; compare the reports, and promote by force if you agree"
        )
    return Measured.kept(file)


def _measurable(candidate: Path, origin: Origin, root: Path) -> tuple[Part, list[str]]:
    """Return what stands for the candidate: itself, or its twin in the workspace.

    Raises
    ------
    InputError
        The workspace is of another state of the pipeline.
    """
    needed = SPLIT if origin.data == "train" else (*SPLIT, *MODEL)
    for path in needed:
        if not (root / path).exists() or sha256_of(root / path) != origin.made_from.get(path.as_posix()):
            raise InputError(
                f"{path} is not what the candidate was made from: run `dvc repro`, and register what that makes"
            )
    if origin.data == "train":
        return Part(candidate), []
    return Part(root), [_STANDS_IN.format("candidate")]


def _by_itself(ours: Measured, workspace: Part, params: GateParams, said: list[str]) -> tuple[Check, ...]:
    """Compare with the most popular items."""
    counts = np.bincount(workspace.train.indices, minlength=len(workspace.items)).astype(np.float32)
    popular = Measured.of(
        lambda users: np.tile(counts, (len(users), 1)),
        workspace.taken,
        workspace.test,
        workspace.users,
        params.seed,
        workspace.protocol,
    )
    primary = _primary(ours)
    _enough(ours.users)
    difference = ours.metrics[primary] - popular.metrics[primary]
    samples = resampled_means(difference[:, None], params.bootstrap_samples, params.seed)[:, 0]
    words = "; ".join([f"{metric(primary)} of {len(ours.users):,} users, less that of the most popular items", *said])
    margin = params.recommender.margin
    return (not_worse(metric(primary), difference.mean(), samples, margin, words, by="mean"),)


def _on_common_ground(
    scores: Scores, ours: Part, theirs: Part, params: GateParams, said: list[str]
) -> tuple[Measured, Measured, list[str]]:
    """Let both rank the same items for the same users, and leave out held-out interactions that the champion knows."""
    rows, their_rows = _same(ours.users, theirs.users)
    items, columns = _same(ours.items, theirs.items)
    if not len(rows) or not len(items):
        raise InputError("candidate and champion have no user, or no item, in common: they cannot be compared")
    known = theirs.learned_from[their_rows][:, columns] > 0
    taken = csr_array((ours.taken[rows][:, items] + known) > 0)
    held_out = ours.test[rows][:, items]
    test = csr_array(held_out - held_out.multiply(known))
    test.eliminate_zeros()
    test.sort_indices()
    names, protocol = [ours.users[row] for row in rows], ours.protocol
    other = theirs.scores()
    mine = Measured.of(lambda users: scores(rows[users])[:, items], taken, test, names, params.seed, protocol)
    champions = Measured.of(
        lambda users: other(their_rows[users])[:, columns], taken, test, names, params.seed, protocol
    )
    told = list(said)
    if len(items) < len(ours.items):
        told.append(f"{len(items):,} of {len(ours.items):,} items, which both know")
    if strangers := int((np.diff(ours.test.indptr) > 0).sum()) - int((np.diff(ours.test[rows].indptr) > 0).sum()):
        told.append(f"without {strangers:,} users whom the champion does not know")
    if seen := held_out.nnz - test.nnz:
        told.append(f"without {seen:,} held-out interactions that the champion has learned from")
    if (ours.train.shape, ours.train.nnz) != (theirs.train.shape, theirs.train.nnz):
        told.append("the champion ranks by the history that it was trained with")
    return mine, champions, told


def _same(ours: list[str], theirs: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of what stands in both lists, in the one and in the other, int64 (N,) each."""
    place = {name: number for number, name in enumerate(theirs)}
    numbers = np.array([number for number, name in enumerate(ours) if name in place], dtype=np.int64)
    return numbers, np.array([place[ours[number]] for number in numbers], dtype=np.int64)


def _compared(ours: Measured, theirs: Measured, said: list[str], params: GateParams) -> tuple[Check, ...]:
    """Compare two models user by user."""
    if ours.users != theirs.users:
        raise InputError("what was kept of the champion is of other users: compare the reports, or promote by force")
    _enough(ours.users)
    if ours.metrics.keys() != theirs.metrics.keys():
        raise InputError("the champion was measured on another kind of split: compare the reports, or promote by force")
    primary = _primary(ours)
    differences = np.stack([ours.metrics[name] - theirs.metrics[name] for name in ours.metrics], axis=1)
    samples = resampled_means(differences, params.bootstrap_samples, params.seed)
    checks = []
    for column, name in enumerate(ours.metrics):
        mine, other = ours.metrics[name].mean(), theirs.metrics[name].mean()
        words = f"{metric(name)} {mine:.4f}, the champion's {other:.4f}"
        if name == primary:
            words = "; ".join([f"{words}, of {len(ours.users):,} users", *said])
        difference, margin = differences[:, column].mean(), params.recommender.margin
        check = not_worse(metric(name), difference, samples[:, column], margin, words, decides=name == primary)
        checks.append(check)
    return tuple(checks)


def _primary(measured: Measured) -> str:
    """Return the name of the metric that decides."""
    return protocol_with(measured.metrics).chosen_by[0]


def _enough(users: list[str]) -> None:
    """Make sure that there are users to judge by.

    Raises
    ------
    InputError
        There are too few.
    """
    if len(users) < FEWEST:
        raise InputError(f"{len(users)} users have held-out items to compare by, {FEWEST} are needed: give more data")
