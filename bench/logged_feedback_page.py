"""The page of `bench.logged_feedback`: tables with intervals over queries and the spread over divisions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symbiosis.core.statistics import bounds
from symbiosis.routing.experiments.comparison_results import SplitResult, query_weights
from symbiosis.routing.experiments.logged_policy import Comparison, PolicyEstimate
from symbiosis.routing.learning.off_policy import Estimate, Estimator
from symbiosis.routing.metrics.curves import Curve, summarise
from symbiosis.routing.model.params import RouterTrainParams

BASE, ALL = "full outcomes alone", "all queries, full outcomes"
SAMPLES = 300
EFFECTIVE = (30, 50, 100, 200)
SHOWN: tuple[Estimator, ...] = ("dr", "snips")
KINDS = {
    "effective sample size": "few effective rows",
    "importance weights": "weights miss mean 1",
    "tell the two apart": "too few rows tell the two apart",
    "alone, the router": "one LLM alone",
    "and dr differ": "estimators differ",
}


@dataclass(frozen=True)
class MethodRound:
    """One method on the test queries of one division.

    Attributes
    ----------
    seed, exploration, method
        Which; no exploration where there is no log.
    queries
        (M,), the test queries.
    curve, singles
        Quality and cost at every trade-off; of the cheapest and the best single LLM.
    utility
        (M,), at the serving trade-off.
    """

    seed: int
    exploration: str
    method: str
    queries: np.ndarray
    curve: Curve
    singles: Curve
    utility: np.ndarray


@dataclass(frozen=True)
class EstimateRound:
    """Estimates from one log, and the truth."""

    exploration: str
    found: Comparison
    candidate: float
    champion: float
    rows: int


@dataclass(frozen=True)
class Run:
    """What was measured on one table, with one share of full outcomes."""

    name: str
    share: float
    n_llms: int
    sizes: tuple[int, int, int]
    params: RouterTrainParams
    seeds: int
    repeats: int
    methods: list[MethodRound]
    estimates: list[EstimateRound]
    logs: list[dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """AIQ and utility of a method: by division, and in bootstrap samples of the queries (samples,)."""

    aiq: np.ndarray
    utility: np.ndarray
    aiq_drawn: np.ndarray
    utility_drawn: np.ndarray


def measured(rounds: Sequence[MethodRound], weights: Sequence[np.ndarray]) -> Measured:
    """Summarise the divisions of one method; `weights` are each division's bootstrap weights, (samples, M)."""
    aiq, drawn = [], []
    for one, own in zip(rounds, weights, strict=True):
        aiq.append(summarise(one.curve.points(), one.singles.points()).aiq)
        pairs = zip(one.curve.points(own), one.singles.points(own), strict=True)
        drawn.append([summarise(points, singles).aiq for points, singles in pairs])
    utility = [float(one.utility.mean()) for one in rounds]
    utilities = [own @ one.utility for one, own in zip(rounds, weights, strict=True)]
    return Measured(np.array(aiq), np.array(utility), np.mean(drawn, axis=0), np.mean(utilities, axis=0))


def page(runs: Sequence[Run], about: str, command: str) -> list[str]:
    """Return the lines of the page."""
    lines = [f"# What logged feedback is worth: `python -m bench.logged_feedback {command}`", "", about]
    for run in runs:
        lines += [
            "",
            f"## {run.name}, full outcomes of {run.share:.0%}",
            "",
            *_about(run),
            "",
            *_learning(run),
            "",
            *_estimates(run),
        ]
    return lines


def _about(run: Run) -> list[str]:
    full, stream, test = run.sizes
    chosen = Counter((one["predictor"], one["tags"]) for one in run.logs if "tags" in one)
    words = ", ".join(f"{predictor} on {tags} in {count}" for (predictor, tags), count in chosen.most_common())
    own, common = np.mean([one["noise"] for one in run.logs], axis=0)
    logged = run.params.logged
    lines = [
        f"{run.n_llms} LLMs; {full:,} queries with full outcomes, {stream:,} that are served, of which "
        f"{logged.holdout_share:.0%} are kept for estimates, {test:,} tested; {run.seeds} divisions. Chosen on the "
        f"full outcomes: {words}. Trade-off {run.params.serving.trade_off:g}. Variance of an LLM's own error {own:.3f},"
        f" of what all LLMs' errors have in common {common:.3f}: a logged answer counts as {own / (own + common):.2f} "
        f"of one beside all others. Inverse propensities are clipped at {logged.clip:g} and scaled to mean 1.",
        "",
        "| exploration (softmax) | asked another than the best | LLMs asked, exp of entropy | utility paid |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in dict.fromkeys(one["exploration"] for one in run.logs):
        own_logs = [one for one in run.logs if one["exploration"] == name]
        other, asked, price = (np.mean([one[key] for one in own_logs]) for key in ("other", "asked", "price"))
        lines.append(f"| {name} | {other:.1%} | {asked:.1f} | {price:.4f} |")
    return lines


def _learning(run: Run) -> list[str]:
    """Table of methods: gains over the router of the full outcomes alone."""
    groups: dict[tuple[str, str], list[MethodRound]] = {}
    for played in run.methods:
        groups.setdefault((played.exploration, played.method), []).append(played)
    base_rounds = groups["", BASE]
    weights = query_weights([SplitResult(played.queries, {}, {}) for played in base_rounds], SAMPLES, seed=0)
    found = {key: measured(rounds, weights) for key, rounds in groups.items()}
    base, whole = found["", BASE], found["", ALL]
    lines = [
        "Gains over the full outcomes alone, [95 % over queries], ± standard deviation over divisions, and the share "
        "of what full outcomes of all queries gain:",
        "",
        "| exploration | method | AIQ | gain of AIQ | share | utility | gain of utility | share |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (exploration, method), one in found.items():
        cells = [exploration, method]
        for measure in ("aiq", "utility"):
            own, other = getattr(one, measure), getattr(base, measure)
            drawn = getattr(one, f"{measure}_drawn") - getattr(base, f"{measure}_drawn")
            cells.append(f"{own.mean():.4f}")
            if one is base:
                cells += ["", ""]
                continue
            low, high = bounds(drawn)
            gain, most = (own - other).mean(), (getattr(whole, measure) - other).mean()
            cells.append(f"{gain:+.4f} [{low:+.4f}, {high:+.4f}] ± {(own - other).std(ddof=1):.4f}")
            cells.append(f"{gain / most:.0%}" if most > 0 else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _estimates(run: Run) -> list[str]:
    """Tables of off-policy estimates against the truth."""
    lines = [
        f"Off-policy estimates from {run.seeds * run.repeats} logs of {run.estimates[0].rows} queries for each "
        "exploration; candidate: log, as noisy answers; champion: full outcomes alone. Truth: mean utility over all "
        "queries that no router was trained on, from which the logs are drawn with replacement.",
        "",
        "| exploration | of | truth | estimator | bias | root mean square error | width of the interval "
        "| interval holds the truth |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    names = list(dict.fromkeys(one.exploration for one in run.estimates))
    for name in names:
        own = [one for one in run.estimates if one.exploration == name]
        for who in ("candidate", "champion", "difference"):
            truths = np.array([_truth(one, who) for one in own])
            for estimator in SHOWN:
                made = [_made(one, who, estimator) for one in own]
                kept = [place for place, one in enumerate(made) if one is not None]
                values = np.array([[one.value, one.low, one.high] for one in made if one is not None])
                if not kept:
                    continue
                value, low, high = values.T
                truth = truths[kept]
                error = value - truth
                held = ((low <= truth) & (truth <= high)).mean()
                lines.append(
                    f"| {name} | {who} | {truth.mean():.4f} | {estimator} | {error.mean():+.4f} | "
                    f"{np.sqrt((error**2).mean()):.4f} | {(high - low).mean():.4f} | {held:.0%} |"
                )
    lines += [
        "",
        "| exploration | effective rows: candidate | champion | telling them apart | decide alike | difference trusted "
        "| of these, interval holds the truth | interval beyond 0: right side | wrong side | alarms |",
        "| --- " + "| ---: " * 8 + "| --- |",
    ]
    lines += [_trust(name, [one for one in run.estimates if one.exploration == name]) for name in names]
    return [*lines, "", *_coverage(run)]


def _coverage(run: Run) -> list[str]:
    """How often intervals of DR hold the truth, by effective rows."""
    held: dict[str, list[tuple[float, bool]]] = {"candidate or champion": [], "difference": []}
    for one in run.estimates:
        for who in ("candidate", "champion", "difference"):
            made, truth = _made(one, who, "dr"), _truth(one, who)
            if made is None or (who == "difference" and one.found.alike == 1):
                continue
            side = _side(one, who)
            size = one.found.informative
            if who != "difference" and side is not None and side.report is not None:
                size = side.report.effective_sample_size
            name = "difference" if who == "difference" else "candidate or champion"
            held[name].append((size, made.low <= truth <= made.high))
    heads = [f"from {low:g}" for low in EFFECTIVE]
    lines = [
        "How often a 95 % interval of DR holds the truth, by effective rows (in brackets: number of estimates):",
        "",
        f"| | below {EFFECTIVE[0]:g} | {' | '.join(heads)} |",
        "| --- " + "| ---: " * (len(EFFECTIVE) + 1) + "|",
    ]
    for name, pairs in held.items():
        place = np.searchsorted(EFFECTIVE, [size for size, _ in pairs], side="right")
        good = np.array([hit for _, hit in pairs], dtype=bool)
        cells = [
            f"{good[place == number].mean():.0%} ({(place == number).sum():,})" if (place == number).any() else ""
            for number in range(len(EFFECTIVE) + 1)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _trust(name: str, own: Sequence[EstimateRound]) -> str:
    """How often a difference is trusted, and whether it then deserves it."""
    sizes = [
        np.mean([side.report.effective_sample_size for one in own if (side := _side(one, who)) and side.report])
        for who in ("candidate", "champion")
    ]
    trusted = [one for one in own if one.found.difference is not None and not one.found.alarms]
    held = right = wrong = 0
    for one in trusted:
        difference, truth = _made(one, "difference", "dr"), _truth(one, "difference")
        assert difference is not None
        held += difference.low <= truth <= difference.high
        if difference.low > 0 or difference.high < 0:
            right += difference.value * truth > 0
            wrong += difference.value * truth <= 0
    alarms: Counter[str] = Counter()
    for one in own:
        alarms.update({kind for alarm in one.found.alarms for part, kind in KINDS.items() if part in alarm})
    count = max(len(trusted), 1)
    cells = [
        name,
        *(f"{size:.0f}" for size in sizes),
        f"{np.mean([one.found.informative for one in own]):.0f}",
        f"{np.mean([one.found.alike for one in own]):.0%}",
        f"{len(trusted) / len(own):.0%}",
        f"{held / count:.0%}" if trusted else "",
        f"{right / count:.0%}" if trusted else "",
        f"{wrong / count:.0%}" if trusted else "",
        ", ".join(f"{kind} {number / len(own):.0%}" for kind, number in alarms.most_common()) or "none",
    ]
    return f"| {' | '.join(cells)} |"


def _side(one: EstimateRound, who: str) -> PolicyEstimate | None:
    return one.found.candidate if who == "candidate" else one.found.champion


def _made(one: EstimateRound, who: str, estimator: Estimator) -> Estimate | None:
    if who == "difference":
        return None if one.found.difference is None else one.found.difference[estimator]
    side = _side(one, who)
    return None if side is None or side.report is None else side.report.estimates[estimator]


def _truth(one: EstimateRound, who: str) -> float:
    return {"candidate": one.candidate, "champion": one.champion, "difference": one.candidate - one.champion}[who]
