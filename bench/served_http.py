"""Whether a gateway chooses what was evaluated.  Run it:  python -m bench.served_http realroute12 --folder /tmp/served

WHAT and --folder as of `bench.served`. A real gateway serves the trained router, with simulated LLMs at full speed
behind it. Every test query is sent to it as a user does, the text alone as one message of the user, at several
trade-offs: to ``/v1/route``, which calls no LLM, and then to ``/v1/chat/completions``, whose answers teach the gateway
how long answers are and how fast. Told are the shares of the same choices as in the evaluation, and AIQ (over these
trade-offs) both ways.
"""

import argparse
import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.gateway_servers import gateway, upstream
from bench.served import prepared
from symbiosis.core.artifacts import read_frame
from symbiosis.routing.data.outcomes import Llms, Outcomes, load_embeddings
from symbiosis.routing.metrics.curves import Curve, Reference, summarise
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Outlook, TradeOff, decide

TRADE_OFFS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
AT_ONCE = 4


async def chosen(url: str, texts: list[str], trade_off: float, names: tuple[str, ...]) -> np.ndarray:
    """Send texts to a gateway, a few at once, and return the arms that it chose, (N,)."""
    arms = np.zeros(len(texts), dtype=np.int64)
    waiting = iter(enumerate(texts))

    async def work(client: httpx.AsyncClient) -> None:
        for row, text in waiting:
            body: dict[str, Any] = {
                "model": f"auto:trade_off={trade_off:g}",
                "messages": [{"role": "user", "content": text}],
            }
            answer = (await client.post(url, json=body)).raise_for_status()
            arms[row] = names.index(answer.headers["x-symbiosis-model"])

    async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
        await asyncio.gather(*(work(client) for _ in range(AT_ONCE)))
    return arms


def compare(what: str, trade_offs: tuple[float, ...], queries: int | None) -> None:
    """Ask a gateway in the present folder, and print how it compares."""
    router, llms = Router.load("models/router"), Llms.load("data/routing/llms.parquet")
    outcomes = Outcomes.load("data/routing/test.parquet", llms)
    if queries is not None and queries < len(outcomes.queries):
        outcomes = outcomes.take(np.sort(np.random.default_rng(0).choice(len(outcomes.queries), queries, False)))
    singles = Reference.choose(Outcomes.load("data/routing/offline.parquet", llms)).curve(outcomes).points()
    texts = read_frame("data/routing/queries.parquet", ["query_text"])[outcomes.queries]["query_text"].to_list()
    vectors = load_embeddings("data/embeddings", outcomes.queries)
    outlook = Outlook.of(router, router.predict(router.feature_map(vectors)))
    evaluated = np.stack([decide(TradeOff(weight), outlook).choice() for weight in trade_offs])
    found = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("models", "data"):
            (folder / name).symlink_to(Path(name).resolve())
        with (
            upstream(folder, float("inf"), llms.names) as direct,
            gateway(folder, direct, limits={"first_byte_s": 300, "in_flight": 256}) as ours,
        ):
            chat = ours.url
            for way, url in (("/v1/route", chat.replace("chat/completions", "route")), ("/v1/chat/completions", chat)):
                found[way] = np.stack([asyncio.run(chosen(url, texts, weight, llms.names)) for weight in trade_offs])

    def aiq(choices: np.ndarray) -> float:
        return summarise(Curve.of(choices, outcomes).points(), singles).aiq

    print(f"# {what}: {len(texts):,} test queries over HTTP, {len(llms)} LLMs: `python -m bench.served_http {what}`\n")
    columns = [f"same at {weight:g}" for weight in trade_offs]
    print("| asked | " + " | ".join(columns) + " | over all | AIQ over HTTP | AIQ evaluated |")
    print("| --- " * (len(trade_offs) + 4) + "|")
    for way, choices in found.items():
        shares = [f"{100 * share:.2f} %" for share in (choices == evaluated).mean(axis=1)]
        whole = f"{100 * (choices == evaluated).mean():.2f} %"
        print(f"| {way} | " + " | ".join([*shares, whole, f"{aiq(choices):.4f}", f"{aiq(evaluated):.4f}"]) + " |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="synthetic, or a name in configs/")
    parser.add_argument("--folder", type=Path, help="kept, so that queries are embedded once; else a temporary one")
    parser.add_argument("--queries", type=int, help="of the test queries, drawn at random; all if not given")
    parser.add_argument("--trade-offs", type=float, nargs="*", default=list(TRADE_OFFS))
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        with prepared(options.what, folder.resolve()):
            compare(options.what, tuple(options.trade_offs), options.queries)


if __name__ == "__main__":
    main()
