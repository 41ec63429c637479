"""The comparison's timed stream: small queues by hand, no waits without a limit, waits that are seen, its numbers."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from routing_world import DOMAINS, LLMS, compare_params, draw, train_params

from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.baselines.base import Sample, Training
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.experiments import comparison, comparison_results, timed_results
from symbiosis.routing.experiments.params import CompareRoutersParams, CompareStreamParams
from symbiosis.routing.experiments.timed import (
    SINGLES,
    WAITS_SEEN,
    TimedCurve,
    Traffic,
    one_after_another,
    spread_points,
)
from symbiosis.routing.experiments.waits import LEADER, PENALTY, routers_seeing_waits, seeing_waits
from symbiosis.routing.metrics.curves import NOBODY, TRADE_OFFS, Curve
from symbiosis.routing.policy.objectives import Deadline, TradeOff
from symbiosis.routing.reports import timed as timed_page

ROOT = Path(__file__).resolve().parents[3]
BLOCK: Any = read_document(ROOT / "params.yaml")["compare_routers"]
# Two LLMs that write one token a second after one second, and one token in two seconds after none.
TWO = Llms(("one", "two"), np.zeros(2), np.zeros(2), np.array([1.0, 0.0]), np.array([1.0, 0.5]))
ENDLESS = {"limit_s": 1e9, "workers": 100_000}


def params(**changes: Any) -> CompareStreamParams:
    return CompareStreamParams.model_validate(BLOCK["stream"] | {"controls": []} | changes)


def outcomes(tokens: list[list[float]], quality: list[list[float]], cost: list[list[float]]) -> Outcomes:
    length = np.array(tokens, dtype=float)
    return Outcomes(np.arange(len(length)), np.array(quality), np.ones_like(length), length, np.array(cost))


def in_order(traffic: Traffic) -> Traffic:
    """The queries arrive in the order of the split."""
    traffic.__dict__["order"] = np.arange(len(traffic.outcomes))
    return traffic


def split_of(n: int, seed: int) -> Split:
    drawn, vectors, domain = draw(n, seed)
    labels = [DOMAINS[d] for d in domain]
    return Split(drawn, vectors, labels, [f"{label} / " for label in labels])


# ---------------------------------------------------------------- by hand


@pytest.mark.parametrize("charged", [False, True])
def test_three_queries_and_one_worker_by_hand(charged: bool) -> None:
    """10 s each, one arrives every second: the second waits 9 s, the third would wait 18 s."""
    three = outcomes([[9, 0]] * 3, [[0.5, 1], [0.25, 1], [1, 1]], [[1, 9], [2, 9], [4, 9]])
    stream = params(queries_per_s=1, workers=1, limit_s=15, charge_dropped=charged)
    streamed = in_order(Traffic(three, TWO, stream, 0)).blind(Curve.of(np.zeros((1, 3), dtype=int), three))
    np.testing.assert_array_equal(streamed.dropped, [[False, False, True]])
    np.testing.assert_array_equal(streamed.timed.quality, [[0.5, 0.25, 0]])
    np.testing.assert_array_equal(streamed.timed.cost, [[1, 2, 4.0 * charged]])
    np.testing.assert_array_equal(streamed.completion_s, [[10, 19, np.nan]])
    np.testing.assert_array_equal(streamed.idle.quality, [[0.5, 0.25, 1]])
    assert not streamed.failed.any()


@pytest.mark.parametrize(("limit", "dropped"), [(30, False), (4.5, True), (5, False)])
def test_a_cascade_takes_up_each_of_its_llms_in_turn(limit: float, dropped: bool) -> None:
    """First LLM 2 s, second 4 s, a query at 0 s and one at 1 s.

    The first has 0-2 and 2-6. The second waits for the first LLM until 2, has it until 4, and waits for the other one
    until 6: 5 s after it arrived.
    """
    pair = outcomes([[1, 2]] * 2, [[0.2, 0.8], [0.3, 0.9]], [[1, 10], [2, 20]])
    both = np.array([[[0, 1], [0, 1]]], dtype=np.int16)
    # A check of the first answer costs 0.5 besides.
    curve = Curve(np.array([[0.8, 0.9]]), np.array([[11.5, 22.5]]), both)
    stream = params(queries_per_s=1, workers=1, limit_s=limit)
    streamed = in_order(Traffic(pair, TWO, stream, 0)).blind(curve)
    np.testing.assert_array_equal(streamed.dropped, [[False, dropped]])
    np.testing.assert_array_equal(streamed.completion_s, [[6, np.nan if dropped else 9]])
    np.testing.assert_array_equal(streamed.timed.quality, [[0.8, 0.0 if dropped else 0.9]])
    # The first answer is lost, but paid for, and so is its check.
    np.testing.assert_array_equal(streamed.timed.cost, [[11.5, 2.5 if dropped else 22.5]])


def test_a_query_that_stops_early_leaves_the_second_llm_alone() -> None:
    pair = outcomes([[1, 2]] * 2, [[0.2, 0.8], [0.3, 0.9]], [[1, 10], [2, 20]])
    calls = np.array([[[0, NOBODY], [1, NOBODY]]], dtype=np.int16)
    streamed = in_order(Traffic(pair, TWO, params(queries_per_s=1, workers=1), 0)).blind(
        Curve(np.array([[0.2, 0.9]]), np.array([[1.0, 20.0]]), calls)
    )
    np.testing.assert_array_equal(streamed.completion_s, [[2, 4]])
    np.testing.assert_array_equal(streamed.timed.cost, [[1, 20]])


def test_every_call_of_a_cascade_has_its_own_attempts() -> None:
    """With certain failure of the second LLM alone: two attempts there after one at the first."""
    one = outcomes([[1, 2]], [[0.2, 0.8]], [[1, 10]])
    stream = params(queries_per_s=1, workers=1, attempts=2, llms={"two": {"failure": 1}})
    traffic = Traffic(one, TWO, stream, 0)
    curve = Curve(np.array([[0.8]]), np.array([[11.0]]), np.array([[[0, 1]]], dtype=np.int16))
    streamed = traffic.blind(curve)
    assert streamed.failed.all()
    assert traffic.send(one_after_another(curve.calls[0])).trace.attempts.tolist() == [3]  # type: ignore[index]
    np.testing.assert_array_equal(streamed.timed.quality, [[0]])
    np.testing.assert_array_equal(streamed.timed.cost, [[1]])
    assert np.isnan(streamed.completion_s).all()


def test_results_come_back_in_the_order_of_the_split() -> None:
    world = draw(50, 0)[0]
    traffic = Traffic(world, LLMS, params(workers=1, limit_s=5), 3)
    assert not np.array_equal(traffic.order, np.arange(50))
    streamed = traffic.blind(Curve.of(np.full((1, 50), 2), world))
    assert 0 < streamed.dropped.sum() < 50
    served = ~streamed.dropped[0]
    np.testing.assert_array_equal(streamed.timed.quality[0, served], world.quality[served, 2])
    np.testing.assert_array_equal(streamed.timed.cost[0, served], world.cost_usd[served, 2])
    service = LLMS.service_s(world.response_tokens)[:, 2]
    first = traffic.order[0]
    assert streamed.completion_s[0, first] == pytest.approx(service[first])
    assert (streamed.completion_s[0, served] >= service[served] - 1e-9).all()


def test_the_load_by_hand() -> None:
    """5 queries a second of 10 s and of 4 s, with 20 and 4 workers."""
    two = outcomes([[9, 2]] * 2, [[1, 1]] * 2, [[1, 1]] * 2)
    traffic = Traffic(two, TWO, params(queries_per_s=5, workers=20, llms={"two": {"workers": 4}}), 0)
    assert traffic.load() == {"one": 2.5, "two": 5.0}


# ---------------------------------------------------------------- laws


def test_without_waits_nothing_changes() -> None:
    training, test = split_of(200, 0), split_of(60, 1)
    known = Training(Sample.of(training), training.outcomes, LLMS, 0)
    traffic = Traffic(test.outcomes, LLMS, params(**ENDLESS), 0)
    names = ["random", "cheapest", "zero", "oracle", "domain_mean", "route_llm_logistic", "frugal_gpt", "auto_mix"]
    for name in names:
        baseline = BASELINES[name](known)
        baseline.fit(**next(BASELINES[name].Params().settings()))
        played = baseline.play(Sample.of(test), test.outcomes)
        certain = baseline.stream(Sample.of(test), test.outcomes, played)
        streamed = traffic.blind(certain)
        np.testing.assert_array_equal(streamed.timed.quality, certain.quality, err_msg=name)
        np.testing.assert_array_equal(streamed.timed.cost, certain.cost, err_msg=name)
        assert not streamed.dropped.any()
        if name not in ("random", "zero"):
            assert certain is played


def test_calls_of_cascades_pay_for_themselves() -> None:
    training, test = split_of(200, 0), split_of(60, 1)
    known = Training(Sample.of(training), training.outcomes, LLMS, 0)
    baseline = BASELINES["frugal_gpt"](known)
    baseline.fit(**next(BASELINES["frugal_gpt"].Params().settings()))
    curve = baseline.play(Sample.of(test), test.outcomes)
    assert curve.calls is not None
    assert curve.calls.dtype == np.int16
    asked = np.where(curve.calls == NOBODY, 0.0, test.outcomes.cost_usd[np.arange(60)[:, None], curve.calls])
    np.testing.assert_allclose(asked.sum(axis=2), curve.cost, rtol=1e-12)
    assert (curve.calls[..., 0] != NOBODY).all()
    assert (curve.calls[..., 1] != NOBODY).any()
    last = np.take_along_axis(curve.calls, (curve.calls != NOBODY).sum(axis=2)[..., None] - 1, axis=2)[..., 0]
    np.testing.assert_array_equal(test.outcomes.quality[np.arange(60), last], curve.quality)


def test_random_choices_are_drawn_for_the_stream_alone() -> None:
    training, test = split_of(200, 0), split_of(2000, 1)
    known = Training(Sample.of(training), training.outcomes, LLMS, 0)
    for name in ("random", "zero"):
        baseline = BASELINES[name](known)
        baseline.fit()
        played = baseline.play(Sample.of(test), test.outcomes)
        certain = baseline.stream(Sample.of(test), test.outcomes, played)
        assert certain.calls is not None
        if name == "random":
            np.testing.assert_allclose(certain.points(), played.points(), rtol=0.1)
        else:  # from the cheapest to the best, each a mix of two at most
            ends = [known.reference.cheapest, known.reference.best]
            np.testing.assert_array_equal(certain.cost[[0, -1]], played.cost[ends])
            assert max(len(np.unique(row)) for row in certain.calls) == 2


def test_waits_are_seen_only_where_there_are_any() -> None:
    training, test = split_of(300, 0), split_of(100, 1)
    router = comparison.train_form("router", training, LLMS, train_params(), 0)
    predicted = router.predict(router.feature_map(test.embeddings))
    choices = comparison.choices(predicted.quality, predicted.cost_usd, router.cost_scale)
    curve = Curve.of(choices, test.outcomes)
    places = spread_points(curve, 6)
    traffic = Traffic(test.outcomes, LLMS, params(**ENDLESS), 0)
    for name, streamed in routers_seeing_waits(traffic, router, predicted, places).items():
        # The published penalty of idle LLMs is the same for all of them.
        np.testing.assert_array_equal(streamed.timed.quality, curve.quality[places], err_msg=name)
        np.testing.assert_array_equal(streamed.idle.quality, curve.quality[places], err_msg=name)
    # A deadline counts the answer's own time, too: the dear LLMs are slow, and then avoided where nobody waits.
    hurried = Traffic(test.outcomes, LLMS, params(limit_s=0.5, workers=100_000), 0)
    seen = routers_seeing_waits(hurried, router, predicted, places)
    assert (seen[LEADER].idle.quality != curve.quality[places]).any()
    for streamed in seen.values():
        np.testing.assert_array_equal(streamed.timed.cost, streamed.idle.cost)
    np.testing.assert_array_equal(seen[PENALTY].idle.quality, curve.quality[places])


def test_a_served_deadline_counts_as_the_compared_one() -> None:
    compared, served = BLOCK["stream"]["deadline"], Deadline(5.0)
    assert (served.weight, served.risk) == (compared["weight"], compared["risk"])


def test_a_router_that_sees_the_waits_beats_one_that_does_not() -> None:
    """All take the dear LLM at a high trade-off; with a worker of each it can serve a fraction of them."""
    training, test = split_of(300, 0), split_of(300, 1)
    router = comparison.train_form("router", training, LLMS, train_params(), 0)
    predicted = router.predict(router.feature_map(test.embeddings))
    choices = comparison.choices(predicted.quality, predicted.cost_usd, router.cost_scale)
    curve = Curve.of(choices[-1:], test.outcomes)
    traffic = Traffic(test.outcomes, LLMS, params(queries_per_s=2, workers=3, limit_s=10, refresh_s=2), 0)
    blind = traffic.blind(curve)
    aware = traffic.seeing(
        [seeing_waits(router, predicted, TradeOff(float(TRADE_OFFS[-1])), Deadline(10, weight=1.0))], True
    )
    assert blind.dropped.mean() > 0.1
    assert aware.dropped.mean() < blind.dropped.mean() / 2
    assert aware.timed.quality.mean() > blind.timed.quality.mean() + 0.05


# ---------------------------------------------------------------- points, params


def test_points_are_corners_of_the_hull_spread_along_the_cost() -> None:
    cost = np.linspace(0, 1, 41)[:, None]
    curve = Curve(np.sqrt(cost) - 0.3 * (np.arange(41)[:, None] % 2), cost)  # every second one below the hull
    places = spread_points(curve, 5)
    assert len(places) == 5
    assert places[0] == 0
    assert places[-1] == 40
    assert all(place % 2 == 0 for place in places)
    assert np.diff(places).min() >= 2
    more = spread_points(curve, 30)  # all 21 corners, then points between them
    assert set(range(0, 41, 2)) < set(more)
    assert len(more) == 30
    assert (np.diff(more) > 0).all()
    few = Curve(np.array([[0.5], [0.9], [0.1]]), np.array([[3.0], [1.0], [2.0]]))
    assert spread_points(few, 3) == [1, 2, 0]  # all of them, by cost
    level = Curve(np.zeros((9, 2)), np.zeros((9, 2)))
    assert spread_points(level, 3) == [0]


@pytest.mark.parametrize("change", [{"points": 1}, {"deadline": {"share": 0}}, {"speed": 1}, {"limit_s": 0}])
def test_bad_params_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        params(**change)


def test_the_stream_may_be_left_out() -> None:
    assert CompareRoutersParams.model_validate(BLOCK | {"stream": None}).stream is None
    compared = comparison.compare(
        split_of(60, 0), split_of(30, 1), LLMS, train_params(), compare_params(baselines=["random"]), 5
    )
    assert compared.streams == {}
    assert "stream" not in compared.report


@pytest.mark.parametrize(
    ("name", "fault"),
    [("random", "does not weigh"), ("opt_llm", "does not weigh"), ("rdige", "is not among"), ("ridge", "is not among")],
)
def test_controls_are_compared_baselines_that_predict(name: str, fault: str) -> None:
    stream, baselines = params(controls=[name]), ["random", "opt_llm"]
    chosen = compare_params(baselines=baselines, stream=stream.model_dump())
    with pytest.raises(InputError, match=f"{name} {fault}"):
        comparison.compare(split_of(30, 0), split_of(30, 1), LLMS, train_params(), chosen, 5)


def test_unknown_llms_are_refused_before_any_work() -> None:
    stream = params(llms={"gpt": {"workers": 1}})
    with pytest.raises(InputError, match=r"`compare_routers.stream.llms` names the LLM 'gpt'"):
        comparison.compare(
            split_of(30, 0), split_of(30, 1), LLMS, train_params(), compare_params(stream=stream.model_dump()), 5
        )


# ---------------------------------------------------------------- numbers


def played(seed: int) -> comparison_results.SplitResult:
    """Two points of one method, the dearer of which loses every second query to the limit; the leader's do not."""
    world = draw(40, seed)[0]
    idle = Curve.of(np.tile([[3], [2]], (1, 40)), world)
    lost = np.zeros((2, 40), dtype=bool)
    lost[1, ::2] = True
    took = np.where(lost, np.nan, np.tile(np.arange(40.0), (2, 1)))
    timed = Curve(np.where(lost, 0, idle.quality), np.where(lost, 0, idle.cost))
    none = np.zeros((2, 40), dtype=bool)
    plain = Curve(idle.quality, idle.cost)
    streams = {
        SINGLES: TimedCurve(plain, timed, lost, none, took),
        "router": TimedCurve(plain, timed, lost, none, took),
        LEADER: TimedCurve(plain, plain, none, none, np.tile(np.arange(40.0), (2, 1))),
        "nearest_neighbours": TimedCurve(plain, timed, lost, none, took),
        f"nearest_neighbours{WAITS_SEEN}": TimedCurve(plain, plain, none, none, np.tile(np.arange(40.0), (2, 1))),
    }
    curves = {"router": idle, "nearest_neighbours": idle, SINGLES: idle}
    point = {"share": 0.9, "trade_off": 1.0, "position": 1}
    stream = {"load": {"a": 1.0 + seed}, "params": BLOCK["stream"]}
    return comparison_results.SplitResult(
        np.arange(40) + 20 * seed, curves, {"operating_point": point, "stream": stream}, streams
    )


def test_the_numbers_by_hand() -> None:
    splits = [played(0), played(1)]
    numbers = timed_results.summary(splits, 100, seed=0)
    assert numbers["load"] == {"a": 1.5}
    control = f"nearest_neighbours{WAITS_SEEN}"
    assert list(numbers["methods"]) == ["router", LEADER, control, "nearest_neighbours"]
    assert [one["kind"] for one in numbers["methods"].values()] == ["router", "router", "predictor", "predictor"]
    assert numbers["methods"][control]["lead_aiq"] == 0
    blind, aware = numbers["methods"]["router"], numbers["methods"][LEADER]
    assert aware["aiq"] == aware["aiq_idle"] == blind["aiq_idle"]
    assert blind["aiq"] < blind["aiq_idle"]
    # Both take the dear point, which alone keeps nine tenths.
    kept = [
        one.streams["router"].timed.quality[1].sum() / one.streams["router"].idle.quality[1].sum() for one in splits
    ]
    assert blind["quality_share"] == pytest.approx(np.mean(kept), rel=1e-5)
    assert blind["quality_share_idle"] == aware["quality_share"] == 1
    assert (blind["dropped"], blind["failed"], aware["dropped"]) == (0.5, 0, 0)
    assert blind["p50_s"] == 20  # of the odd numbers below 40
    assert aware["p50_s"] == 19.5
    assert blind["cost_at_97_25"] is None
    assert aware["cost_at_95"] < aware["cost_at_97_25"] < 1
    assert blind["lead_aiq"] == pytest.approx(aware["aiq"] - blind["aiq"], abs=1e-6)
    assert blind["lead_quality_share_95"]["low"] > 0
    assert blind["lead_aiq_95"]["low"] <= blind["lead_aiq"] <= blind["lead_aiq_95"]["high"]
    assert "lead_aiq" not in aware


def test_a_method_that_answers_nothing_has_no_times() -> None:
    one = played(0)
    none = np.ones((2, 40), dtype=bool)
    nothing = Curve(np.zeros((2, 40)), np.zeros((2, 40)))
    dead = TimedCurve(one.streams["router"].idle, nothing, none, ~none, np.full((2, 40), np.nan))
    numbers = timed_results.summary([replace(one, streams=one.streams | {"router": dead})], 100, seed=0)["methods"][
        "router"
    ]
    assert (numbers["p50_s"], numbers["p99_s"], numbers["dropped"]) == (None, None, 1)


def test_streams_are_saved_with_the_rest(tmp_path: Path) -> None:
    one = played(0)
    one.save(tmp_path / "one")
    back = comparison_results.SplitResult.load(tmp_path / "one")
    assert set(back.streams) == set(one.streams)
    for name, stream in one.streams.items():
        for part, tensor in stream.tensors().items():
            np.testing.assert_array_equal(back.streams[name].tensors()[part], tensor)
    replace(one, streams={}).save(tmp_path / "none")
    assert comparison_results.SplitResult.load(tmp_path / "none").streams == {}


def test_the_section_shows_every_method() -> None:
    splits = [played(0), played(1)]
    text = str(timed_page.section(splits, timed_results.summary(splits, 100, seed=0)))
    rows = re.findall(r"<tr[^>]*>\s*<td>([^<]+?) *<", text)
    methods = ["nearest neighbours", "nearest neighbours, waits seen", "router", "router, waits seen"]
    assert sorted(rows) == sorted(2 * methods)  # the table, and that of the details
    assert "As a control, nearest neighbours also see the waits" in text
    assert "10 queries a second (even)" in text
    assert "a 1.50" in text
    assert text.count("<figure") == 1
    assert ">never<" in text
