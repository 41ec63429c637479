"""Free text of the pre-trained model, token by token."""

import doctest
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from symbiosis.core.errors import InputError
from symbiosis.recommender.inference import reasons
from symbiosis.recommender.inference.reasons import Sampling, Writer, chosen
from symbiosis.recommender.language.corpus import reason_prompt
from symbiosis.recommender.language.tokens import Vocabulary, train_tokenizer
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.base_models import scratch_config
from symbiosis.recommender.network.model import GraphGPT2

USERS, ITEMS, POSITIONS = 3, 4, 48


@pytest.fixture
def writer() -> Writer:
    """An untrained model whose words depend on the prompt and, by a large R, on the bias."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(train_tokenizer(["explains the reason for purchasing a red lamp"] * 20, 300), USERS, ITEMS)
    model = GraphGPT2(scratch_config(vocabulary.n_words, 16, 2, 2, POSITIONS, 0.5), USERS, ITEMS)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.4)  # with small weights it says the same whatever it is asked
    ones, none = (AttentionBias(mode, vocabulary.n_words, USERS, None) for mode in ("ones", "none"))
    return Writer(model, vocabulary, lambda ids: none(ids) + 30 * (ones(ids) - none(ids)))  # type: ignore[arg-type]


def prompt_ids(writer: Writer, user: int, item: int) -> np.ndarray:
    (ids,) = writer.vocabulary.encode([reason_prompt(user, item)])
    return ids


@torch.no_grad()
def by_hand(writer: Writer, prompt: np.ndarray, length: int, bias: Callable[[np.ndarray], torch.Tensor]) -> list[int]:
    """Loop over all words: each is tried as the next token and its probability read off."""
    text: list[int] = []
    for _ in range(length):
        ids = np.array([[*prompt.tolist(), *text]])
        hidden = writer.model(torch.from_numpy(ids), bias(ids), writer.model.content)[0, -1]
        scores = [float(hidden @ writer.model.backbone.wte.weight[word]) for word in range(writer.vocabulary.n_words)]
        if not text:
            scores[writer.vocabulary.end] = -np.inf
        best = max(range(len(scores)), key=scores.__getitem__)
        if best == writer.vocabulary.end:
            break
        text.append(best)
    return text


def test_greedy_takes_the_most_probable_token_at_every_step(writer: Writer) -> None:
    texts = []
    for user, item in [(0, 0), (1, 3), (2, 2)]:
        prompt = prompt_ids(writer, user, item)
        texts.append(writer.continuation(prompt, Sampling(maximum_words=1000)))
        expected = by_hand(writer, prompt, POSITIONS - len(prompt), writer.bias)
        assert texts[-1] == expected
    assert len({tuple(text) for text in texts}) > 1  # it listens to the prompt
    plain = AttentionBias("none", writer.vocabulary.n_words, USERS, None)
    assert by_hand(writer, prompt, 20, plain) != by_hand(writer, prompt, 20, writer.bias)


def test_the_same_seed_gives_the_same_text(writer: Writer) -> None:
    state = torch.get_rng_state()
    drawn = {seed: writer.reason(1, 2, Sampling(1.0, seed=seed)) for seed in range(8)}
    assert drawn == {seed: writer.reason(1, 2, Sampling(1.0, seed=seed)) for seed in range(8)}
    assert len(set(drawn.values())) > 1
    assert torch.equal(torch.get_rng_state(), state)  # other draws of the process are left alone


def test_candidates_are_the_first_k_by_their_probabilities() -> None:
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0, -torch.inf])
    generator = torch.Generator().manual_seed(0)
    drawn = np.bincount([chosen(logits, Sampling(0.5, top_k=2), generator) for _ in range(4000)], minlength=5)
    assert (drawn[[0, 2, 4]] == 0).all()
    assert drawn[1] / 4000 == pytest.approx(1 / (1 + np.exp(-2)), abs=0.03)  # (3 - 2) / 0.5
    for cold in (1e-30, 1e-300):
        assert chosen(logits, Sampling(cold), generator) == 1
    assert 0 <= chosen(logits, Sampling(1e300), generator) < 4


def test_a_text_holds_no_user_or_item_and_no_control_character(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        tokens = writer.continuation(prompt_ids(writer, 0, 1), Sampling(5.0, seed=seed))
        assert tokens
        assert max(tokens) < writer.vocabulary.n_words
    (spelt,) = writer.vocabulary.tokenizer.encode_batch(["as <user_1>\n said\x1b[2J of item_22"])
    monkeypatch.setattr(writer, "continuation", lambda *_: spelt.ids)
    text = writer.reason(0, 1, Sampling())
    assert text == "as user 1 said [2J of item 22"
    assert not re.search(r"(user|item)_", text)


def test_a_text_ends_with_the_end_token_or_after_so_many_words(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    (plan,) = writer.vocabulary.tokenizer.encode_batch(["a red lamp a red lamp a"])
    end = writer.vocabulary.end
    planned = iter([*plan.ids, end, end])
    monkeypatch.setattr(reasons, "chosen", lambda *_: next(planned))
    assert writer.reason(0, 0, Sampling()) == "a red lamp a red lamp a"
    planned = iter(plan.ids)
    assert writer.reason(0, 0, Sampling(maximum_words=3)) == "a red lamp"


def test_the_end_is_no_candidate_for_the_first_place(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    end = writer.vocabulary.end
    logits = torch.zeros(writer.vocabulary.n_words)
    logits[end], logits[end + 5] = 2.0, 1.0
    monkeypatch.setattr(writer.model, "word_logits", lambda _: logits.clone())
    assert writer.continuation(prompt_ids(writer, 0, 0), Sampling()) == [end + 5]


def test_a_text_never_outgrows_the_positions(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "chosen", lambda *_: 5)
    prompt = prompt_ids(writer, 0, 0)
    assert len(writer.continuation(prompt, Sampling())) == POSITIONS - len(prompt)
    with pytest.raises(InputError, match="leaves no room"):
        writer.continuation(np.resize(prompt, POSITIONS), Sampling())


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"maximum_words": 0}, {"seed": -1}]
)
def test_senseless_sampling_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_examples_in_docstrings() -> None:
    outcome = doctest.testmod(reasons)
    assert outcome.attempted >= 1
    assert outcome.failed == 0
