"""The routing table from raw rows to splits: the generative model, checks, split, prices, speeds and the stage."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from routing_world import write_data

from stages import clean_routing, download_routing
from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.data import gaps, prices, selection, splits, synthetic, table
from symbiosis.routing.data.cleaning import clean
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.data.params import CleanRoutingParams, DownloadRoutingParams, ListPrice, SpeedClass
from symbiosis.routing.data.readers.columns import COLUMNS

ROOT = Path(__file__).resolve().parents[3]
RAW = Path("data/raw/routing")
OUTPUTS = ("queries", "llms", "offline", "online", "test")


def block(name: str) -> dict[str, Any]:
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    return dict(document[name])


STRICT = {"incomplete_queries": "refuse", "missing_tokens": "refuse", "missing_costs": "refuse"}


def clean_params(**changes: Any) -> CleanRoutingParams:
    """Params that refuse a table with gaps; see `test_gaps` for those that take it."""
    return CleanRoutingParams.model_validate(block("clean_routing") | STRICT | changes)


def download_params(**changes: Any) -> DownloadRoutingParams:
    return DownloadRoutingParams.model_validate(block("download_routing") | changes)


def put_raw(frame: pl.DataFrame) -> None:
    """Leave a raw table where the stage `clean_routing` looks for it."""
    RAW.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(RAW / "table.parquet")
    write_json(RAW / "manifest.json", {"source": "table", "format": "parquet"})


def outputs() -> dict[str, str]:
    return {name: hashlib.sha256(Path(f"data/routing/{name}.parquet").read_bytes()).hexdigest() for name in OUTPUTS}


def mean(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].to_numpy().mean())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    return synthetic.generate(300, seed=5)


# ---------------------------------------------------------------- the generative model


def test_the_same_seed_gives_the_same_table_and_another_seed_another() -> None:
    assert_frame_equal(synthetic.generate(60, seed=1), synthetic.generate(60, seed=1))
    assert not synthetic.generate(60, seed=1).equals(synthetic.generate(60, seed=2))


def test_the_synthetic_table_is_complete_and_consistent(raw: pl.DataFrame) -> None:
    assert raw.height == 300 * len(synthetic.LLMS)
    assert set(COLUMNS) <= set(raw.columns)
    whole = selection.complete(table.typed(raw, Path("raw")), Path("raw"), "refuse")
    assert whole.height == raw.height
    assert set(raw["quality"]) == {0.0, 1.0}
    price = {llm.name: (llm.price_prompt, llm.price_response) for llm in synthetic.LLMS}
    context = {domain.name: domain.context for domain in synthetic.DOMAINS}
    assert len(set(context.values())) > 2  # prompts are not all as long as their texts
    for row in raw.head(50).iter_rows(named=True):
        prompt, response = price[row["llm"]]
        assert row["prompt_tokens"] == -(-len(row["query_text"]) // 4) + context[row["domain"]]
        assert row["cost_usd"] == pytest.approx(
            (row["prompt_tokens"] * prompt + row["response_tokens"] * response) / 1e6
        )


def test_a_router_that_knows_the_domain_beats_the_best_single_llm_at_lower_cost() -> None:
    rows = synthetic.generate(3000, seed=11)
    known = pl.col("query_id") < "q002000"
    train, test = rows.filter(known), rows.filter(~known)
    means = train.group_by("llm").agg(pl.col("quality").mean()).sort("quality")
    single = means["llm"][-1]
    by_domain = train.group_by("domain", "llm").agg(pl.col("quality").mean())
    choice = by_domain.sort("quality").group_by("domain", maintain_order=True).last().select("domain", "llm")
    chosen = test.join(choice, on=["domain", "llm"])
    alone = test.filter(pl.col("llm") == single)
    rng = np.random.default_rng(0)
    matrix = test.sort("query_id", "llm")["quality"].to_numpy().reshape(-1, len(synthetic.LLMS))
    random = matrix[np.arange(len(matrix)), rng.integers(matrix.shape[1], size=len(matrix))].mean()
    assert mean(chosen, "quality") > mean(alone, "quality") + 0.04
    assert mean(chosen, "cost_usd") < 0.6 * mean(alone, "cost_usd")
    assert random < mean(alone, "quality") - 0.1
    assert matrix.max(axis=1).mean() > mean(chosen, "quality") + 0.05


def test_the_text_tells_the_difficulty_partly() -> None:
    queries = (
        synthetic.generate(2000, seed=3)
        .group_by("query_id")
        .agg(pl.col("quality").mean(), pl.col("query_text").first().str.len_chars().alias("characters"))
    )
    correlation = np.corrcoef(queries["quality"], queries["characters"])[0, 1]
    assert -0.8 < correlation < -0.2


# ---------------------------------------------------------------- choosing and completing


def tiny(**columns: Any) -> pl.DataFrame:
    """Two queries answered by two LLMs, as typed rows."""
    rows = {
        "query_id": ["a", "a", "b", "b"],
        "query_text": ["who?", "who?", "why?", "why?"],
        "domain": ["d", "d", "e", "e"],
        "llm": ["x", "y", "x", "y"],
        "quality": [1.0, 0.0, 0.5, 1.0],
        "cost_usd": [0.1, 0.2, 0.1, 0.2],
        "cost_basis": ["source"] * 4,
    }
    return table.typed(pl.DataFrame(rows | columns), Path("t.csv"))


def refusal(frame: pl.DataFrame) -> str:
    with pytest.raises(InputError) as error:
        selection.complete(frame, Path("t.csv"), "refuse")
    return str(error.value)


def test_a_missing_cell_is_named_by_query_and_llm() -> None:
    message = refusal(tiny().filter((pl.col("query_id") != "b") | (pl.col("llm") != "y")))
    assert message.startswith("t.csv: query 'b' has no quality for LLM 'y' (1 of 2 queries lack some LLM)")
    assert "incomplete_queries" in message


def test_a_null_quality_is_a_missing_cell() -> None:
    assert "query 'a' has no quality for LLM 'y'" in refusal(tiny(quality=[1.0, None, 0.5, 1.0]))


def test_incomplete_queries_can_be_dropped() -> None:
    frame = tiny(quality=[1.0, None, 0.5, 1.0])
    whole = selection.complete(frame, Path("t.csv"), "drop")
    assert whole["query_id"].to_list() == ["b", "b"]
    with pytest.raises(InputError, match="2 of 2 queries lack some LLM"):
        selection.complete(tiny(quality=[1.0, None, None, 1.0]), Path("t.csv"), "drop")


def test_of_each_text_the_first_query_can_be_kept(folder: Path) -> None:
    texts = {"q1": "Who?", "q2": "why?", "q3": " who?\u00a0", "q4": "WHY?", "q5": "when?"}
    rows = [(name, llm) for name in texts for llm in ("x", "y")]
    frame = pl.DataFrame({"query_id": [n for n, _ in rows], "query_text": [texts[n] for n, _ in rows]})
    frame = frame.with_columns(pl.Series("llm", [llm for _, llm in rows]))
    once = selection.first_of_each_text(frame)
    assert once.rows() == [row for row in frame.rows() if row[0] in ("q1", "q2", "q5")]
    put_raw(synthetic.generate(100, seed=5).with_columns(pl.lit("the same").alias("query_text")))
    with pytest.raises(InputError, match="1 queries are too few"):
        clean_routing.work(clean_params(repeated_texts="drop"))


def test_missing_tokens_of_labels_are_filled_in_and_others_stay() -> None:
    frame = pl.DataFrame(
        {
            "query_text": ["123456789", "12345678", "", "1234"],
            "prompt_tokens": [None, 7, None, None],
            "response_tokens": [None, None, None, None],
            "tokens_basis": [None, "tokenizer", None, "api_reported"],
        },
        schema_overrides={"response_tokens": pl.Int64},
    )
    filled = gaps.with_label_tokens(frame)
    assert filled["prompt_tokens"].to_list() == [3, 7, 0, None]
    assert filled["response_tokens"].to_list() == [1, None, 1, None]
    assert filled["tokens_basis"].to_list() == ["characters", "tokenizer", "characters", "api_reported"]
    assert filled.schema == frame.schema


def test_a_repeated_cell_is_named_by_query_and_llm() -> None:
    assert "query 'a' has 2 rows for LLM 'x' (1 such pairs)" in refusal(pl.concat([tiny(), tiny().head(1)]))


def test_two_texts_of_one_query_are_refused() -> None:
    assert "query 'a' has more than one `query_text`" in refusal(tiny(query_text=["who?", "WHO?", "why?", "why?"]))
    assert "query 'a' has more than one `domain`" in refusal(tiny(domain=["d", "e", "e", "e"]))


@pytest.mark.parametrize("column", ["query_id", "query_text", "domain", "llm"])
def test_missing_names_and_texts_are_refused(column: str) -> None:
    frame = tiny().with_columns(pl.when(pl.int_range(pl.len()) == 1).then(None).otherwise(pl.col(column)).alias(column))
    assert f"`{column}` is missing in 1 rows" in refusal(frame)


def test_llms_without_costs_are_named_with_the_key_that_leaves_them_out() -> None:
    message = refusal(tiny(cost_usd=[0.1, None, 0.1, None], cost_basis=["source", None, "source", None]))
    assert "2 outcomes of 1 LLMs have none" in message
    assert "`.exclude_llms` to [y]" in message


def test_costs_are_needed_for_the_queries_that_stay() -> None:
    frame = tiny(quality=[1.0, None, 0.5, 1.0], cost_usd=[0.1, None, 0.1, 0.2])
    assert selection.complete(frame, Path("t.csv"), "drop")["query_id"].to_list() == ["b", "b"]


def test_choosing_keeps_domains_and_llms() -> None:
    frame = tiny()
    assert selection.choose(frame, Path("t"), domains=["e"])["query_id"].unique().to_list() == ["b"]
    third = pl.concat([frame, frame.with_columns(pl.lit("z").alias("llm"))]).unique(["query_id", "llm"])
    assert sorted(selection.choose(third, Path("t"), llms=["x", "z"])["llm"].unique()) == ["x", "z"]
    assert sorted(selection.choose(third, Path("t"), exclude_llms=["x"])["llm"].unique()) == ["y", "z"]


def test_choosing_what_is_not_there_or_too_little_is_refused() -> None:
    with pytest.raises(InputError, match=r"`clean_routing.domains` names 'sports', .*; it has d, e"):
        selection.choose(tiny(), Path("t"), domains=["sports"])
    with pytest.raises(InputError, match=r"`clean_routing.exclude_llms` names 'gpt'"):
        selection.choose(tiny(), Path("t"), exclude_llms=["gpt"])
    with pytest.raises(InputError, match="at least two LLMs"):
        selection.choose(tiny(), Path("t"), llms=["x"])


# ---------------------------------------------------------------- split

TEXTS = st.text(alphabet="ab ", max_size=3)
QUERIES = st.lists(st.tuples(TEXTS, st.sampled_from(["d", "e", "f"])), min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(
    queries=QUERIES,
    test_share=st.floats(0.05, 0.9),
    online_share=st.floats(0, 0.9),
    seed=st.integers(0, 3),
)
def test_laws_of_the_split(queries: list[tuple[str, str]], test_share: float, online_share: float, seed: int) -> None:
    frame = pl.DataFrame(queries, schema={"query_text": pl.String, "domain": pl.String}, orient="row")
    assigned = splits.assign(frame, test_share, online_share, seed)
    assert len(assigned) == frame.height
    assert set(assigned) <= set(splits.SPLITS)
    assert assigned.equals(splits.assign(frame, test_share, online_share, seed))
    if online_share == 0:
        assert "online" not in set(assigned)
    by_text: dict[str, set[str]] = {}
    for (text, _), name in zip(queries, assigned, strict=True):
        by_text.setdefault(" ".join(text.split()).lower(), set()).add(name)
    assert all(len(names) == 1 for names in by_text.values()), "equal texts straddle splits"

    # Each domain's share of every split is right to half a group at each end of its stretch.
    first: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for text, domain in queries:
        key = " ".join(text.split()).lower()
        first.setdefault(key, domain)
        sizes[key] = sizes.get(key, 0) + 1
    for domain in {"d", "e", "f"}:
        groups = {key: size for key, size in sizes.items() if first[key] == domain}
        if not groups:
            continue
        total, largest = sum(groups.values()), max(groups.values())
        in_test = sum(size for key, size in groups.items() if by_text[key] == {"test"})
        in_online = sum(size for key, size in groups.items() if by_text[key] == {"online"})
        assert abs(in_test - test_share * total) <= largest / 2 + 1e-9
        assert abs(in_online - online_share * (1 - test_share) * total) <= largest + 1e-9


def test_texts_that_differ_in_case_blanks_or_width_are_the_same_prompt() -> None:
    full_width = "\N{FULLWIDTH QUESTION MARK}"
    texts = pl.DataFrame({"text": ["What  is\nthis?", " what is this? ", f"WHAT IS THIS{full_width}"]})
    assert texts.select(splits.normalised(pl.col("text")))["text"].to_list() == ["what is this?"] * 3


def test_another_seed_gives_another_split() -> None:
    frame = pl.DataFrame({"query_text": [f"q{n}" for n in range(100)], "domain": ["d"] * 100})
    assert not splits.assign(frame, 0.2, 0.2, 1).equals(splits.assign(frame, 0.2, 0.2, 2))
    assert splits.assign(frame, 0.2, 0.25, 1).value_counts().sort("split").rows() == [
        ("offline", 60),
        ("online", 20),
        ("test", 20),
    ]


# ---------------------------------------------------------------- prices and speeds

CLASSES = tuple(
    SpeedClass(below=below, startup_s=startup, tokens_per_s=rate)
    for below, startup, rate in ((0.5, 0.3, 110), (5, 0.5, 60), (None, 0.6, 25))
)


def outcomes(
    prompt: list[int | None], response: list[int | None], cost: list[float], latency: list[float] | None = None
) -> pl.DataFrame:
    n = len(cost)
    return pl.DataFrame(
        {
            "llm": ["x"] * n,
            "prompt_tokens": prompt,
            "response_tokens": response,
            "cost_usd": cost,
            "latency_s": latency or [None] * n,
            "tokens_basis": ["tokenizer"] * n,
            "cost_basis": ["source"] * n,
        },
        schema_overrides={"prompt_tokens": pl.Int64, "response_tokens": pl.Int64, "latency_s": pl.Float64},
    )


def described(frame: pl.DataFrame, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"prices": {}, "price_tolerance": 0.15, "speeds": {}, "speed_classes": CLASSES} | changes
    rows = prices.describe(frame, **settings).to_dicts()
    assert len(rows) == 1
    return rows[0]


def test_prices_are_recovered_from_costs() -> None:
    # 10 and 30 USD per million: 100 * 10 + 10 * 30 = 1300 USD per million such answers, and so on.
    row = described(outcomes([100, 200, 50], [10, 5, 40], [0.0013, 0.00215, 0.0017]))
    assert (row["price_prompt"], row["price_response"]) == (1e-5, 3e-5)
    assert row["price_basis"] == "fitted_to_source"
    assert row["price_error"] == 0
    assert (row["startup_s"], row["tokens_per_s"], row["speed_basis"]) == (0.6, 25, "price_class")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 1, allow_subnormal=False)),
        min_size=1,
        max_size=30,
    )
)
def test_fitted_prices_are_never_negative_nor_broken(rows: list[tuple[int, int, float]]) -> None:
    tokens = np.array([[p, r] for p, r, _ in rows], dtype=float)
    if tokens.sum() == 0:
        return
    price = prices.fit_prices(tokens, np.array([c for _, _, c in rows]))
    assert np.isfinite(price).all()
    assert (price >= 0).all()


def test_proportional_token_counts_give_one_price_for_both() -> None:
    row = described(outcomes([100, 200], [10, 20], [0.0011, 0.0022]))
    assert row["price_prompt"] == row["price_response"] == 1e-5


def test_without_tokens_the_price_is_unknown() -> None:
    row = described(outcomes([None, None], [None, None], [0.1, 0.2]))
    assert row["price_basis"] == "unknown"
    assert row["price_prompt"] is row["price_response"] is row["price_error"] is None
    assert row["speed_basis"] == "last_class"
    assert row["tokens_per_s"] == 25


def test_a_list_price_is_taken_as_given_if_it_agrees_with_the_costs() -> None:
    frame = outcomes([100, 200, 50], [10, 5, 40], [0.0013, 0.00215, 0.0017])
    row = described(frame, prices={"x": ListPrice(prompt=9.5, response=29)})
    assert (row["price_prompt"], row["price_response"], row["price_basis"]) == (9.5e-6, 2.9e-5, "given")
    assert 0 < row["price_error"] < 0.06


def test_a_list_price_ten_times_too_small_is_refused() -> None:
    frame = outcomes([100, 200, 50], [10, 5, 40], [0.0013, 0.00215, 0.0017])
    with pytest.raises(InputError, match=r"prices` of LLM 'x' give 0\.1 times the costs"):
        described(frame, prices={"x": ListPrice(prompt=1, response=3)})
    with pytest.raises(InputError, match="prices` names the LLM 'z'"):
        described(frame, prices={"z": ListPrice(prompt=1, response=3)})


@pytest.mark.parametrize(("dollars", "rate"), [(0.2, 110), (0.6, 60), (30, 25)])
def test_speed_classes_go_by_the_response_price(dollars: float, rate: float) -> None:
    cost = [(100 * dollars + r * dollars) / 1e6 for r in (10, 20, 35)]
    assert described(outcomes([100] * 3, [10, 20, 35], cost))["tokens_per_s"] == rate


def test_speed_is_recovered_from_latencies_with_outliers() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 400, size=200)
    latency = 0.5 + tokens / 40
    latency[::20] += 60
    startup, rate = prices.fit_speed(tokens, latency) or (0, 0)
    assert startup == pytest.approx(0.5, abs=0.15)
    assert rate == pytest.approx(40, rel=0.05)
    row = described(outcomes([50] * 200, tokens.tolist(), (tokens / 1e6).tolist(), latency.tolist()))
    assert row["speed_basis"] == "fitted_to_latency"


def test_latencies_that_the_length_does_not_explain_give_no_speed() -> None:
    assert prices.fit_speed(np.arange(10), np.arange(10) / 10) is None  # too few
    assert prices.fit_speed(np.full(100, 7), np.ones(100)) is None  # one length
    assert prices.fit_speed(np.arange(1, 101), np.linspace(2, 1, 100)) is None  # longer is faster


def test_speed_classes_must_rise() -> None:
    lines = [{"below": 5, "startup_s": 1, "tokens_per_s": 1}, {"below": None, "startup_s": 1, "tokens_per_s": 1}]
    assert len(clean_params(speed_classes=lines).speed_classes) == 2
    for bad in (lines[:1], lines[::-1], [lines[0], *lines]):
        with pytest.raises(ValueError, match="`below` must rise"):
            clean_params(speed_classes=bad)


# ---------------------------------------------------------------- the stage


def test_the_stages_write_what_the_router_reads(folder: Path) -> None:
    download_routing.work(download_params(source="synthetic", synthetic={"queries": 120}))
    clean_routing.work(clean_params())
    queries = pl.read_parquet("data/routing/queries.parquet")
    assert queries.schema == {
        "query": pl.UInt32,
        "query_id": pl.String,
        "query_text": pl.String,
        "domain": pl.String,
        "subdomain": pl.String,
        "prompt_tokens": pl.Float32,
        "split": pl.String,
    }
    assert queries["query"].to_list() == list(range(120))
    assert queries["query_id"].is_sorted()
    described = pl.read_parquet("data/routing/llms.parquet")
    assert described["llm"].to_list() == sorted(llm.name for llm in synthetic.LLMS)
    seen: set[int] = set()
    for name in splits.SPLITS:
        part = pl.read_parquet(f"data/routing/{name}.parquet")
        assert part.schema == {
            "query": pl.UInt32,
            "llm": pl.UInt32,
            "quality": pl.Float32,
            "prompt_tokens": pl.Int32,
            "response_tokens": pl.Int32,
            "cost_usd": pl.Float64,
            "latency_s": pl.Float32,
            "tokens_basis": pl.String,
            "cost_basis": pl.String,
        }
        own = queries.filter(pl.col("split") == name)["query"].to_list()
        expected = [(query, arm) for query in own for arm in range(described.height)]
        assert part.select("query", "llm").rows() == expected
        assert not seen & set(own)
        seen |= set(own)
    assert len(seen) == 120
    quality = read_json("reports/data_quality/routing.json")
    assert quality["passed"]
    assert {frame["frame"]: frame["rows"] for frame in quality["frames"]}["outcomes"] == 120 * len(synthetic.LLMS)
    assert quality["queries_dropped"] == 0


def test_every_outcome_survives_unchanged(folder: Path, raw: pl.DataFrame) -> None:
    put_raw(raw.sample(fraction=1, shuffle=True, seed=1))
    clean_routing.work(clean_params())
    parts = pl.concat([pl.read_parquet(f"data/routing/{name}.parquet") for name in splits.SPLITS])
    names = pl.read_parquet("data/routing/llms.parquet").select("llm").with_row_index("arm")
    queries = pl.read_parquet("data/routing/queries.parquet").select("query", "query_id")
    columns = ["query_id", "llm", "quality", "prompt_tokens", "response_tokens", "cost_usd", "latency_s"]
    back = parts.rename({"llm": "arm"}).join(names, on="arm").join(queries, on="query").select(columns)
    assert_frame_equal(back.sort("query_id", "llm"), raw.select(columns).sort("query_id", "llm"))


def test_the_order_of_the_rows_does_not_matter(folder: Path, raw: pl.DataFrame) -> None:
    put_raw(raw)
    clean_routing.work(clean_params())
    before = outputs()
    put_raw(raw.sample(fraction=1, shuffle=True, seed=2))
    clean_routing.work(clean_params())
    assert outputs() == before


@pytest.mark.parametrize("held_out", ["test", "online"])
def test_a_held_out_outcome_changes_nothing_that_training_reads(folder: Path, raw: pl.DataFrame, held_out: str) -> None:
    put_raw(raw)
    clean_routing.work(clean_params())
    before = outputs()
    queries = pl.read_parquet("data/routing/queries.parquet")
    ids = queries.filter(pl.col("split") == held_out)["query_id"].implode()
    held = pl.col("query_id").is_in(ids)
    put_raw(
        raw.with_columns(
            pl.when(held).then(1 - pl.col("quality")).otherwise("quality").cast(pl.Float32).alias("quality"),
            pl.when(held).then(pl.col("cost_usd") * 3).otherwise("cost_usd").alias("cost_usd"),
            pl.when(held).then(pl.col("response_tokens") + 500).otherwise("response_tokens").alias("response_tokens"),
            pl.when(held).then(pl.col("latency_s") * 9).otherwise("latency_s").cast(pl.Float32).alias("latency_s"),
        )
    )
    clean_routing.work(clean_params())
    after = outputs()
    assert {name for name in OUTPUTS if after[name] != before[name]} == {held_out}


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("quality", 1.5, "quality lies in 0..1"),
        ("quality", -0.1, "quality lies in 0..1"),
        ("cost_usd", -1e-6, "cost lies in 0..1,000 USD"),
        ("prompt_tokens", -1, "prompt tokens lie in"),
        ("latency_s", -2.0, "latency lies in"),
        ("tokens_basis", "guessed", "tokens_basis is one of"),
        ("tokens_basis", None, "token counts have a basis"),
        ("cost_basis", "imagined", "cost_basis is one of"),
        ("cost_basis", None, "cost has a basis"),
    ],
)
def test_a_bad_value_stops_the_stage_and_leaves_nothing_half_written(
    folder: Path, raw: pl.DataFrame, column: str, value: Any, rule: str
) -> None:
    llm = synthetic.LLMS[2].name
    bad = (pl.col("query_id") == "q000007") & (pl.col("llm") == llm)
    put_raw(raw.with_columns(pl.when(bad).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)))
    with pytest.raises(InputError) as error:
        clean_routing.work(clean_params())
    assert rule in str(error.value)
    assert f"query q000007, LLM {llm}" in str(error.value)
    assert not Path("data/routing").exists()
    assert [path.name for path in Path("reports").rglob("*.*")] == ["routing.failed.html"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("quality", float("inf"), "`quality` is inf, not Float64, .* query 'q000007', LLM '{llm}'"),
        ("quality", float("nan"), "query 'q000007' has no quality for LLM '{llm}'"),
        ("cost_usd", float("nan"), r"1 outcomes of 1 LLMs have none: .* to \[{llm}\]"),
    ],
)
def test_nan_is_missing_and_infinite_is_refused(
    folder: Path, raw: pl.DataFrame, column: str, value: float, message: str
) -> None:
    llm = synthetic.LLMS[2].name
    bad = (pl.col("query_id") == "q000007") & (pl.col("llm") == llm)
    put_raw(raw.with_columns(pl.when(bad).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)))
    with pytest.raises(InputError, match=message.format(llm=llm)):
        clean_routing.work(clean_params())
    assert not Path("data/routing").exists()


def test_quality_in_percent_is_told(folder: Path, raw: pl.DataFrame) -> None:
    put_raw(raw.with_columns(pl.col("quality") * 100))
    with pytest.raises(InputError, match="looks like percent"):
        clean_routing.work(clean_params())


def test_a_table_whose_llms_are_all_free_is_cleaned(folder: Path, raw: pl.DataFrame) -> None:
    put_raw(raw.with_columns(pl.lit(0.0).alias("cost_usd")))
    clean_routing.work(clean_params())
    described = pl.read_parquet("data/routing/llms.parquet")
    assert set(described["price_prompt"]) == set(described["price_response"]) == {0.0}


def test_too_few_queries_for_a_split_are_refused(folder: Path) -> None:
    put_raw(tiny())
    with pytest.raises(InputError, match="2 queries are too few: the online split is empty"):
        clean_routing.work(clean_params())


def test_empty_and_very_long_texts_and_missing_optional_columns_are_kept(folder: Path) -> None:
    texts = ["", "x" * 100_000, *(f"question {n}" for n in range(28))]
    rows = [
        {"query_id": f"q{n:02}", "query_text": text, "domain": "d", "llm": llm, "quality": 0.5, "cost_usd": 0.01}
        for n, text in enumerate(texts)
        for llm in ("x", "y")
    ]
    put_raw(pl.DataFrame(rows).with_columns(pl.lit("source").alias("cost_basis")))
    clean_routing.work(clean_params())
    queries = pl.read_parquet("data/routing/queries.parquet")
    assert queries["query_text"].to_list() == texts
    assert queries["subdomain"].to_list() == [""] * 30
    part = pl.read_parquet("data/routing/offline.parquet")
    assert part["prompt_tokens"].null_count() == part["latency_s"].null_count() == part.height
    assert set(pl.read_parquet("data/routing/llms.parquet")["price_basis"]) == {"unknown"}


# ---------------------------------------------------------------- real tables


def real(name: str) -> Path:
    place = os.environ.get("SYMBIOSIS_DATA_DIR")
    if not place:
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    return Path(place, "routing", name)


def cleaned(name: str, **changes: Any) -> dict[str, pl.DataFrame]:
    path = real(name)
    params = clean_params(**changes)
    frame = selection.choose(
        table.read_table(path), path, domains=params.domains, llms=params.llms, exclude_llms=params.exclude_llms
    )
    return clean(selection.complete(frame, path, params.incomplete_queries), path, params)


@pytest.mark.data
def test_routerbench_sample() -> None:
    # List prices of the models, USD per million prompt and response tokens, from RouterBench's paper.
    listed = {
        "gpt-4-1106-preview": (10, 30),
        "claude-v1": (8, 24),
        "gpt-3.5-turbo-1106": (1, 2),
        "meta/llama-2-70b-chat": (0.9, 0.9),
        "zero-one-ai/Yi-34B-Chat": (0.8, 0.8),
        "mistralai/mixtral-8x7b-chat": (0.6, 0.6),
        "mistralai/mistral-7b-chat": (0.2, 0.2),
    }
    parts = cleaned("routerbench_sample.parquet")
    assert parts["queries"].height == 326
    assert parts["llms"].height == 11
    assert parts["queries"]["subdomain"].n_unique() == 58
    fitted = {row["llm"]: row for row in parts["llms"].iter_rows(named=True)}
    for name, (prompt, response) in listed.items():
        assert fitted[name]["price_basis"] == "fitted_to_source"
        assert fitted[name]["price_prompt"] * 1e6 == pytest.approx(prompt, rel=0.15)
        assert fitted[name]["price_response"] * 1e6 == pytest.approx(response, rel=0.15)
    # And the other way round: the listed prices reproduce the mean costs.
    given = {name: {"prompt": prompt, "response": response} for name, (prompt, response) in listed.items()}
    again = cleaned("routerbench_sample.parquet", prices=given)["llms"]
    assert again.filter(pl.col("price_basis") == "given").height == len(listed)


@pytest.mark.data
def test_realroute12() -> None:
    parts = cleaned("realroute12.parquet")
    queries, described = parts["queries"], parts["llms"]
    assert queries.height == 8055
    assert described.height == 12
    assert queries["domain"].n_unique() == 11
    assert sum(parts[name].height for name in splits.SPLITS) == 8055 * 12
    shares = queries.group_by("domain").agg((pl.col("split") == "test").mean().alias("test"))
    assert shares["test"].is_between(0.19, 0.21).all()
    keys = queries.select(splits.normalised(pl.col("query_text")).alias("text"), "split")
    assert keys.group_by("text").agg(pl.col("split").n_unique())["split"].max() == 1
    fitted = {row["llm"]: row for row in described.iter_rows(named=True)}
    mini = fitted["gpt-4o-mini-2024-07-18"]
    assert mini["price_prompt"] * 1e6 == pytest.approx(0.15, rel=0.01)
    assert mini["price_response"] * 1e6 == pytest.approx(0.6, rel=0.01)
    assert mini["speed_basis"] == "fitted_to_latency"
    assert fitted["Meta-Llama-3-8B-Instruct"]["speed_basis"] == "price_class"
    everything = pl.concat([parts[name] for name in splits.SPLITS])
    best = everything.group_by("llm").agg(pl.col("quality").mean())["quality"].max()
    oracle = everything.group_by("query").agg(pl.col("quality").max())["quality"].mean()
    assert best == pytest.approx(0.800, abs=0.001)
    assert oracle == pytest.approx(0.909, abs=0.001)


@pytest.mark.data
def test_optllm_holds_two_families_to_choose_from() -> None:
    with pytest.raises(InputError, match="34160 of 34160 queries lack some LLM"):
        cleaned("optllm.parquet", exclude_llms=["j2_mid", "j2_ultra"])
    with pytest.raises(InputError, match=r"exclude_llms` to \[j2_mid, j2_ultra\]"):
        cleaned("optllm.parquet", domains=["log_parsing"])
    logs = cleaned("optllm.parquet", domains=["log_parsing"], exclude_llms=["j2_mid", "j2_ultra"])
    assert (logs["queries"].height, logs["llms"].height) == (32_000, 6)
    keys = logs["queries"].select(splits.normalised(pl.col("query_text")).alias("text"), "split")
    assert keys.group_by("text").agg(pl.col("split").n_unique())["split"].max() == 1
    rulings = cleaned("optllm.parquet", domains=["overruling"])
    assert (rulings["queries"].height, rulings["llms"].height) == (2_160, 12)
    assert set(rulings["llms"]["price_basis"]) == {"unknown"}


# ---------------------------------------------------------------- reading the splits back


def test_labels_are_prepared_in_one_way() -> None:
    frame = pl.DataFrame({"domain": ["a", "a", "b"], "subdomain": ["x", None, ""]})
    assert splits.labels_of(frame) == (["a", "a", "b"], ["a / x", "a", "b"])


def test_token_counts_that_were_estimated_are_told_apart(tmp_path: Path) -> None:
    write_data(tmp_path, offline=6, online=2, test=2)
    routing = tmp_path / "data/routing"
    llms = Llms.load(routing / "llms.parquet")
    table = pl.read_parquet(routing / "offline.parquet")
    assert Outcomes.load(routing / "offline.parquet", llms).counted is None  # the table does not say
    basis = ["api_reported", "imputed_model_mean", "characters", None] * (table.height // 4)
    table.with_columns(pl.Series("tokens_basis", basis)).write_parquet(routing / "offline.parquet")
    counted = Outcomes.load(routing / "offline.parquet", llms).counted
    assert counted is not None
    np.testing.assert_array_equal(counted, np.tile([True, False, False, False], (6, 1)))
    part = Outcomes.load(routing / "offline.parquet", llms).take(np.array([1, 2])).of_llms([1, 0])
    np.testing.assert_array_equal(part.counted, [[False, True], [False, True]])
