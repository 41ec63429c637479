"""Whether what is served is what was measured.  Run it:  python -m bench.served realroute12 --folder /tmp/served

WHAT is ``synthetic``, a configuration of configs/ with a routing table (data below SYMBIOSIS_DATA_DIR), or the path of
a table of any layout, which is used with params.yaml as it is. The stages up to router-train run in a folder of their
own. Then the test queries are decided twice: in one batch from data/embeddings, as the reports do, and one after the
other from their text through `symbiosis.routing.serving.workspace.Workspace`, as a user does. Told are the share of
vectors with the same bytes, the share of equal choices at the trained trade-off and over all trade-offs, and AIQ both
ways. Evaluations let the router see the text alone, so the first row must be 100 %; the second shows what knowing the
length of the prompt would change.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flows.configuration import overlay, read
from stages import clean_routing, collect_feedback, download_routing, embed_queries, router_train, train_encoder
from symbiosis.core.artifacts import read_frame
from symbiosis.core.params import read_document, validate_block
from symbiosis.params import BLOCKS
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN, Llms, Outcomes, load_embeddings
from symbiosis.routing.metrics.curves import TRADE_OFFS, Curve, Reference, summarise
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Outlook, TradeOff, decide
from symbiosis.routing.serving.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
STAGES: dict[str, Any] = {
    "download_routing": download_routing,
    "clean_routing": clean_routing,
    "train_encoder": train_encoder,
    "embed_queries": embed_queries,
    "collect_feedback": collect_feedback,
    "router_train": router_train,
}


@contextlib.contextmanager
def prepared(what: str, folder: Path, queries: int | None = None) -> Iterator[None]:
    """Run the stages up to router-train in a folder, where they have not run, on so many queries, and stay in it."""
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    if Path(what).exists():
        document["download_routing"] |= {"source": "table", "path": str(Path(what).resolve())}
    elif what != "synthetic":
        configuration = read(what, ROOT)
        for place, source in configuration.data.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / place).exists():
                table = pl.read_parquet(Path(os.environ["SYMBIOSIS_DATA_DIR"], source))
                domains = configuration.params.get("clean_routing", {}).get("domains")
                table = table.filter(pl.col("domain").is_in(domains)) if domains else table
                ids = table["query_id"].unique().sort()
                kept = ids if queries is None else ids.sample(min(queries, len(ids)), seed=0)
                table.filter(pl.col("query_id").is_in(kept.implode())).write_parquet(folder / place)
        for key, value in overlay(configuration.params, document).items():
            block: Any = document
            *path, leaf = key.split(".")
            for name in path:
                block = block[name]
            block[leaf] = value
    with contextlib.chdir(folder):
        for block_name, stage in STAGES.items():
            if stage not in (collect_feedback, router_train) and (folder / "data/embeddings").is_dir():
                continue
            stage.work(validate_block(document, block_name, BLOCKS[block_name]))
        yield


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="synthetic, a name in configs/, or a table")
    parser.add_argument("--folder", type=Path, help="kept, so that queries are embedded once; else a temporary one")
    parser.add_argument("--queries", type=int, help="of a configuration, drawn at random; all if not given")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        with prepared(options.what, folder.resolve(), options.queries):
            compare(options.what)


def compare(what: str) -> None:
    """Decide the test queries both ways, and print how they compare."""
    router, llms = Router.load("models/router"), Llms.load("data/routing/llms.parquet")
    outcomes = Outcomes.load("data/routing/test.parquet", llms)
    singles = Reference.choose(Outcomes.load("data/routing/offline.parquet", llms)).curve(outcomes).points()
    texts = read_frame("data/routing/queries.parquet", ["query_text"])[outcomes.queries]["query_text"].to_list()
    vectors = load_embeddings("data/embeddings", outcomes.queries)
    outlook = Outlook.of(router, router.predict(router.feature_map(vectors)))
    evaluated = np.stack([decide(TradeOff(float(weight)), outlook).choice() for weight in TRADE_OFFS])

    with tempfile.TemporaryDirectory() as state:
        workspace = Workspace(state)
        with workspace.service() as service:
            assert service.encode is not None
            assert isinstance(service.objective, TradeOff)
            trade_off = service.objective.trade_off
            fresh = np.stack([service.encode(text) for text in texts])
        same_bytes = np.mean([(one == other).all() for one, other in zip(fresh, vectors, strict=True)])
        served = {
            "text alone": np.empty_like(evaluated),
            "text and its prompt's tokens": np.empty_like(evaluated),
        }
        at_trained = dict.fromkeys(served, 0.0)
        headline = decide(TradeOff(trade_off), outlook).choice()
        idle = np.zeros(len(llms))
        for name, choices in served.items():
            for place, weight in enumerate([trade_off, *TRADE_OFFS.tolist()]):
                with workspace.service(TradeOff(weight)) as service:
                    service.store = None  # a hundred thousand decisions in it are of no use here
                    arms = np.array(
                        [
                            service.route(
                                text, outcomes.prompt_tokens[row] if name != "text alone" else None, idle, fresh[row]
                            ).arm
                            for row, text in enumerate(texts)
                        ]
                    )
                if place:
                    choices[place - 1] = arms
                else:
                    at_trained[name] = float((arms == headline).mean())

    def aiq(choices: np.ndarray) -> float:
        return summarise(Curve.of(choices, outcomes).points(), singles).aiq

    print(f"# {what}: {len(texts):,} test queries, {len(llms)} LLMs: `python -m bench.served {what}`\n")
    print(f"Vectors with the same bytes as in training: {100 * same_bytes:.1f} %.\n")
    longer = np.zeros(len(texts), dtype=bool)
    if router.prompts is not None:
        most = router.prompts.most.max()
        longer = np.array([len(text) / CHARACTERS_PER_TOKEN > most for text in texts])
    if longer.any():
        same = (served["text alone"] == evaluated)[:, ~longer].mean()
        print(
            f"{longer.sum()} texts are longer than every prompt in training: there the service counts characters, and "
            f"the evaluation cannot. Without them, over all trade-offs: {100 * same:.2f} %.\n"
        )
    rows = [
        {
            "served from": name,
            f"same choice at {trade_off:g}": f"{100 * at_trained[name]:.2f} %",
            "over all trade-offs": f"{100 * (choices == evaluated).mean():.2f} %",
            "AIQ served": f"{aiq(choices):.4f}",
            "AIQ evaluated": f"{aiq(evaluated):.4f}",
        }
        for name, choices in served.items()
    ]
    with pl.Config(
        fmt_str_lengths=60,
        tbl_width_chars=150,
        tbl_formatting="MARKDOWN",
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        print(pl.DataFrame(rows))


if __name__ == "__main__":
    main()
