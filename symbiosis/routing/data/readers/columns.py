"""The columns of a long routing table, their types, and what else they are called."""

import polars as pl

COLUMNS: dict[str, pl.DataType] = {
    "query_id": pl.String(),
    "query_text": pl.String(),
    "domain": pl.String(),
    "subdomain": pl.String(),
    "llm": pl.String(),
    "quality": pl.Float64(),
    "prompt_tokens": pl.Int64(),
    "response_tokens": pl.Int64(),
    "cost_usd": pl.Float64(),
    "latency_s": pl.Float64(),
    "tokens_basis": pl.String(),
    "cost_basis": pl.String(),
}
REQUIRED = ("query_text", "llm", "quality")
# Other names for the same, first come first served; a column with the name of `COLUMNS` goes before all of them.
ALIASES: dict[str, tuple[str, ...]] = {
    "query_id": ("id", "sample_id", "question_id", "prompt_id", "task_id", "uid"),
    "query_text": (
        "query",
        "prompt",
        "question",
        "instruction",
        "messages",
        "conversation",
        "conversations",
        "input",
        "text",
    ),
    "domain": ("task_name", "task", "eval_name", "category", "dataset", "benchmark"),
    "subdomain": ("subcategory", "subject"),
    "llm": ("model", "model_name", "model_id", "generator"),
    "quality": ("performance", "score", "correct", "is_correct", "label", "reward", "rating", "preference"),
    "prompt_tokens": ("input_tokens", "tokens_in", "n_prompt_tokens"),
    "response_tokens": ("output_tokens", "completion_tokens", "tokens_out", "n_response_tokens"),
    "cost_usd": ("cost", "total_cost", "response_cost", "price_usd"),
    "latency_s": ("response_time", "duration", "latency", "elapsed_s"),
}
NAMES = (*COLUMNS, *(other for others in ALIASES.values() for other in others))
"""All columns that are read."""
QUERIES = ("query_text", *ALIASES["query_text"])
"""Those that may hold the query."""
