"""Study feedback, LLMs that join and off-policy estimates on one split.  Run it:  python -m stages.study_feedback 1"""

import argparse
from pathlib import Path

from symbiosis.core.artifacts import staged
from symbiosis.core.params import read_document, validate_block
from symbiosis.core.stage import run
from symbiosis.routing.data.splits import draw, learned_only, read_whole
from symbiosis.routing.experiments.feedback import study
from symbiosis.routing.experiments.params import OnlineReplayParams, StudyFeedbackParams
from symbiosis.routing.model.params import RouterTrainParams


def work(seed: int, params: StudyFeedbackParams) -> None:
    """Split all queries anew and write what feedback, joining LLMs and logs showed."""
    document = read_document()
    router = validate_block(document, "router_train", RouterTrainParams)
    replay = validate_block(document, "online_replay", OnlineReplayParams)
    whole, llms, queries = read_whole(Path("data/routing"), Path("data/embeddings"))
    untested = learned_only(queries, whole.outcomes)
    train, test = draw(queries, params.test_share, params.development_fifths, seed, params.equal_texts, untested)
    studied = study(whole.take(train), whole.take(test), llms, router, replay, params, params.seed + seed)
    with staged(f"data/feedback/{seed}") as (folder,):
        studied.save(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.study_feedback", description=__doc__)
    parser.add_argument("split", type=int, help="the seed of the split")
    chosen = parser.parse_args().split
    run("study_feedback", StudyFeedbackParams, lambda params: work(chosen, params))
