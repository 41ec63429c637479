"""The service: decisions that explain themselves, feedback, LLMs that come and go, and a state that survives."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, ROOT, RULE, draw, train_params

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import CAUTIOUS, Experience, Noise, Satisfaction
from symbiosis.routing.learning.satisfaction import BinaryHead
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router
from symbiosis.routing.model.single_query import SingleQuery
from symbiosis.routing.policy.objectives import Budget, Deadline, Outlook, Paper, QualityFloor, TradeOff, decide
from symbiosis.routing.policy.response_time import completion_interval
from symbiosis.routing.serving import snapshots
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import ServiceSettings
from symbiosis.routing.serving.versions import Versions

NEW: dict[str, Any] = {"price_prompt": 1e-6, "price_response": 2e-6, "startup_s": 0.5, "tokens_per_s": 50.0}


def trained(params: RouterTrainParams) -> Router:
    outcomes, vectors, domain = draw(300, seed=0)
    return train(Split(outcomes, vectors, [DOMAINS[d] for d in domain], [DOMAINS[d] for d in domain]), LLMS, params)[0]


@pytest.fixture(scope="module")
def router() -> Router:
    return trained(train_params())


_, VECTORS, _ = draw(60, seed=5)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def service_of(
    router: Router, objective: Any = None, deadline: Deadline | None = None, **options: Any
) -> RoutingService:
    return RoutingService(router, objective or TradeOff(1.4), deadline, **{"clock": Clock(), "session": "t"} | options)


@pytest.mark.parametrize(
    ("predictor", "calibration"),
    [
        ("linear", "none"),
        ("linear", "platt"),
        ("linear", "isotonic"),
        ("stacked", "none"),
        ("linear+stacked", "none"),
        ("linear+stacked+network", "none"),
    ],
)
def test_one_query_is_predicted_as_in_a_batch(predictor: str, calibration: str) -> None:
    router = trained(train_params(predictor=predictor, calibration=calibration))
    router = router.with_llm("new", 1e-6, 2e-6, 0.5, 50.0, penalty=10.0)
    features = router.feature_map(VECTORS)
    single = SingleQuery(router)
    np.testing.assert_allclose([single.features(vector) for vector in VECTORS], features, rtol=1e-9, atol=1e-12)
    router.learn(4, features[0], 1.0, 100.0)
    single.refresh(4)
    whole = router.predict(features, np.full((60, 5), 80.0))
    for row, x in enumerate(features):
        (quality, tokens), variance = single.means(x), single.variance(x)
        np.testing.assert_allclose(quality, whole.quality[row], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(tokens, whole.response_tokens[row], rtol=1e-9)
        np.testing.assert_allclose(variance, whole.variance[row], rtol=1e-3, atol=1e-6)


def test_the_published_score_decides_as_published(router: Router) -> None:
    service = service_of(router, Paper(RULE))
    waits = np.array([0.0, 20.0, 3.0, 40.0])
    told = router.predict(router.feature_map(VECTORS), np.full((60, 4), 80.0))
    expected = decide(Paper(RULE), Outlook.of(router, told, waits))
    for row, vector in enumerate(VECTORS):
        decision = service.route(vector, 80, waits)
        np.testing.assert_allclose(decision.score, expected.total[row], rtol=1e-4, atol=1e-6)
        assert decision.arm == expected.choice()[row]


def test_a_decision_explains_itself(router: Router) -> None:
    service = service_of(router, QualityFloor(0.5), Deadline(10.0, 0.2, risk=0.1))
    decision = service.route(VECTORS[0], 80, np.array([0.0, 20.0, 0.0, 0.0]))
    told = json.loads(decision.to_json())
    assert told["llm"] == LLMS.names[decision.arm]
    assert [row["llm"] for row in told["arms"]] == list(LLMS.names)
    for row in told["arms"]:
        assert row["quality_low"] <= row["quality"] <= row["quality_high"]
        assert row["completion_s"] > row["wait_s"]
        assert row["score"] == pytest.approx(sum(row["parts"].values()))
    assert not told["arms"][1]["admissible"]
    lines = decision.table().splitlines()
    assert len(lines) == 2 + len(LLMS)
    assert lines[2].startswith(f">  {decision.llm}")
    refused = {line.split()[1] for line in lines if line.startswith("x ")}
    assert refused == {row["llm"] for row in told["arms"] if not row["admissible"]}


def test_own_dispatches_count_at_once_and_pass(router: Router) -> None:
    clock = Clock()
    service = service_of(router, clock=clock, workers=np.array([1, 1, 2, 1]))
    first = service.route(VECTORS[0], 80, np.zeros(4))
    taken = first.completion_s[first.arm] / [1, 1, 2, 1][first.arm]
    second = service.route(VECTORS[0], 80)
    assert second.wait_s[first.arm] == pytest.approx(taken)
    assert np.delete(second.wait_s, first.arm).tolist() == [0, 0, 0]
    clock.now += 3600
    assert service.route(VECTORS[0], 80).wait_s.tolist() == [0, 0, 0, 0]
    assert service.route(VECTORS[0], 80, np.arange(4.0)).wait_s.tolist() == [0, 1, 2, 3]


def test_near_ties_go_to_the_shortest_queue(router: Router) -> None:
    waits = np.array([9.0, 9.0, 9.0, 1.0])
    plain = service_of(router, TradeOff(100.0)).route(VECTORS[0], 80, waits)
    assert plain.llm != "poor-cheap"
    tied = service_of(router, TradeOff(100.0), settings=ServiceSettings(near_tie=10.0)).route(VECTORS[0], 80, waits)
    assert tied.llm == "poor-cheap"


@pytest.mark.parametrize("kind", ["epsilon", "softmax", "thompson"])
def test_propensities_are_the_frequencies(router: Router, kind: Any) -> None:
    settings = ServiceSettings(exploration=kind, amount=0.3, tried=3, seed=1)
    service = service_of(router, settings=settings)
    decisions = [service.route(VECTORS[0], 80, np.zeros(4)) for _ in range(2000)]
    chance = decisions[0].probability
    assert chance.sum() == pytest.approx(1)
    assert (chance > 0).sum() == 3
    share = np.bincount([decision.arm for decision in decisions], minlength=4) / 2000
    np.testing.assert_allclose(share, chance, atol=4 * 0.5 / 2000**0.5)
    assert all(decision.propensity == chance[decision.arm] for decision in decisions)
    again = service_of(router, settings=settings)
    assert [again.route(VECTORS[0], 80, np.zeros(4)).arm for _ in range(50)] == [d.arm for d in decisions[:50]]


def test_refined_and_binary_feedback_teach(router: Router) -> None:
    for told, sign in (
        ({"quality": 1.0}, 1),
        ({"quality": 0.0}, -1),
        ({"satisfied": True}, 1),
        ({"satisfied": False}, -1),
    ):
        service = service_of(router, experience=Experience(Noise(0.1, 0.1), Satisfaction(1.0, 0.0, 0.05)))
        before = service.route(VECTORS[0], 80, np.zeros(4))
        raw = router.heads.predict(router.feature_map(VECTORS[:1]))[0][0, :, 0]
        assert service.feedback(before.id, **told)
        after = service.router.heads.predict(router.feature_map(VECTORS[:1]))[0][0, :, 0]
        assert np.sign(after[before.arm] - raw[before.arm]) == sign
        others = np.arange(4) != before.arm
        np.testing.assert_array_equal(after[others], raw[others])
        assert service.route(VECTORS[0], 80, np.zeros(4)).quality.tolist() != before.quality.tolist() or sign > 0


def test_feedback_is_idempotent_and_never_changed(router: Router) -> None:
    service = service_of(router)
    decision = service.route(VECTORS[0], 80)
    assert service.feedback(decision.id, quality=0.25, response_tokens=50)
    weights = service.router.heads.weights.copy()
    assert not service.feedback(decision.id, quality=0.25, response_tokens=50)
    for other in ({"quality": 0.5}, {"satisfied": True}):
        with pytest.raises(InputError, match="has other feedback already"):
            service.feedback(decision.id, **other)  # type: ignore[arg-type]
    np.testing.assert_array_equal(service.router.heads.weights, weights)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"quality": float("nan")}, "quality nan must lie in 0..1"),
        ({"quality": 1.5}, "quality 1.5 must lie in 0..1"),
        ({"quality": 0.5, "response_tokens": float("nan")}, "response_tokens nan"),
        ({"quality": 0.5, "response_tokens": -1}, "response_tokens -1"),
        ({"satisfied": float("nan")}, "satisfied nan"),
        ({}, "either `quality` or `satisfied`"),
        ({"quality": 0.5, "satisfied": True}, "either `quality` or `satisfied`"),
    ],
)
def test_bad_feedback_loses_nothing(router: Router, told: dict[str, Any], message: str) -> None:
    service = service_of(router)
    decision = service.route(VECTORS[0], 80)
    with pytest.raises(InputError, match=message):
        service.feedback(decision.id, **told)
    np.testing.assert_array_equal(service.router.heads.weights, router.heads.weights)
    assert service.feedback(decision.id, quality=0.5)


def test_unknown_old_and_too_many_decisions(router: Router) -> None:
    clock = Clock()
    service = service_of(router, clock=clock, settings=ServiceSettings(contexts=3, lifetime_s=60))
    with pytest.raises(InputError, match="'nobody' is unknown, or too old"):
        service.feedback("nobody", quality=1.0)
    ids = [service.route(VECTORS[row], 80).id for row in range(5)]
    assert list(service.memory.records) == ids[2:]
    with pytest.raises(InputError, match="unknown, or too old"):
        service.feedback(ids[0], quality=1.0)
    for key in ids[2:]:
        assert service.feedback(key, quality=1.0)
    late = service.route(VECTORS[0], 80).id
    clock.now += 61
    with pytest.raises(InputError, match="too old"):
        service.feedback(late, quality=1.0)
    assert len(service.memory.rewarded) == 3


def test_llms_come_and_go_without_touching_the_others(router: Router) -> None:
    service = service_of(router, settings=ServiceSettings(burn_in=5, burn_in_share=1.0))
    service.feedback(service.route(VECTORS[1], 80).id, quality=1.0)
    before = service.route(VECTORS[0], 80, np.zeros(4))
    kept = service.router.copy()
    # It answers everything, which none of the others does.
    service.add_llm("new", **NEW, vectors=VECTORS, quality=np.ones(60), response_tokens=np.full(60, 40.0))
    after = service.route(VECTORS[0], 80, np.zeros(5))
    for part in ("quality", "lower", "upper", "response_tokens", "cost_usd", "score"):
        np.testing.assert_array_equal(getattr(after, part)[:4], getattr(before, part))
    for part in ("precision", "moments", "weights"):
        np.testing.assert_array_equal(getattr(service.router.heads, part)[:4], getattr(kept.heads, part))
    assert after.quality[4] > 0.8
    # Burn-in: so many queries are drawn for it, then none.
    assert (after.llm, after.propensity) == ("new", 1.0)
    assert [service.route(VECTORS[0], 80).probability[4] for _ in range(4)] == [1.0] * 4
    assert service.online.burn_in.tolist() == [0] * 5
    service.remove_llm("bio-mid")
    last = service.route(VECTORS[0], 80, np.zeros(4))
    assert last.llms == ("alge-mid", "dear-all", "poor-cheap", "new")
    for part in ("quality", "lower", "upper", "response_tokens", "cost_usd", "score"):
        np.testing.assert_array_equal(getattr(last, part)[:3], getattr(before, part)[[0, 2, 3]])
    np.testing.assert_array_equal(service.router.heads.weights[:3], kept.heads.weights[[0, 2, 3]])
    assert service.router.cost_scale == router.cost_scale
    service.remove_llm("new")
    with pytest.raises(InputError, match="'new' was removed"):
        service.feedback(after.id, quality=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"price_response": None}, "'new' has price_response None"),
        ({"price_prompt": float("nan")}, "'new' has price_prompt nan"),
        ({"tokens_per_s": 0.0}, "tokens_per_s 0"),
        ({"name": "bio-mid"}, "there is an LLM 'bio-mid' already"),
        ({"vectors": VECTORS[:2]}, "one vector, quality and response_tokens for each"),
        (
            {"vectors": VECTORS[:2], "quality": np.array([1.0, np.nan]), "response_tokens": np.ones(2)},
            "probe query 1: quality nan",
        ),
    ],
)
def test_an_llm_that_is_badly_described_is_not_added(router: Router, changes: dict[str, Any], message: str) -> None:
    service = service_of(router)
    with pytest.raises(InputError, match=message):
        service.add_llm(**{"name": "new", **NEW, **changes})
    assert service.router.llms.names == LLMS.names
    service.route(VECTORS[0], 80)


def test_an_unknown_or_last_llm_is_not_removed(router: Router) -> None:
    service = service_of(router.take([2]))
    with pytest.raises(InputError, match="there is no LLM 'gpt': there are dear-all"):
        service.remove_llm("gpt")
    with pytest.raises(InputError, match="last LLM"):
        service.remove_llm("dear-all")


def test_texts_of_any_length_and_bad_queries(router: Router) -> None:
    seen: list[str] = []

    def encode(text: str) -> np.ndarray:
        seen.append(text)
        return VECTORS[len(text) % 60].astype(np.float32)

    service = service_of(router, encode=encode)
    short, long = service.route(""), service.route("a" * 100_000)
    assert [len(text) for text in seen] == [0, 100_000]
    assert long.cost_usd[2] > 24_000 * LLMS.price_prompt[2] > short.cost_usd[2]
    dumb = service_of(router)
    for query, tokens, waits, message in (
        ("text", 1, None, "without an encoder"),
        (np.full(16, np.nan), 1, None, "16 finite numbers"),
        (VECTORS[0][:3], 1, None, "16 finite numbers"),
        (VECTORS[0], -1, None, "prompt_tokens: -1"),
        (VECTORS[0], 1, np.array([0, 0, np.nan, 0]), "waits_s"),
        (VECTORS[0], 1, np.zeros(3), "waits_s"),
    ):
        with pytest.raises(InputError, match=message):
            dumb.route(query, tokens, waits)  # type: ignore[arg-type]
    assert not dumb.memory.records
    with pytest.raises(InputError, match="leave the deadline out"):
        service_of(router, Paper(RULE), Deadline(10.0))


def test_a_budget_is_kept(router: Router) -> None:
    _, vectors, _ = draw(2000, seed=9)
    greedy = service_of(router, TradeOff(1e6))
    dear = np.mean([d.cost_usd[d.arm] for d in (greedy.route(v, 80, np.zeros(4)) for v in vectors[:200])])
    budget = Budget(0.3 * float(dear))
    service = service_of(router, budget)
    spent = [d.cost_usd[d.arm] for d in (service.route(v, 80, np.zeros(4)) for v in vectors)]
    assert 0.9 < np.mean(spent[400:]) / budget.usd_per_query < 1.1


def test_a_saved_service_goes_on_where_it_was(router: Router, tmp_path: Path) -> None:
    clock, settings = Clock(), ServiceSettings(exploration="softmax", amount=0.1, burn_in=3)
    # A trained router's arrays may lie transposed in memory, which moves the last bit; a loaded one's do not.
    router.save(tmp_path / "router")
    service = service_of(
        Router.load(tmp_path / "router"),
        Budget(1e-4),
        clock=clock,
        settings=settings,
        experience=Experience(Noise(0.1, 0.05), CAUTIOUS.satisfaction),
    )
    ids = [service.route(vector, 80).id for vector in VECTORS[:20]]
    assert service.feedback(ids[0], quality=1.0, response_tokens=70)
    assert service.feedback(ids[1], satisfied=False)
    service.add_llm("new", **NEW)
    versions = Versions(tmp_path / "state")
    assert snapshots.save(service, versions) == 1
    twin = snapshots.load(versions, Budget(1e-4), clock=clock, settings=settings, session="t")
    for vector in VECTORS:
        waits = np.zeros(5)
        assert twin.route(vector, 80, waits).to_json() == service.route(vector, 80, waits).to_json()
    assert not twin.feedback(ids[1], satisfied=False)
    for one in (twin, service):
        assert one.feedback(ids[2], quality=0.0)
    np.testing.assert_array_equal(twin.router.heads.weights, service.router.heads.weights)


def test_the_last_versions_stay_and_a_damaged_one_is_refused(router: Router, tmp_path: Path) -> None:
    service, versions = service_of(router), Versions(tmp_path / "state", keep=2)
    with pytest.raises(InputError, match="holds no saved state"):
        versions.open()
    for _ in range(4):
        snapshots.save(service, versions)
        service.route(VECTORS[0], 80)
    assert versions.numbers() == [3, 4]
    assert sorted(path.name for path in versions.folder.iterdir()) == ["v00000003", "v00000004"]
    with pytest.raises(InputError, match="no version 1: there are 3, 4"):
        versions.open(1)
    files = [path for path in versions.open().rglob("*") if path.is_file()]
    assert len(files) == 5
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=rf"{file.name} is .*damaged.*load version 3"):
            snapshots.load(versions, TradeOff(1.0))
        file.write_bytes(whole)
    assert snapshots.load(versions, TradeOff(1.0), version=3).decisions == 2
    assert snapshots.load(versions, TradeOff(1.0)).decisions == 3


def test_one_version_of_each_day_stays(tmp_path: Path) -> None:
    versions = Versions(tmp_path, keep=2, days=3)
    # Days on which versions 1, 2, ... are saved; the last two stay in any case.
    for number, day in enumerate([1, 5, 5, 6, 7, 7, 7, 7, 7], start=1):
        versions.save(lambda folder: (folder / "part").touch())
        os.utime(tmp_path / f"v{number:08d}", (0, day * 86_400 + number))
    assert versions.numbers() == [3, 4, 7, 8, 9]
    plain = Versions(tmp_path, keep=2)
    plain.save(lambda folder: (folder / "part").touch())
    assert plain.numbers() == [9, 10]


SAVER = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import numpy as np
from symbiosis.routing.serving import snapshots
from symbiosis.routing.policy.objectives import TradeOff
from symbiosis.routing.model.router import Router
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.versions import Versions
service = RoutingService(Router.load({router!r}), TradeOff(1.4))
vector = np.full(16, 0.25)
while True:
    service.feedback(service.route(vector, 80).id, quality=1.0)
    service.route(vector, 80)
    print(snapshots.save(service, Versions({state!r})), flush=True)
"""


def test_a_service_that_is_killed_while_it_saves_loses_no_version(router: Router, tmp_path: Path) -> None:
    router.save(tmp_path / "router")
    state = tmp_path / "state"
    code = SAVER.format(tests=str(ROOT / "tests"), root=str(ROOT), router=str(tmp_path / "router"), state=str(state))
    for round_ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(4)]
        time.sleep(0.003 * round_)  # somewhere in the middle of a save
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout.read().split()]
        child.wait()
        child.stdout.close()
        service = snapshots.load(Versions(state), TradeOff(1.4))
        saved = Versions(state).numbers()
        assert saved[-1] >= told[-1]
        assert len(service.memory.records) == len(service.memory.rewarded) == service.decisions / 2 > 0
        assert service.router.heads.updates.sum() == service.decisions / 2
        snapshots.save(service, Versions(state))
        assert not [path.name for path in state.iterdir() if path.name.startswith(".")]


def test_objectives_may_be_changed_on_load(router: Router, tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    snapshots.save(service_of(router), versions)
    loaded = snapshots.load(versions, replace(TradeOff(1.0), trade_off=0.0))
    assert loaded.route(VECTORS[0], 80).llm == "poor-cheap"


@pytest.mark.parametrize(
    ("objective", "deadline"),
    [
        (TradeOff(1.4), None),
        (TradeOff(5.0, "linear"), Deadline(4.0, 0.5)),
        (Budget(2e-4, price=0.3), None),
        (QualityFloor(0.6), Deadline(6.0, 0.2, risk=0.3)),
        (Paper(RULE), None),
    ],
)
@pytest.mark.parametrize("predictor", ["linear", "forest", "stacked"])
def test_one_query_is_decided_as_in_a_batch(objective: Any, deadline: Deadline | None, predictor: str) -> None:
    router = trained(train_params(predictor=predictor))
    waits = np.array([0.0, 2.0, 3.0, 1.0])
    told = router.predict(router.feature_map(VECTORS), np.full((60, 4), 80.0))
    outlook = Outlook.of(router, told, waits, half_width=1.645 * 0.5)  # of the largest noise
    assert router.ranges is not None
    verdict = decide(objective, outlook, deadline, router.ranges.lengths.sigma)
    for row, vector in enumerate(VECTORS):
        decision = service_of(router, replace(objective), deadline).route(vector, 80, waits)
        assert decision.arm == verdict.choice()[row]
        np.testing.assert_array_equal(decision.admissible, verdict.admissible[row])
        np.testing.assert_allclose(decision.score, verdict.total[row], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(decision.lower, outlook.lower[row], rtol=1e-4, atol=1e-4)
        answer = router.ranges.quality(told.quality)
        np.testing.assert_allclose(decision.bounds.answer_lower, answer[0][row], atol=1e-9)  # type: ignore[arg-type]
        np.testing.assert_allclose(decision.bounds.answer_upper, answer[1][row], atol=1e-9)  # type: ignore[arg-type]
        startup, sigma = router.llms.startup_s, router.ranges.lengths.sigma
        ends = completion_interval(waits, startup, outlook.service_s[row], sigma)
        for end, key in zip(ends, ("completion_low_s", "completion_high_s"), strict=True):
            np.testing.assert_allclose([arm[key] for arm in decision.to_dict()["arms"]], end, rtol=1e-4)
    assert verdict.choice().min() < verdict.choice().max()


@pytest.mark.parametrize("kind", ["supervised", "policy_gradient"])
def test_a_head_of_its_own_learns_from_binary_feedback_alone(router: Router, kind: Any, tmp_path: Path) -> None:
    # Satisfied with one LLM only, whatever the query.
    head = BinaryHead.blank(router, kind, warm_up=20, rate=0.2, sampled_share=0.5, maximum_kappa=2.0)
    settings = ServiceSettings(exploration="epsilon", amount=0.5, tried=4, seed=3)
    service = service_of(router, TradeOff(1.4), binary=head, settings=settings)
    _, vectors, _ = draw(400, seed=11)
    for vector in vectors:
        decision = service.route(vector, 80, np.zeros(4))
        assert decision.probability.sum() == pytest.approx(1)
        assert service.feedback(decision.id, satisfied=decision.llm == "bio-mid")
        assert not service.feedback(decision.id, satisfied=decision.llm == "bio-mid")
    np.testing.assert_array_equal(service.router.heads.weights, router.heads.weights)
    plain = service_of(router, TradeOff(1.4))
    last = [service.route(vector, 80, np.zeros(4)) for vector in VECTORS]
    before = [plain.route(vector, 80, np.zeros(4)) for vector in VECTORS]
    gain = np.mean([one.score - other.score for one, other in zip(last, before, strict=True)], axis=0)
    assert gain.argmax() == 1
    assert gain[1] > 0.1 + np.delete(gain, 1).max()
    # It is kept on disk, and goes with LLMs that come and go.
    versions = Versions(tmp_path / "state")
    snapshots.save(service, versions)
    twin = snapshots.load(versions, TradeOff(1.4), settings=settings, clock=Clock(), session="t")
    for one in (service, twin):
        one.add_llm("new", **NEW)
        one.remove_llm("alge-mid")
    decisions = [one.route(VECTORS[0], 80, np.zeros(4)) for one in (service, twin)]
    np.testing.assert_allclose(decisions[0].score, decisions[1].score, rtol=1e-9)
    assert decisions[0].llms == ("bio-mid", "dear-all", "poor-cheap", "new")


def test_intervals_are_worked_out_when_they_are_read(router: Router) -> None:
    service = service_of(router)
    decision, twin = (service.route(VECTORS[0], 80, np.zeros(4)) for _ in range(2))
    told = twin.to_json()
    width = decision.upper - decision.lower
    for _ in range(40):
        service.feedback(service.route(VECTORS[0], 80, np.zeros(4)).id, quality=1.0)
    late = service.route(VECTORS[0], 80, np.zeros(4))
    assert (late.upper - late.lower)[late.arm] < width[late.arm]
    assert twin.to_json() == told


@pytest.mark.parametrize("objective", [TradeOff(1.4), QualityFloor(0.5)])
def test_a_decision_takes_no_more_steps_for_more_llms(router: Router, objective: Any) -> None:
    # Steps in Python and calls of numpy, not time: whoever goes through the LLMs one by one is found out.
    def steps(many: Router) -> int:
        service, counted = service_of(many, objective), 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        service.route(VECTORS[0], 80)
        sys.setprofile(count)
        try:
            service.route(VECTORS[0], 80)
        finally:
            sys.setprofile(None)
        return counted

    few, many = steps(router), router
    for number in range(40):
        many = many.with_llm(f"llm{number}", 1e-6, 2e-6, 0.5, 50.0, penalty=10.0)
    assert steps(many) == few
    assert few < 150
