"""What is served is what was measured: a stream through the service gives the replay's decisions and posterior."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, RULE, draw, replay_params, train_params

from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.policy.objectives import Paper
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import ServiceSettings
from symbiosis.routing.simulation.replay import ReplayedRouter

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "refined": ("refined", {}),
    "posterior": ("binary", {"learning": "posterior"}),
    "supervised": ("binary", {"learning": "supervised", "warm_up": 5}),
    "policy_gradient": ("binary", {"learning": "policy_gradient", "warm_up": 5, "sampled_share": 0.3}),
}
World = tuple[Llms, Outcomes, np.ndarray, list[str]]


def synthetic() -> World:
    outcomes, vectors, domain = draw(380, seed=3)
    return LLMS, outcomes, vectors, [DOMAINS[d] for d in domain]


def real(name: str) -> World:
    """Some queries of a real table, described by their words."""
    folder = os.environ.get("SYMBIOSIS_DATA_DIR")
    if not folder:
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    import polars as pl
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer

    table = pl.read_parquet(Path(folder, f"routing/{name}.parquet"))
    ids = table["query_id"].unique().sort()
    table = table.filter(pl.col("query_id").is_in(ids.sample(min(len(ids), 500), seed=0).implode()))
    table = table.sort("query_id", "llm")
    names = table["llm"].unique().sort().to_list()
    queries = table.unique("query_id").sort("query_id")
    values = [
        table[column].to_numpy().astype(np.float64).reshape(-1, len(names))
        for column in ("quality", "prompt_tokens", "response_tokens", "cost_usd")
    ]
    words = HashingVectorizer(n_features=2**12).transform([text[-1000:] for text in queries["query_text"]])
    vectors = TruncatedSVD(16, random_state=0).fit_transform(words)
    price = values[3].sum(axis=0) / values[2].sum(axis=0)
    llms = Llms(tuple(names), 0 * price, price, np.full(len(names), 0.5), np.full(len(names), 60.0))
    return llms, Outcomes(np.arange(len(vectors)), *values), vectors, queries["domain"].to_list()


def compare(world: World, kind: str, sampling: dict[str, Any]) -> None:
    """Play the last 80 queries both ways, to a router trained on the others."""
    llms, outcomes, vectors, labels = world
    known, stream = np.arange(len(vectors) - 80), np.arange(len(vectors) - 80, len(vectors))
    offline, online = outcomes.take(known), outcomes.take(stream)
    router, _ = train(
        Split(offline, vectors[known], [labels[row] for row in known], [labels[row] for row in known]),
        llms,
        train_params(),
    )
    feedback, binary = KINDS[kind]
    params = replay_params(learning={"sampling": sampling}, binary=binary)
    experience = Experience.fit(router, vectors[known], offline, params.user.quality_above)
    replayed = ReplayedRouter(
        router, online, vectors[stream], RULE, feedback, experience, params.learning, params.binary, params.user,
        np.random.default_rng(4),
    )  # fmt: skip

    rng, head = np.random.default_rng(4), None
    if kind in ("supervised", "policy_gradient"):
        settings = params.binary.model_dump(exclude={"learning"})
        head = BinaryHead.blank(router, kind, **settings, seed=int(rng.integers(2**31)))  # type: ignore[arg-type]
    service = RoutingService(
        router,
        Paper(RULE),
        experience=experience,
        binary=head,
        settings=ServiceSettings(sampling["kind"], sampling["amount"], tried=len(llms)),
    )
    service.online.rng = rng

    waits = np.random.default_rng(5).exponential(3.0, (80, len(llms)))
    for query in range(80):
        dispatched = replayed.choose(query, waits[query])
        decision = service.route(vectors[stream[query]], None, waits[query])
        assert decision.arm == dispatched.arm
        assert decision.propensity == replayed.propensity[query]
        arm, wait = decision.arm, float(waits[query, decision.arm])
        replayed.answered(query, arm, wait, False)
        quality = float(online.quality[query, arm])
        if feedback == "refined":
            told: dict[str, Any] = {
                "quality": quality,
                "response_tokens": float(online.response_tokens[query, arm]),
            }
        else:
            in_time = wait < params.user.wait_below_s
            if kind != "policy_gradient" and not in_time:
                continue
            told = {"satisfied": quality > params.user.quality_above and in_time}
        assert service.feedback(decision.id, **told)
    for part in ("precision", "moments", "weights"):
        served, measured = getattr(service.router.heads, part), getattr(replayed.router.heads, part)
        np.testing.assert_array_equal(served, measured)
    if head is not None:
        assert replayed.online.binary is not None
        for name, tensor in replayed.online.binary.tensors().items():
            np.testing.assert_array_equal(head.tensors()[name], tensor)
        assert head.confidence.feedback > 0
    else:
        assert (service.router.heads.moments != router.heads.moments).any()


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("sampling", [{"kind": "none", "amount": 1.0}, {"kind": "thompson", "amount": 1.0}])
def test_a_stream_through_the_service_is_the_replay(kind: str, sampling: dict[str, Any]) -> None:
    compare(synthetic(), kind, sampling)


@pytest.mark.data
@pytest.mark.parametrize("name", ["realroute12", "routerbench_sample"])
def test_a_real_stream_through_the_service_is_the_replay(name: str) -> None:
    compare(real(name), "refined", {"kind": "thompson", "amount": 1.0})
