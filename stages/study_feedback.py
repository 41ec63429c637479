"""Study feedback, LLMs that join and off-policy estimates on one split.  Run it:  python -m stages.study_feedback 1"""

import argparse
from pathlib import Path

from symbiosis.artifacts import staged
from symbiosis.routing.comparison.feedback import study
from symbiosis.routing.comparison.split import draw, read_whole
from symbiosis.routing.params import OnlineReplayParams, RouterTrainParams, StudyFeedbackParams
from symbiosis.stage import read_document, run, validate_block


def work(seed: int, params: StudyFeedbackParams) -> None:
    """Split all queries anew and write what feedback, joining LLMs and logs showed."""
    document = read_document()
    router = validate_block(document, "router_train", RouterTrainParams)
    replay = validate_block(document, "online_replay", OnlineReplayParams)
    whole, llms, queries = read_whole(Path("data/routing"), Path("data/embeddings"))
    train, test = draw(queries, params.test_share, params.development_fifths, seed, params.equal_texts)
    studied = study(whole.take(train), whole.take(test), llms, router, replay, params, params.seed + seed)
    with staged(f"data/feedback/{seed}") as (folder,):
        studied.save(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.study_feedback", description=__doc__)
    parser.add_argument("split", type=int, help="the seed of the split")
    chosen = parser.parse_args().split
    run("study_feedback", StudyFeedbackParams, lambda params: work(chosen, params))
