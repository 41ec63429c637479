"""The losses by hand, and the training of a tiny encoder: it learns, repeats itself and sees offline queries only."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from routing_world import write_data

from stages import embed_queries, train_encoder
from symbiosis.core.artifacts import read_array, read_json, sha256_of
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.queries.finetuning import (
    QualityObjective,
    TagObjective,
    batch_centroids,
    fine_tune,
    inter_cluster,
    intra_cluster,
    with_mean_pooling,
)
from symbiosis.routing.queries.params import EmbedQueriesParams, TrainEncoderParams
from symbiosis.text import encoder
from symbiosis.text.library import LibraryEncoder

ROOT = Path(__file__).resolve().parents[3]
WORDS = {"algebra": ["prove", "solve", "sum"], "biology": ["cell", "gene", "frog"], "cooking": ["bake", "stew", "salt"]}


def made(folder: Path) -> str:
    """A random BERT of one layer over a dozen words, with CLS pooling, so that mean pooling shows."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(word for words in WORDS.values() for word in words), "please"]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder / "bert")
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    BertModel(config).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"))
    model = SentenceTransformer(modules=[transformer, Pooling(16, pooling_mode="cls")], device="cpu")
    model.save_pretrained(str(folder / "tiny"), create_model_card=False)
    return str(folder / "tiny")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made(tmp_path_factory.mktemp("encoder"))


def params(tiny: str, **changes: Any) -> TrainEncoderParams:
    block: Any = read_document(ROOT / "params.yaml")["train_encoder"]
    small = {"encoder": tiny, "maximum_tokens": 12, "batch": 16, "learning_rate": 0.003, "epochs": 3}
    return TrainEncoderParams.model_validate(block | small | changes)


def draw(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts, and what each is about."""
    rng = np.random.default_rng(seed)
    domain = rng.integers(3, size=n)
    words = list(WORDS.values())
    texts = [" ".join(["please", *rng.choice(words[d], rng.integers(1, 5))]) for d in domain]
    return texts, domain


# ------------------------------------------------------------------ losses


def test_intra_cluster_by_hand() -> None:
    """Likenesses .6 / .5 and .8 / .5 for the first query, 0 and 1 / .5 for the second."""
    embeddings = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = intra_cluster(embeddings, torch.tensor([0, 1]), centroids, temperature=0.5)
    assert loss.item() == pytest.approx((math.log1p(math.exp(0.4)) + math.log1p(math.exp(-2))) / 2, rel=1e-6)


def test_inter_cluster_by_hand() -> None:
    """Likenesses 0 and -1 of the outer two, 0 and 0 of the middle one; none with itself."""
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    expected = (2 * math.log(1 + math.exp(-1 / 0.5)) + math.log(2)) / 3
    assert inter_cluster(centroids, temperature=0.5).item() == pytest.approx(expected, rel=1e-6)
    assert inter_cluster(centroids[:1], 0.5).item() == 0


def test_inter_cluster_falls_as_centroids_part() -> None:
    def at(degrees: float) -> float:
        angle = math.radians(degrees)
        return inter_cluster(torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]]), 0.07).item()

    assert at(10) > at(60) > at(120) > at(180) == pytest.approx(-1 / 0.07)


def test_where_gradient_flows() -> None:
    embeddings, centroids = torch.eye(2, requires_grad=True), torch.eye(2, requires_grad=True)
    intra_cluster(embeddings, torch.tensor([0, 1]), centroids, 0.07).backward()
    assert centroids.grad is None
    assert embeddings.grad is not None
    inter_cluster(centroids, 0.07).backward()
    assert centroids.grad is not None


def test_batch_centroids_by_hand() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    present, centroids = batch_centroids(embeddings, torch.tensor([7, 2, 7, 7]))
    assert present.tolist() == [2, 7]
    torch.testing.assert_close(centroids, torch.tensor([[0.0, 1.0], [2 / math.sqrt(5), 1 / math.sqrt(5)]]))


def test_the_tag_objective_is_the_sum_and_moves_its_centroids() -> None:
    objective = TagObjective(np.array([0, 1, 1]), temperature=0.5, inter_weight=2.0, momentum=0.75)
    objective.begin(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    torch.testing.assert_close(objective.centroids, torch.eye(2))
    batch = torch.tensor([[0.6, 0.8], [0.8, 0.6]], requires_grad=True)
    loss = objective.loss(batch, torch.tensor([0, 2]))
    expected = math.log1p(math.exp(0.4)) + 2 * 0.96 / 0.5  # of two centroids each has one other, at .6 * .8 * 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    moved = torch.tensor([[0.75 + 0.15, 0.2], [0.2, 0.75 + 0.15]])
    torch.testing.assert_close(objective.centroids, moved / moved.norm(dim=1, keepdim=True))
    assert not objective.centroids.requires_grad


def test_the_quality_objective_by_hand() -> None:
    objective = QualityObjective(np.array([[1.0, 0.0], [0.0, 0.0]]))
    objective.begin(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    # Centred embeddings are (.5, -.5) and (-.5, .5), targets (.5, 0) and (-.5, 0): ridge weights (.25, -.25) and 0.
    weights, bias = objective.head()
    torch.testing.assert_close(weights.data, torch.tensor([[0.25, 0.0], [-0.25, 0.0]]))
    torch.testing.assert_close(bias.data, torch.tensor([0.5, 0.0]))
    loss = objective.loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(0.25**2 / 2)


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tags_part_the_domains_of_new_texts(tiny: str, precision: str) -> None:
    texts, domain = draw(96, seed=1)
    new, truth = draw(60, seed=2)
    own = params(tiny, precision=precision)

    def right(model: Any) -> float:
        known, asked = (encoder.embed(LibraryEncoder(model), part) for part in (texts, new))
        centroids = np.stack([known[domain == d].mean(axis=0) for d in range(3)])
        margins = asked @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T
        ordered = np.sort(margins, axis=1)
        assert (margins.argmax(axis=1) == truth).mean() > 0.3
        return float((ordered[:, -1] - ordered[:, -2]).mean())

    model = with_mean_pooling(encoder.load_trainable(tiny, 12))
    before = right(model)
    logged = []
    curve = fine_tune(model, texts, TagObjective(domain, 0.07, 1.0, 0.99), own, lambda row, step: logged.append(step))
    assert curve[-1]["loss"] < curve[0]["loss"] - 1
    assert logged == [6, 12, 18]
    assert right(model) > 3 * before


def test_quality_is_learnt_and_noise_is_not(tiny: str) -> None:
    """A head on the trained encoder predicts new texts better than one on the encoder before."""
    texts, domain = draw(96, seed=1)
    quality = np.eye(3)[domain]
    model = with_mean_pooling(encoder.load_trainable(tiny, 12))
    curve = fine_tune(model, texts, QualityObjective(quality), params(tiny))
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    noise = np.random.default_rng(0).permutation(quality)
    other = with_mean_pooling(encoder.load_trainable(tiny, 12))
    curve = fine_tune(other, texts, QualityObjective(noise), params(tiny))
    assert curve[-1]["loss"] > 0.7 * curve[0]["loss"]


def test_the_same_seed_gives_the_same_weights(tiny: str) -> None:
    texts, domain = draw(40, seed=1)

    def weights(**changes: Any) -> str:
        model = with_mean_pooling(encoder.load_trainable(tiny, 12))
        fine_tune(model, texts, TagObjective(domain, 0.07, 1.0, 0.99), params(tiny, epochs=1, **changes))
        return encoder.weights_sha256(LibraryEncoder(model))

    assert weights() == weights()
    assert len({weights(), weights(seed=1), weights(learning_rate=0.001)}) == 3


# ------------------------------------------------------------------ stages


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The routing world with texts."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path, offline=60, online=10, test=20)
    file = tmp_path / "data/routing/queries.parquet"
    frame = pl.read_parquet(file)
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS[domain], 4)) for domain in frame["domain"]]
    texts[:2] = ["", "bake " * 20_000]
    frame.with_columns(pl.Series("query_text", texts), pl.lit(9.0).alias("prompt_tokens")).write_parquet(file)
    return tmp_path


@pytest.mark.parametrize("objective", ["tags", "quality"])
def test_what_is_held_out_changes_nothing(tiny: str, objective: str, world: Path) -> None:
    """Other texts, labels and outcomes of online and test queries give the same encoder, to the byte."""
    own = params(tiny, objective=objective, epochs=1)
    train_encoder.work(own)
    first = sha256_of("models/encoder")
    queries = pl.read_parquet("data/routing/queries.parquet")
    held = pl.col("split") != "offline"
    queries.with_columns(
        pl.when(held).then(pl.lit("stew gene")).otherwise(pl.col("query_text")).alias("query_text"),
        pl.when(held).then(pl.lit("other")).otherwise(pl.col("domain")).alias("domain"),
    ).write_parquet("data/routing/queries.parquet")
    for name in ("online", "test"):
        Path(f"data/routing/{name}.parquet").unlink()
    train_encoder.work(own)
    assert sha256_of("models/encoder") == first
    changed = queries.with_columns(pl.lit("salt").alias("query_text"))
    changed.write_parquet("data/routing/queries.parquet")
    train_encoder.work(own)
    assert sha256_of("models/encoder") != first


@pytest.mark.parametrize("source", ["metadata", "clusters", "key_phrases"])
def test_the_trained_encoder_embeds_the_queries(tiny: str, source: str, world: Path) -> None:
    own = params(tiny, objective="tags", epochs=1)
    own = own.model_copy(update={"tags": own.tags.model_copy(update={"source": source, "domains": 3})})
    train_encoder.work(own)
    assert {file.suffix for file in Path("models/encoder").rglob("*") if file.is_file()} == {".json", ".safetensors"}
    report = read_json("models/encoder/encoder.json")["training"]
    assert report["queries"] == sum(domain["queries"] for domain in report["domains"]) == 60
    assert len(report["domains"]) == 3
    embed_queries.work(EmbedQueriesParams(precision="float32", shape_weight=0.0))
    vectors = read_array("data/embeddings/queries.npy")
    assert vectors.shape == (90, 16)
    assert read_json("data/embeddings/manifest.json")["objective"] == "tags"
    model, _ = encoder.load_chosen("models/encoder")
    text = pl.read_parquet("data/routing/queries.parquet")["query_text"][5]
    np.testing.assert_array_equal(encoder.embed(model, [text])[0], vectors[5])
    assert encoder.weights_sha256(model) != encoder.weights_sha256(encoder.load(tiny, 12))


def test_a_failed_training_leaves_the_encoder_as_it_was(tiny: str, world: Path) -> None:
    train_encoder.work(params(tiny))
    first = sha256_of("models/encoder")
    bad = params(tiny, objective="tags")
    bad = bad.model_copy(update={"tags": bad.tags.model_copy(update={"minimum": 1000})})
    with pytest.raises(InputError, match="it needs two"):
        train_encoder.work(bad)
    assert sha256_of("models/encoder") == first
