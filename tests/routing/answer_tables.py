"""Tables like those that people have, each with its faults, for the tests of the way from a file to a decision."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from symbiosis.routing.data import synthetic

LLMS = [llm.name for llm in synthetic.LLMS]


@cache
def whole(queries: int = 260) -> pl.DataFrame:
    """Six LLMs, all answers, costs and tokens."""
    return synthetic.generate(queries, seed=5)


def skilled(llms: int, tasks: int, queries: int, *, soft: bool = False, prefix: str = "") -> pl.DataFrame:
    """LLMs with a skill per task, some of them near-duplicates of others; query_text, domain, llm, quality."""
    rng = np.random.default_rng(llms)
    skill = rng.uniform(0.2, 0.95, (llms, tasks))
    skill[-1] = skill[0]
    rows = []
    for number in range(queries):
        task = number % tasks
        text = f"{prefix}task {task}: what is {number} and {rng.integers(1000)}?"
        for llm in range(llms):
            chance = skill[llm, task]
            quality = float(rng.beta(4 * chance, 4 - 4 * chance)) if soft else float(rng.random() < chance)
            rows.append((text, f"task{task}", f"model-{llm:02}", quality))
    return pl.DataFrame(rows, ["query_text", "domain", "llm", "quality"], orient="row")


@dataclass(frozen=True)
class Case:
    """A table, and what a user has to say of it.

    Attributes
    ----------
    write
        Writes it into the present folder and returns its path.
    clean
        Changes to `clean_routing`.
    gaps
        What the report on data quality says is missing.
    """

    write: Callable[[], str]
    clean: dict[str, Any] = field(default_factory=dict)
    gaps: set[str] = field(default_factory=set)


def parquet(frame: pl.DataFrame) -> str:
    """Write a parquet file."""
    frame.write_parquet("t.parquet")
    return "t.parquet"


def lines(records: list[Any], name: str = "t.jsonl") -> str:
    """Write JSON lines, NaN as Python does."""
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return name


def prompt_only() -> str:
    """Few-shot prompts, of which only the prompt's tokens were counted, with a basis that nobody knows; no labels."""
    return parquet(
        whole()
        .with_columns(
            pl.concat_str(pl.lit("Q: 1 + 1?\nA: 2\n\nQ: "), "query_text").alias("query_text"),
            pl.lit("vendor_counter").alias("tokens_basis"),
        )
        .drop("response_tokens", "domain", "subdomain", "latency_s")
    )


def graded() -> str:
    """Four LLMs, marks from 1 to 5 under other names, each pair marked twice."""
    one = whole().filter(pl.col("llm").is_in(LLMS[:4]))
    marks = [one.with_columns(pl.col("quality") * 4 * share + 1) for share in (1.0, 0.9)]
    return parquet(pl.concat(marks).rename({"quality": "rating", "llm": "model", "query_text": "prompt"}))


def right_or_wrong() -> pl.DataFrame:
    """Right or wrong alone: no costs, no tokens, no ids."""
    return whole().select("query_text", "domain", "llm", (pl.col("quality") > 0.5).alias("quality"))


def partial() -> str:
    """Half of the queries were answered by two LLMs in five, and a few costs are missing."""
    frame = whole()
    rng = np.random.default_rng(1)
    late = (frame["query_id"] > "q000130").to_numpy()
    kept = pl.Series(~late | (rng.random(frame.height) < 0.4))
    lost = pl.Series(rng.random(frame.height) < 0.05)
    return parquet(
        frame.filter(kept).with_columns(
            pl.when(lost.filter(kept)).then(None).otherwise(pl.col("cost_usd")).alias("cost_usd")
        )
    )


def one_each() -> pl.DataFrame:
    """One answer per query, as a log has it."""
    frame = whole().sort("query_id", "llm")
    chosen = np.random.default_rng(2).integers(len(LLMS), size=260)
    return frame[(np.arange(260) * len(LLMS) + chosen).tolist()]


def litellm() -> str:
    """A log of LiteLLM, marks in the metadata of most calls, some of which failed."""
    records = []
    for number, row in enumerate(one_each().iter_rows(named=True)):
        began = 1000.0 + number
        record = {
            "call_type": "acompletion",
            "status": "failure" if number % 50 == 7 else "success",
            "model": row["llm"],
            "messages": [{"role": "user", "content": row["query_text"]}],
            "response_cost": row["cost_usd"],
            "prompt_tokens": row["prompt_tokens"],
            "completion_tokens": row["response_tokens"],
            "startTime": began,
            "endTime": began + (row["latency_s"] or 1.0),
            "metadata": {} if number % 9 == 3 else {"score": row["quality"], "task": row["domain"]},
        }
        records.append(record)
    return lines(records, "litellm.log")


def spans() -> str:
    """OpenTelemetry's spans with evaluations."""
    kinds = {str: "stringValue", float: "doubleValue", int: "intValue"}

    def told(values: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"key": key, "value": {kinds[type(value)]: value}} for key, value in values.items()]

    found = []
    for number, row in enumerate(one_each().iter_rows(named=True)):
        values = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": row["llm"],
            "gen_ai.usage.input_tokens": row["prompt_tokens"],
            "gen_ai.usage.output_tokens": row["response_tokens"],
            "gen_ai.input.messages": json.dumps(
                [{"role": "user", "parts": [{"type": "text", "content": row["query_text"]}]}]
            ),
        }
        judged = told({"gen_ai.evaluation.score.value": row["quality"]})
        events = [{"name": "gen_ai.evaluation.result", "attributes": judged}]
        times = {"startTimeUnixNano": "1000000000", "endTimeUnixNano": "2000000000"}
        found.append({"traceId": "t", "spanId": str(number), "attributes": told(values), "events": events, **times})
    return lines([{"resourceSpans": [{"scopeSpans": [{"spans": found}]}]}], "spans.jsonl")


def annotations() -> str:
    """AlpacaEval's annotations, a file per LLM."""
    for llm in LLMS[:4]:
        rows = whole().filter(pl.col("llm") == llm).sort("query_id")
        records = [
            {
                "instruction": row["query_text"],
                "dataset": row["domain"],
                "generator_1": "reference",
                "output_1": "x" * 40,
                "generator_2": llm,
                "output_2": "x" * 4 * row["response_tokens"],
                "preference": 1 + row["quality"],
            }
            for row in rows.iter_rows(named=True)
        ]
        Path(llm).mkdir()
        Path(llm, "annotations.json").write_text(json.dumps(records))
    return "."


def scores() -> str:
    """RouterDC's JSON: a map of scores per question."""
    records: dict[str, dict[str, float]] = {}
    for row in whole().iter_rows(named=True):
        records.setdefault(row["query_text"], {})[row["llm"]] = row["quality"]
    Path("scores.json").write_text(json.dumps([{"question": text, "scores": told} for text, told in records.items()]))
    return "scores.json"


def wide() -> str:
    """RouterBench's table, prompts as lists."""
    frame = whole()
    about = frame.unique("query_id", maintain_order=True)
    columns: dict[str, Any] = {
        "sample_id": about["query_id"],
        "prompt": [[text] for text in about["query_text"]],
        "eval_name": about["domain"],
    }
    for llm in LLMS:
        own = frame.filter(pl.col("llm") == llm)
        columns |= {llm: own["quality"], f"{llm}|total_cost": own["cost_usd"]}
        columns[f"{llm}|model_response"] = ["x" * 4 * tokens for tokens in own["response_tokens"]]
    return parquet(pl.DataFrame(columns))


def messages() -> pl.DataFrame:
    """Conversations as queries, the answer at their end."""
    first, last = {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "No."}
    asked = [[first, {"role": "user", "content": text}, last] for text in whole()["query_text"]]
    return whole().select("llm", "quality", "domain", "cost_usd").with_columns(pl.Series("messages", asked))


def messages_in_lines() -> str:
    """The same in JSON lines."""
    return lines(messages().to_dicts())


def messages_in_csv() -> str:
    """The same in csv, as JSON."""
    frame = messages()
    texts = [json.dumps(value) for value in frame["messages"].to_list()]
    frame.with_columns(pl.Series("messages", texts)).write_csv("t.csv")
    return "t.csv"


def with_nan() -> str:
    """NaN in quality, cost, latency and tokens, in JSON lines as Python writes them."""
    rng = np.random.default_rng(3)
    rows = whole().to_dicts()
    for row in rows:
        for name in ("quality", "cost_usd", "latency_s", "response_tokens"):
            if rng.random() < 0.03:
                row[name] = float("nan")
    return lines(rows)


def with_durations() -> str:
    """Latencies as durations."""
    seconds = [timedelta(seconds=1 + number % 7) for number in range(whole().height)]
    return parquet(whole().with_columns(pl.Series("latency_s", seconds, dtype=pl.Duration("ms"))))


def few_priced() -> str:
    """Two of six LLMs have no cost."""
    return parquet(
        whole().with_columns(
            pl.when(pl.col("llm").is_in(LLMS[:2])).then(None).otherwise(pl.col("cost_usd")).alias("cost_usd")
        )
    )


def near_duplicates() -> str:
    """An LLM three times, hardly changed."""
    frame = whole()
    rng = np.random.default_rng(4)
    one = frame.filter(pl.col("llm") == LLMS[0])
    again = [
        one.with_columns(
            pl.lit(f"{LLMS[0]}_{name}").alias("llm"),
            (pl.col("quality") + pl.lit(pl.Series(rng.normal(0, 0.01, one.height))))
            .clip(0, 1)
            .cast(pl.Float32)
            .alias("quality"),
        )
        for name in ("concise", "verbose")
    ]
    return parquet(pl.concat([frame, *again]))


def held_out_a() -> str:
    """Eleven LLMs, few-shot prompts that are long, costs without tokens."""
    shots = "".join(f"Question: {n}?\nAnswer: {n * n}\n\n" for n in range(150))
    frame = skilled(11, 3, 150, prefix=shots)
    rng = np.random.default_rng(0)
    return parquet(frame.with_columns(pl.Series("cost_usd", rng.lognormal(-7, 1, frame.height))))


def held_out_b() -> str:
    """Four LLMs, soft quality."""
    frame = skilled(4, 5, 200, soft=True)
    tokens = pl.Series(np.random.default_rng(0).integers(5, 400, frame.height))
    return parquet(frame.with_columns(tokens.alias("response_tokens"), (tokens * 1e-6).alias("cost_usd")))


def held_out_c() -> str:
    """Nine LLMs, fourteen tasks, quality only; tokens of the prompt, of some LLMs."""
    frame = skilled(9, 14, 210)
    counted = pl.col("llm") < "model-05"
    tokens = pl.when(counted).then(pl.col("query_text").str.len_chars() // 4)
    return parquet(frame.with_columns(tokens.alias("prompt_tokens"), pl.lit("own").alias("tokens_basis")))


COUNTS = {"answers_without_prompt_tokens", "answers_without_response_tokens"}
PRICES = {llm: {"prompt": 1 + n, "response": 2 + n} for n, llm in enumerate(LLMS)}
FAST = ("prompt only", "log of LiteLLM", "near-duplicates")
"""Of `CASES`, those that are not slow: no labels and few tokens, one answer per query, LLMs that are alike."""
CASES: dict[str, Case] = {
    "prompt only": Case(prompt_only, gaps={"rows_without_domain", "answers_without_response_tokens"}),
    "graded": Case(graded, {"quality": {"worst": 1, "best": 5, "words": {}}}, {"rows_averaged"}),
    "booleans without costs": Case(lambda: parquet(right_or_wrong()), gaps={"answers_without_cost", *COUNTS}),
    "booleans in lines": Case(lambda: lines(right_or_wrong().to_dicts()), gaps={"answers_without_cost", *COUNTS}),
    "costs from prices": Case(lambda: parquet(right_or_wrong()), {"prices": PRICES}, {"answers_without_cost", *COUNTS}),
    "partial": Case(partial, gaps={"pairs_not_answered", "answers_without_cost"}),
    "one answer each": Case(lambda: parquet(one_each()), gaps={"pairs_not_answered"}),
    "log of LiteLLM": Case(litellm, gaps={"pairs_not_answered"}),
    "spans": Case(spans, gaps={"pairs_not_answered", "rows_without_domain", "answers_without_cost"}),
    "annotations": Case(annotations, gaps={"rows_averaged", "answers_without_cost", "answers_without_prompt_tokens"}),
    "scores": Case(scores, gaps={"rows_without_domain", "answers_without_cost", *COUNTS}),
    "wide": Case(wide),
    "messages in parquet": Case(lambda: parquet(messages()), gaps=COUNTS),
    "messages in lines": Case(messages_in_lines, gaps=COUNTS),
    "messages in csv": Case(messages_in_csv, gaps=COUNTS),
    "NaN": Case(with_nan, gaps={"pairs_not_answered", "answers_without_cost", "answers_without_response_tokens"}),
    "durations": Case(with_durations),
    "free": Case(lambda: parquet(whole().with_columns(pl.lit(0.0).alias("cost_usd")))),
    "few priced": Case(few_priced),
    "near-duplicates": Case(near_duplicates),
    "two domains": Case(
        lambda: parquet(whole(400).filter(pl.col("domain").is_in(whole()["domain"].unique().sort()[:2].implode())))
    ),
    "held-out A": Case(held_out_a, gaps=COUNTS),
    "held-out B": Case(held_out_b, gaps={"answers_without_prompt_tokens"}),
    "held-out C": Case(held_out_c, gaps={"answers_without_cost", *COUNTS}),
}
