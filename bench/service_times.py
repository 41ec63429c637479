"""Fit service times to measured latencies, and compare predicted with measured quantiles on held-out queries.

    python bench/service_times.py DATA/routing/bfcl2024.parquet [--config configs/bfcl2024_speeds.yaml]

Every LLM's start-up, token rate and jitter are fitted on one half of its queries and tested on the other half.
Prints a table and the medians over LLMs; ``--config`` writes the configuration of the pipeline fitted to all queries.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from symbiosis.routing.simulation.service_times import ServiceTime

SHARES = np.array([0.5, 0.9, 0.99])
LEFT_OUT = ("gpt-4o-2024-08-06", "mistral-large-2407")  # in prompt mode: an artefact of their output format
HEADER = "# 1,700 function calls x %d LLMs; speeds and jitter fitted to measured latencies by bench/service_times.py.\n"


def main() -> None:
    """Fit, test and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--config", type=Path)
    arguments = parser.parse_args()
    table = pl.read_parquet(arguments.table).filter(~pl.col("llm").is_in(LEFT_OUT))
    queries = table["query_id"].n_unique()
    columns = ["response_tokens", "latency_s"]
    errors, speeds, jitter = [], {}, {}
    print(f"{'LLM':42} start-up s  tokens/s  jitter   p50, p90, p99 predicted / measured (held out)")
    for name in table["llm"].unique().sort():
        answers = table.filter(pl.col("llm") == name).sort("query_id")
        timed = answers.drop_nulls(columns).filter((pl.col("latency_s") > 0) & (pl.col("response_tokens") > 0))
        if timed.height < queries / 2:
            continue
        tokens, latency = timed[columns].to_numpy().astype(np.float64).T
        half = np.random.default_rng(0).permutation(len(tokens)) < len(tokens) // 2
        fit = ServiceTime.fit(tokens[half], latency[half])
        ratio = fit.quantiles(tokens[~half], SHARES) / np.quantile(latency[~half], SHARES)
        errors.append(np.abs(np.log(ratio)))
        shown = "  ".join(f"{value:5.2f}" for value in ratio)
        print(f"{name:42} {fit.startup_s:9.3f} {fit.tokens_per_s:9.1f} {fit.jitter:8.3f}   {shown}")
        complete = answers.drop_nulls(["prompt_tokens", "response_tokens", "cost_usd", "quality"]).height == queries
        if complete:
            whole = ServiceTime.fit(tokens, latency)
            speeds[name] = {"startup_s": whole.startup_s, "tokens_per_s": whole.tokens_per_s}
            jitter[name] = {"jitter": whole.jitter}
    middle = np.exp(np.median(errors, axis=0)) - 1
    worst = np.exp(np.max(errors, axis=0)) - 1
    for share, typical, most in zip(SHARES, middle, worst, strict=True):
        print(f"p{100 * share:.0f}: off by {typical:.1%} in the median LLM, {most:.0%} in the worst of {len(errors)}")
    if arguments.config is not None:
        config = {
            "data": {"data/local/bfcl2024.parquet": "routing/bfcl2024.parquet"},
            "targets": ["online-replay"],
            "params": {
                "download_routing": {"source": "table", "path": "data/local/bfcl2024.parquet"},
                "clean_routing": {"llms": sorted(speeds), "speeds": speeds},
                "online_replay": {"stream": {"arrivals": "poisson", "llms": jitter}},
            },
        }
        text = yaml.safe_dump(config, sort_keys=False, width=120)
        arguments.config.write_text(HEADER % len(speeds) + text, encoding="utf-8")


if __name__ == "__main__":
    main()
