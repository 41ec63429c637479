"""The gate: a candidate serves only if it is not worse than the champion beyond a stated margin.

`judge` changes nothing; `apply` promotes what has passed and records the verdict, here and in MLflow.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from symbiosis.core.artifacts import read_json, staged, write_json
from symbiosis.core.errors import InputError, one_line
from symbiosis.core.layout import QUALITY
from symbiosis.core.params import PARAMS_FILE, read_document, validate_block
from symbiosis.core.serving import LINKS, Kind
from symbiosis.registry import champions
from symbiosis.registry.checks.check import Check
from symbiosis.registry.params import GateParams
from symbiosis.registry.verdict import Judged, Verdict
from symbiosis.registry.versions import NAMES, RegisteredVersion, Registry, now
from symbiosis.tracking.store import without_credentials

KINDS: tuple[Kind, ...] = tuple(LINKS)
TAG = "symbiosis.gate"
VERDICT, VERDICTS = "verdict.json", "verdicts.jsonl"
SUMMARY, PAGE = "verdict.md", "verdict.html"
"""Beside the champion: the last verdict, all of them, and the last one to read."""
QUALITY_REPORTS: dict[Kind, Path] = {"router": QUALITY / "routing.json", "recommender": QUALITY / "reviews.json"}
DATA_QUALITY, ROLLED_BACK, COMPARISON = "data quality", "taken back", "comparison"
LONGEST_TAG = 1_000
"""Characters."""

Outcome = Literal["promoted", "refused", "unchanged"]


class Waiting(InputError):  # noqa: N818
    """Nothing can be judged or moved now; the message says what waits, and for what."""


@dataclass(frozen=True)
class Applied:
    """What followed from a verdict.

    Attributes
    ----------
    outcome
        What was done.
    warning
        What could not be recorded, if anything.
    """

    outcome: Outcome
    warning: str | None = None


def read_params(root: Path) -> GateParams:
    """Read the block ``gate`` of ``params.yaml``.

    Raises
    ------
    InputError
        It is missing or has a bad key.
    """
    return validate_block(read_document(root / PARAMS_FILE), "gate", GateParams)


def judge(
    kind: Kind, root: Path, params: GateParams, registry: Registry | None = None, *, keep: bool = True
) -> Verdict:
    """Judge the candidate against the champion; nothing is promoted, and MLflow is only read.

    Parameters
    ----------
    kind
        Which model.
    root
        The top of the repository, whose held-out data both are measured on.
    params
        Of the gate.
    registry
        Of the repository, if it is open.
    keep
        See `symbiosis.registry.checks.recommender.recommender_checks`.

    Raises
    ------
    Waiting
        MLflow cannot be reached, or nothing was registered. A check that fails or crashes is a refusal, no error.
    """
    try:
        registry = registry or Registry(root)
        candidate = champions.candidate(kind, root, registry)
        champion = champions.champion(kind, root, registry)
    except InputError as error:
        raise Waiting(f"the {kind}'s candidate waits to be judged: {error}") from None
    if candidate is None:
        where = without_credentials(registry.uri)
        raise Waiting(f"no {kind} waits to be judged: MLflow at {where} knows no candidate of {NAMES[kind]}")
    ours, theirs = Judged.of(candidate), None if champion is None else Judged.of(champion)
    if theirs is not None and ours.digest == theirs.digest:
        words = f"{kind} {ours} is the champion already"
        return Verdict(kind, "unchanged", (), words, ours, theirs, now())
    checks = [_data_quality(kind, root)]
    if candidate.was_rolled_back:
        checks.append(
            Check.failed(
                ROLLED_BACK,
                f"it was taken back before: `symbiosis models promote {kind} --version {candidate.version} --force` "
                "lets it serve again",
            )
        )
    if all(check.passed for check in checks):
        checks += _attempted(lambda: _compared(candidate, champion, root, params, registry, keep=keep))
    return Verdict.of(kind, checks, ours, theirs, now())


def _data_quality(kind: Kind, root: Path) -> Check:
    """Look up whether the data passed their expectations."""
    path = QUALITY_REPORTS[kind]
    try:
        report = read_json(root / path)
        passed, broken, rules = bool(report["passed"]), int(report["broken"]), int(report["rules"])
    except InputError as error:
        return Check.failed(DATA_QUALITY, error)
    except (KeyError, TypeError, ValueError):
        return Check.failed(DATA_QUALITY, f"{path} does not say whether the data passed: run `dvc repro`")
    words = f"{rules - broken} of {rules} expectations hold ({path})"
    return Check(DATA_QUALITY, passed and not broken, broken, None, None, 0, words)


def _attempted(comparison: Callable[[], tuple[Check, ...]]) -> tuple[Check, ...]:
    """Return the checks; one that fails or crashes refuses the candidate, whatever it is that happened."""
    try:
        return comparison()
    except InputError as error:
        return (Check.failed(COMPARISON, error),)
    except Exception as error:  # a gate that falls over must stay shut
        return (Check.failed(COMPARISON, f"{type(error).__name__}: {error} (the check itself crashed)"),)


def _compared(
    candidate: RegisteredVersion,
    champion: RegisteredVersion | None,
    root: Path,
    params: GateParams,
    registry: Registry,
    *,
    keep: bool,
) -> tuple[Check, ...]:
    """Measure both on the same held-out rows; each half is imported where it is needed."""
    ours = champions.local_copy(candidate, root, registry)
    theirs = None if champion is None else champions.local_copy(champion, root, registry)
    if candidate.kind == "router":
        from symbiosis.registry.checks.logged import logged_checks
        from symbiosis.registry.checks.router import router_checks

        return (*router_checks(ours, theirs, root, params), *logged_checks(ours, theirs, root, params))
    from symbiosis.registry.checks.recommender import recommender_checks

    return recommender_checks(ours, theirs, root, params, keep=keep)


def apply(verdict: Verdict, root: Path, registry: Registry | None = None) -> Applied:
    """Promote a candidate that has passed, and record the verdict as tags in MLflow and as files beside the champion.

    Parameters
    ----------
    verdict
        From `judge`.
    root
        The top of the repository.
    registry
        Of the repository, if it is open.

    Raises
    ------
    Waiting
        The candidate or the champion is another one by now, or MLflow cannot be reached: nothing is promoted.
    """
    kind, number = verdict.kind, verdict.candidate.version
    try:
        registry = registry or Registry(root)
        _make_sure_of(verdict, root, registry)
        if verdict.standing == "unchanged":
            champions.pull(kind, root, registry)  # it may not serve here yet
            return Applied("unchanged")
        write_files(verdict, root)
        if verdict.passed:
            champions.promote(kind, number, root=root, registry=registry)
    except Waiting:
        raise
    except InputError as error:
        raise Waiting(f"{kind} {verdict.candidate}, {verdict.standing}, waits: {error}") from None
    return Applied("promoted" if verdict.passed else "refused", _tagged(verdict, registry))


def _make_sure_of(verdict: Verdict, root: Path, registry: Registry) -> None:
    """Make sure that the verdict is about what is candidate and champion now.

    Raises
    ------
    Waiting
        It is not.
    """
    candidate = champions.candidate(verdict.kind, root, registry)
    champion = champions.champion(verdict.kind, root, registry)
    for name, judged, found in (
        ("candidate", verdict.candidate, candidate),
        ("champion", verdict.champion, champion),
    ):
        if judged != (None if found is None else Judged.of(found)):
            raise Waiting(f"the {verdict.kind}'s {name} has changed since it was judged: judge again")


def _tagged(verdict: Verdict, registry: Registry) -> str | None:
    """Tag the version and its run; return in one line what hindered it."""
    told = {TAG: verdict.standing, f"{TAG}.words": one_line(verdict.words, LONGEST_TAG), f"{TAG}.at": verdict.at}
    try:
        version = registry.version(verdict.kind, verdict.candidate.version)
        registry.tag(version, told)
        # Router and recommender may come from one run.
        registry.tag_run(version, {key.replace(TAG, f"{TAG}.{verdict.kind}"): value for key, value in told.items()})
    except InputError as error:
        return f"the verdict on {verdict.kind} {verdict.candidate} is not in MLflow: {error}"
    return None


def write_files(verdict: Verdict, root: Path) -> Path:
    """Write the verdict beside the champion, as JSON, Markdown and a page, and add it to the earlier ones.

    Returns
    -------
    Path
        The folder.
    """
    from symbiosis.registry.verdict_page import html, markdown

    folder = (root / LINKS[verdict.kind]).parent
    folder.mkdir(parents=True, exist_ok=True)
    with staged(*(folder / name for name in (VERDICT, SUMMARY, PAGE))) as (document, summary, page):
        write_json(document, verdict.to_dict())
        summary.write_text(markdown(verdict), encoding="utf-8")
        page.write_text(html(verdict), encoding="utf-8")
    line = (json.dumps(verdict.to_dict(), ensure_ascii=False, allow_nan=False) + "\n").encode()
    handle = os.open(folder / VERDICTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)
    return folder
