"""Full ranking of all items for every user; the recommender's table and report.  Run it:  python -m stages.evaluate"""

from symbiosis.core.artifacts import read_array, read_json, staged, write_json
from symbiosis.core.layout import (
    CLEAN,
    EVALUATION,
    FINETUNE_CURVE,
    FINETUNED,
    GRAPH,
    ITEM_VECTORS,
    PER_USER,
    PRETRAIN_CURVE,
    RANKINGS,
    RECOMMENDER_METRICS,
    RECOMMENDER_PAGE,
    RERANK_CURVE,
    TEST,
    TRAIN,
    VALIDATION,
)
from symbiosis.core.stage import run
from symbiosis.graph.build import Graph
from symbiosis.recommender.data.interactions import read_matrix, read_sizes
from symbiosis.recommender.data.ratings import Ratings
from symbiosis.recommender.data.training_data import read_histories
from symbiosis.recommender.evaluation.cold_items import cold_items, content_scores
from symbiosis.recommender.evaluation.evaluation import (
    MODEL,
    WITHOUT_RERANKING,
    check_measurable,
    evaluate,
    held_out_edges,
    measure,
)
from symbiosis.recommender.evaluation.marked_rows import REFITTED, read_refitted, refitted_rows
from symbiosis.recommender.evaluation.params import EvaluateParams
from symbiosis.recommender.evaluation.per_user import user_metrics
from symbiosis.recommender.evaluation.published import published_rows
from symbiosis.recommender.evaluation.rating_errors import rating_errors
from symbiosis.recommender.evaluation.report import read_curve, render, verdict
from symbiosis.recommender.inference.loading import load_scorer
from symbiosis.recommender.metrics.metrics import DEPTH, protocol_of, ranking_depth
from symbiosis.recommender.metrics.ranking import rank_all, read_ranking, without
from symbiosis.recommender.network.attention import learned_bias

CURVES = {"Pre-training": PRETRAIN_CURVE, "Fine-tuning": FINETUNE_CURVE, "Re-ranking": RERANK_CURVE}


def work(params: EvaluateParams) -> None:
    """Read the split, the baselines' rankings and the model; write the metrics and the page."""
    check_measurable(FINETUNED)
    shape = read_sizes(CLEAN)
    train, validation, test = (read_matrix(path, shape) for path in (TRAIN, VALIDATION, TEST))
    protocol, depth = protocol_of(CLEAN), ranking_depth(validation)
    seen = protocol.history_at_test(train, validation)
    # The files first: a damaged one stops the stage before the model's long work.
    baselines = {name: read_ranking(RANKINGS / name / "ranking.npy", seen, depth) for name in params.baselines.all()}
    refitted = read_refitted(RANKINGS, baselines, seen, depth)
    tuning = {name: read_json(RANKINGS / name / "tuning.json") for name in params.baselines.all()}
    curves = {title: read_curve(path) for title, path in CURVES.items()}
    texts = read_array(ITEM_VECTORS)
    scorer, read = load_scorer("."), read_histories(CLEAN, protocol.history_grows)
    scores = scorer.prepared(read)
    rankings = {MODEL: rank_all(scores, seen, depth, params.seed, label="scoring all users")} | baselines
    if scorer.reranker is not None:
        plain = scorer.reranked_by(None).prepared(read)
        rankings[WITHOUT_RERANKING] = rank_all(plain, seen, depth, params.seed, label="without re-ranking")
        if protocol.history_grows:
            again = scorer.reranked_by(scorer.reranker.refitted(read)).prepared(read)
            refitted[f"{MODEL}{REFITTED}"] = rank_all(again, seen, depth, params.seed, label="refitted")
    if params.mask_validation and seen is train:
        rankings = {name: without(ranking, validation, DEPTH) for name, ranking in rankings.items()}
    measured = measure(rankings, test, protocol)
    report = evaluate(rankings, measured, train, test, params.bootstrap_samples, params.seed, protocol)
    of_refitted = measure(refitted, test, protocol)  # last_out alone, where nothing is masked
    if marked := refitted_rows(measured | of_refitted, params.bootstrap_samples, params.seed):
        report["marked"] = marked
    by_scores = {MODEL: scores, "content alone": content_scores(texts, train)}
    if cold := cold_items(by_scores, train, test, params.bootstrap_samples, params.seed):
        report["cold items"] = cold
    if published := published_rows(report["data"], protocol.metrics):
        report["published"] = published
    if scorer.mean_rating is not None:
        ratings = Ratings.read(CLEAN, shape, "test")
        report["ratings"] = rating_errors(ratings, {MODEL: scores}, params.bootstrap_samples, params.seed)
    if leaked := held_out_edges(Graph.load(GRAPH).interactions(), validation, test):
        report["invalid"] = f"the graph that the model was trained with holds {leaked:,} held-out interactions"
    if bias := learned_bias(scorer.bias):
        report["bias"] = bias
    masked = "training and validation items" if params.mask_validation or seen is not train else "training items"
    how = (
        f"All items are ranked for every user, {masked} left out, ties broken at random. Intervals: paired bootstrap "
        f"over users, {params.bootstrap_samples:,} samples."
    )
    with staged(RECOMMENDER_METRICS, RECOMMENDER_PAGE, EVALUATION) as (numbers, document, by_user):
        write_json(numbers, report)
        by_user.mkdir()
        user_metrics(rankings | refitted, measured | of_refitted, train, test).write_parquet(by_user / PER_USER.name)
        document.write_text(render(report, tuning, curves, how), encoding="utf-8")
    print(verdict(report))


if __name__ == "__main__":
    run("evaluate", EvaluateParams, work)
