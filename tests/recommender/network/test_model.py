"""The language model: tokens, attention bias and the invariants of the specification (section 9.6)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stock_gpt2 import stock_config
from transformers import GPT2LMHeadModel

from symbiosis.core.errors import InputError
from symbiosis.graph.build import Graph
from symbiosis.graph.distances import HopDistances
from symbiosis.graph.pairs import BUCKETS, PairFeatures, bucket_names
from symbiosis.recommender.language.tokens import END, Vocabulary, train_tokenizer
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.base_models import load_pretrained, scratch_config
from symbiosis.recommender.network.model import GraphGPT2

WORDS, USERS, ITEMS = 300, 3, 4
# Users u0..u2, items i0..i3, edges u0-i0, u0-i1, u1-i1, u1-i2, u2-i3 (specification, section 2.3)
USER_ITEM = np.array([[1, 1, 3, 255], [3, 1, 1, 255], [255, 255, 255, 1]], dtype=np.uint8)
ITEM_ITEM = np.array([[0, 2, 4, 255], [2, 0, 2, 255], [4, 2, 0, 255], [255, 255, 255, 0]], dtype=np.uint8)
CONNECTIVITY = np.zeros(256, dtype=np.float32)
CONNECTIVITY[:6] = np.array([6, 11, 4, 3, 2, 1]) / 11
DISTANCES = HopDistances(USER_ITEM, ITEM_ITEM, CONNECTIVITY)


def user(number: int) -> int:
    return WORDS + number


def item(number: int) -> int:
    return WORDS + USERS + number


def paper_bias() -> AttentionBias:
    return AttentionBias("paper", WORDS, USERS, DISTANCES)


def no_bias(ids: np.ndarray) -> torch.Tensor:
    return AttentionBias("none", WORDS, USERS, None)(ids)


@pytest.fixture
def model() -> GraphGPT2:
    torch.manual_seed(0)
    return GraphGPT2(scratch_config(WORDS, 32, 2, 4, 24, 0.0), USERS, ITEMS).eval()


def test_bias_equals_the_table_of_the_specification() -> None:
    ids = np.array([[user(0), 5, item(0), item(1), item(2), item(3), user(0)]])
    bias = paper_bias()(ids)[0, 0].numpy()
    assert bias[0, 0] == pytest.approx(6 / 11)  # u0 with itself
    assert bias[2, 0] == 1.0  # u0 - i0, an edge
    assert bias[4, 0] == pytest.approx(3 / 11)  # u0 - i2
    assert bias[3, 2] == pytest.approx(4 / 11)  # i0 - i1
    assert bias[4, 2] == pytest.approx(2 / 11)  # i0 - i2
    assert bias[5, 2] == 0.0  # i0 - i3, not connected
    assert bias[6, 0] == pytest.approx(6 / 11)  # the read-out position sees its own user
    assert not bias[1, :2].any()  # a word gets nothing
    assert not bias[2:, 1].any()


@given(
    st.lists(st.lists(st.integers(0, WORDS + USERS + ITEMS - 1), min_size=1, max_size=9), min_size=1, max_size=4),
    st.sampled_from(["none", "ones", "paper"]),
)
@settings(max_examples=60, deadline=None)
def test_bias_equals_a_loop_over_pairs(rows: list[list[int]], mode: str) -> None:
    length = max(map(len, rows))
    ids = np.array([row + [0] * (length - len(row)) for row in rows])
    bias = AttentionBias(mode, WORDS, USERS, DISTANCES)(ids)[:, 0].numpy()  # type: ignore[arg-type]
    hops = np.full((USERS + ITEMS, USERS + ITEMS), 255)
    np.fill_diagonal(hops, 0)
    hops[:USERS, USERS:], hops[USERS:, :USERS], hops[USERS:, USERS:] = USER_ITEM, USER_ITEM.T, ITEM_ITEM
    for r, row in enumerate(ids):
        for q, query in enumerate(row):
            for k, key in enumerate(row):
                if k > q:
                    expected = np.finfo(np.float32).min
                elif mode == "none" or query < WORDS or key < WORDS:
                    expected = 0.0
                else:
                    expected = 1.0 if mode == "ones" else CONNECTIVITY[hops[query - WORDS, key - WORDS]]
                assert bias[r, q, k] == expected


LEARNT = PairFeatures(
    Graph(
        user_offsets=np.array([0, 2, 4, 5]),
        user_items=np.array([0, 1, 1, 2, 3], dtype=np.int32),
        item_offsets=np.array([0, 1, 3, 4, 5]),
        item_users=np.array([0, 0, 1, 1, 2], dtype=np.int32),
        brands=("Acme",),
        brand_offsets=np.array([0, 2]),
        brand_items=np.array([0, 2], dtype=np.int32),
        categories=(),
        category_offsets=np.array([0]),
        category_items=np.array([], dtype=np.int32),
    )
)


def learned_bias(model: GraphGPT2) -> AttentionBias:
    return AttentionBias("learned", WORDS, USERS, None, LEARNT, model.scalars)


def test_learned_bias_sums_the_scalars_of_the_pairs_buckets(model: GraphGPT2) -> None:
    with torch.no_grad():
        model.scalars.weight[1:] = torch.randn(BUCKETS - 1, 4)
    ids = np.array([[user(0), 5, item(0), 6, item(1), user(0)], [7, item(2), item(0), 8, 9, 9]])
    bias = learned_bias(model)(ids).detach().numpy()
    assert bias.shape == (2, 4, 6, 6)
    scalars = dict(zip(bucket_names(), model.scalars.weight.detach().numpy(), strict=True))
    two_items = ["other users of both: 0", "same brand: no", "categories in common: 0", "hops between items: over 4"]
    np.testing.assert_allclose(bias[0, :, 4, 2], sum(scalars[name] for name in two_items), rtol=1e-5)
    of_user = ["paths from the user: 0", "hops from the user: over 3"]
    np.testing.assert_allclose(bias[0, :, 5, 2], sum(scalars[name] for name in of_user), rtol=1e-5)
    np.testing.assert_allclose(bias[0, :, 5, 0], scalars["self"], rtol=1e-5)
    same_brand = ["other users of both: 0", "same brand: yes", "categories in common: 0", "hops between items: 4"]
    np.testing.assert_allclose(bias[1, :, 2, 1], sum(scalars[name] for name in same_brand), rtol=1e-5)
    assert not bias[0, :, 1:, 1].any(where=np.tri(6, dtype=bool)[1:, 1])  # a word gets nothing
    assert (bias[..., ~np.tri(6, dtype=bool)] == np.finfo(np.float32).min).all()


def test_learned_bias_starts_as_plain_gpt2_and_learns(model: GraphGPT2) -> None:
    ids = np.array([[user(0), item(0), item(1), user(0)]])
    tokens = torch.from_numpy(ids)
    learned = model(tokens, learned_bias(model)(ids), model.collaborative)
    torch.testing.assert_close(learned, model(tokens, no_bias(ids), model.collaborative), rtol=0, atol=1e-6)
    learned[0, -1, 0].backward()
    assert model.scalars.weight.grad is not None
    touched = {name for name, grad in zip(bucket_names(), model.scalars.weight.grad, strict=True) if grad.any()}
    assert {"self", "paths from the user: 0"} <= touched
    assert not any(name.startswith("none") for name in touched)


def test_zero_bias_equals_stock_gpt2_to_the_bit(model: GraphGPT2) -> None:
    stock = GPT2LMHeadModel(stock_config(model.config)).eval()
    stock.transformer.load_state_dict(model.backbone.state_dict())
    stock.tie_weights()
    ids = torch.randint(0, WORDS, (3, 17), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model.word_logits(model(ids, no_bias(ids.numpy()), model.content))
        theirs = stock(ids).logits
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("bias_of", [lambda _: paper_bias(), learned_bias], ids=["paper", "learned"])
def test_future_tokens_change_nothing(model: GraphGPT2, bias_of: Callable[[GraphGPT2], AttentionBias]) -> None:
    ids = np.array([[user(1), 7, item(1), item(2), 8, 9]])
    other = ids.copy()
    other[0, 4:] = [item(3), user(1)]
    with torch.no_grad():
        model.scalars.weight.normal_()
        bias = bias_of(model)
        first, second = (model(torch.from_numpy(x), bias(x), model.content)[0, :4] for x in (ids, other))
    assert torch.equal(first, second)


def test_a_filled_up_row_equals_the_row_alone(model: GraphGPT2) -> None:
    alone = np.array([[user(0), 7, item(0), item(2)]])
    batch = np.array([[*alone[0], 0, 0, 0], [1, 2, 3, 4, 5, 6, user(2)]])
    with torch.no_grad():
        short = model(torch.from_numpy(alone), paper_bias()(alone), model.content)[0]
        long = model(torch.from_numpy(batch), paper_bias()(batch), model.content)[0, :4]
    torch.testing.assert_close(short, long, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bias_of", [lambda _: paper_bias(), learned_bias], ids=["paper", "learned"])
def test_one_position_is_read_out_as_all_are(layers: int, bias_of: Callable[[GraphGPT2], AttentionBias]) -> None:
    """States and gradients, at any position."""
    torch.manual_seed(0)
    model = GraphGPT2(scratch_config(WORDS, 32, layers, 4, 24, 0.0), USERS, ITEMS)
    with torch.no_grad():
        model.scalars.weight.normal_()
    ids = np.array([[user(0), 7, item(0), item(2), 3, user(0)], [1, user(2), 3, item(1), item(3), 6], [2] * 6])
    tokens, last, wanted = torch.from_numpy(ids), torch.tensor([5, 3, 0]), torch.randn(3, 32)
    found = []
    for read in (
        lambda bias: model(tokens, bias, model.collaborative)[torch.arange(3), last],
        lambda bias: model.read_out(tokens, bias, model.collaborative, last),
    ):
        model.zero_grad()
        states = read(bias_of(model)(ids))
        (states * wanted).sum().backward()
        found.append((states.detach(), {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}))
    (all_states, all_grads), (states, grads) = found
    torch.testing.assert_close(states, all_states, rtol=1e-5, atol=1e-6)
    assert grads.keys() == all_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, all_grads[name], rtol=1e-4, atol=1e-5, msg=name)


def test_graph_bias_changes_the_answer(model: GraphGPT2) -> None:
    ids = np.array([[user(0), item(0), item(2)]])
    with torch.no_grad():
        plain, biased = (model(torch.from_numpy(ids), b(ids), model.collaborative) for b in (no_bias, paper_bias()))
    assert not torch.allclose(plain, biased)


def test_each_token_reads_its_own_table(model: GraphGPT2) -> None:
    ids = torch.tensor([[3, user(1), item(2)]])
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model(ids, no_bias(ids.numpy()), model.collaborative)
    expected = [model.backbone.wte.weight[3], model.collaborative.weight[1], model.collaborative.weight[USERS + 2]]
    torch.testing.assert_close(seen[0][0], torch.stack(expected), rtol=0, atol=0)


def textual(texts: torch.Tensor, warm: list[bool] | None = None) -> GraphGPT2:
    torch.manual_seed(0)
    seen = None if warm is None else torch.tensor(warm)
    return GraphGPT2(scratch_config(WORDS, 32, 2, 4, 24, 0.0), USERS, ITEMS, texts, seen, 0.5, 0.25).eval()


def test_an_item_is_its_scaled_free_vector_plus_its_projected_text() -> None:
    texts = torch.randn(ITEMS, 6)
    model = textual(texts)
    free = model.collaborative.weight
    with torch.no_grad():
        vectors = model.vectors(torch.arange(USERS + ITEMS), model.collaborative)
        expected = torch.cat([0.5 * free[:USERS], 0.25 * free[USERS:] + texts @ model.projection.weight.T])
        torch.testing.assert_close(vectors, expected)
        hidden = torch.randn(2, 32)
        torch.testing.assert_close(model.item_logits(hidden), hidden @ expected[USERS:].T)


def test_an_item_nobody_took_is_served_by_its_text_alone() -> None:
    texts = torch.randn(ITEMS, 6)
    texts[3] = texts[1]
    model = textual(texts, [True, True, True, False])
    with torch.no_grad():
        model.collaborative.weight[USERS + 3] = 100.0
        vectors = model.vectors(torch.arange(USERS, USERS + ITEMS), model.collaborative)
        torch.testing.assert_close(vectors[3], model.projection(texts[1]))
        assert not torch.allclose(vectors[1], vectors[3])


def test_the_order_of_a_list_of_items_has_no_position(model: GraphGPT2) -> None:
    ids = torch.tensor([[user(0), 5, item(0), item(1), item(2), 6, user(0)], [item(1), item(0), 3, 4, item(2), 5, 6]])
    assert model.positions(ids).tolist() == [[0, 1, 2, 2, 2, 3, 4], [0, 0, 1, 2, 3, 4, 5]]


def test_regularisation_is_a_mean_over_unique_tokens(model: GraphGPT2) -> None:
    with torch.no_grad():
        model.content.weight.zero_()
        model.collaborative.weight.zero_()
        model.content.weight[1] = 2.0  # distance 32 * 4 = 128
    ids = torch.tensor([[5, user(1), user(1), user(1), item(0)]])
    assert model.disagreement(ids, model.content, model.collaborative).item() == pytest.approx(128 / 2)
    assert model.disagreement(torch.tensor([[1, 2]]), model.content, model.collaborative).item() == 0


def test_save_load_gives_the_same_scores(tmp_path: Path) -> None:
    model = textual(torch.randn(ITEMS, 6), [True, False, True, True])
    model.save(tmp_path)
    again = GraphGPT2.load(tmp_path).eval()
    ids = np.array([[user(0), item(0), 9]])
    with torch.no_grad():
        first, second = (m.item_logits(m(torch.from_numpy(ids), no_bias(ids), m.content)) for m in (model, again))
    assert torch.equal(first, second)


@pytest.mark.parametrize("damage", ["truncated", "missing", "config"])
def test_damaged_model_is_refused_by_name(model: GraphGPT2, tmp_path: Path, damage: str) -> None:
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "missing":
        weights.unlink()
    else:
        (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="model.safetensors"):
        GraphGPT2.load(tmp_path)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(train_tokenizer(["the title of <item_1> is lamp"] * 20, 300), USERS, ITEMS)


def test_id_tokens_are_atomic_and_white_space_around_them_vanishes(vocabulary: Vocabulary) -> None:
    (row,) = vocabulary.encode(["title <item_3> <user_2>"])
    assert row[-2:].tolist() == [vocabulary.item(3), vocabulary.user(2)]
    assert vocabulary.tokenizer.decode(row[:-2].tolist()) == "title"


def test_id_ranges_do_not_overlap(vocabulary: Vocabulary) -> None:
    ids = [*range(vocabulary.n_words), *map(vocabulary.user, range(USERS)), *map(vocabulary.item, range(ITEMS))]
    assert ids == list(range(vocabulary.n_words + USERS + ITEMS))


@given(st.text(max_size=40).filter(lambda text: "<" not in text))
@settings(max_examples=50, deadline=None)
def test_words_survive_encoding(vocabulary: Vocabulary, text: str) -> None:
    (row,) = vocabulary.encode([text])
    assert vocabulary.tokenizer.decode(row.tolist()) == text.rstrip()


def test_unknown_id_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(InputError, match="<item_4>, but there are only 4 items"):
        vocabulary.encode(["<item_4>"])


def test_vocabulary_survives_saving(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path / "tokenizer.json")
    again = Vocabulary.load(tmp_path / "tokenizer.json", USERS, ITEMS)
    assert again.encode(["the lamp <user_0>"])[0].tolist() == vocabulary.encode(["the lamp <user_0>"])[0].tolist()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json"):
        Vocabulary.load(tmp_path / "tokenizer.json", USERS, ITEMS)


@pytest.fixture
def published(tmp_path: Path, vocabulary: Vocabulary) -> Path:
    """A folder such as the hub gives: GPT-2 weights as safetensors, configuration and tokenizer."""
    torch.manual_seed(4)
    folder = tmp_path / "gpt2"
    lm = GPT2LMHeadModel(stock_config(scratch_config(vocabulary.n_words, 16, 1, 2, 32, 0.1)))
    lm.save_pretrained(folder)
    vocabulary.tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        f'{{"tokenizer_class": "GPT2Tokenizer", "eos_token": "{END}", "bos_token": "{END}", "unk_token": "{END}"}}'
    )
    return folder


def test_published_weights_are_loaded_from_a_folder(published: Path, vocabulary: Vocabulary) -> None:
    backbone, tokenizer = load_pretrained(str(published), None, dropout=0.0)
    stock = GPT2LMHeadModel.from_pretrained(published)
    assert torch.equal(backbone.h[0].attn.c_attn.weight, stock.transformer.h[0].attn.c_attn.weight)
    assert backbone.config.attn_pdrop == 0.0
    assert END in tokenizer


def test_missing_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pretrain.base_model"):
        load_pretrained(str(tmp_path / "nothing"), None, 0.0)


def test_weights_of_another_model_are_refused(published: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(published / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "c_fc" not in name}
    save_file(kept, published / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="lacks the weight"):
        load_pretrained(str(published), None, 0.0)
