"""Pre-training, fine-tuning and the loop they share."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document, validate_block
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.data.ratings import Ratings
from symbiosis.recommender.inference.scoring import Scorer
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary, train_tokenizer
from symbiosis.recommender.metrics.metrics import DEPTH, HELD_OUT_SETS
from symbiosis.recommender.metrics.ranking import rank_all
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.base_models import scratch_config
from symbiosis.recommender.network.cross_fitting import fit_propagation
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.network.params import PropagationParams
from symbiosis.recommender.network.relations import Relations
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.finetuning import Finetuning
from symbiosis.recommender.training.loop import Row, Schedule, fit
from symbiosis.recommender.training.params import FinetuneParams, PretrainParams
from symbiosis.recommender.training.pretraining import LEAST_TEXT, Document, Plan, Pretraining, encode_corpus, fitted

USERS, ITEMS = 16, 12


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    texts = [f"The title of <item_{i}> is: lamp {i} has interacted with The user will" for i in range(ITEMS)]
    return Vocabulary(train_tokenizer(texts, 320), USERS, ITEMS)


FINETUNE = validate_block(read_document(), "finetune", FinetuneParams).model_copy(
    update={
        "users_per_batch": 8,
        "personal_gates": True,
        "hidden_share": 0.3,
        "regularisation": 0.01,
        "language_model": True,
        "precision": "float32",
        "seed": 5,
    }
)
PRETRAIN = validate_block(read_document(), "pretrain", PretrainParams).model_copy(
    update={
        "content_epochs": 2,
        "interaction_epochs": 3,
        "interactions": "documents",
        "maximum_length": 32,
        "regularisation": 0.1,
        "seed": 2,
    }
)


def checkerboard() -> tuple[csr_array, csr_array]:
    """Even users take even items, odd users odd ones; one of each user's items is withheld."""
    full = (np.arange(USERS)[:, None] + np.arange(ITEMS)[None]) % 2 == 0
    held = np.zeros_like(full)
    for user in range(USERS):
        own = np.flatnonzero(full[user])
        held[user, own[user // 2 % len(own)]] = True
    return csr_array((full & ~held).astype(np.float32)), csr_array(held.astype(np.float32))


def small_model(vocabulary: Vocabulary, seed: int = 0, dropout: float = 0.1) -> GraphGPT2:
    torch.manual_seed(seed)
    return GraphGPT2(scratch_config(vocabulary.n_words, 16, 1, 2, 64, dropout), USERS, ITEMS)


def finetuning(vocabulary: Vocabulary, model: GraphGPT2, validation: csr_array | None = None) -> Finetuning:
    train, held = checkerboard()
    return Finetuning(
        model,
        Prompts(vocabulary, 20),
        AttentionBias("ones", vocabulary.n_words, USERS, None),
        None,
        train,
        held if validation is None else validation,
        FINETUNE,
    )


def change(task: Finetuning, **settings: object) -> None:
    """Give a task other params."""
    task.params = task.params.model_copy(update=settings)


def schedule(epochs: int, steps: int, patience: int | None = 50) -> Schedule:
    settings = {"warmup_share": 0.1, "learning_rate": 3e-3, "id_learning_rate": 2e-2, "weight_decay": 0.0, "seed": 1}
    return Schedule(FINETUNE.model_copy(update=settings), epochs, steps, patience)


class Killed(Exception):
    """Stands for the death of the process."""


def ignore(_row: Row, _step: int) -> None:
    pass


def test_checkerboard_is_learnt_perfectly(vocabulary: Vocabulary, tmp_path: Path) -> None:
    model = small_model(vocabulary, dropout=0.0)
    task = finetuning(vocabulary, model)
    fit(model, task, schedule(60, 120), Checkpoints(tmp_path, 1e9), ignore, "test")
    train, held = checkerboard()
    recommender = Scorer(model.eval(), task.prompts, task.bias, None, seed=0)
    ranking = rank_all(lambda users: recommender.scores(users, train), train, DEPTH, seed=0)
    # Each user lacks exactly one item of his colour: it must come first.
    assert (ranking[:, 0] == held.indices).all()
    assert HELD_OUT_SETS.means(ranking, held)["ndcg@100"] == 1.0


def test_a_killed_training_ends_with_the_same_bytes(vocabulary: Vocabulary, tmp_path: Path) -> None:
    def trained(folder: Path, kill_at: int | None) -> tuple[dict[str, torch.Tensor], list[Row]]:
        model = small_model(vocabulary)
        task = finetuning(vocabulary, model)
        loss, calls = task.loss, 0

        def counted(batch: tuple[np.ndarray, int]) -> tuple[str, torch.Tensor]:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise Killed
            return loss(batch)

        task.loss = counted  # type: ignore[method-assign]
        curve = fit(model, task, schedule(5, 10), Checkpoints(folder, 0), ignore, "test")
        return model.state_dict(), curve

    straight, straight_curve = trained(tmp_path / "straight", None)
    for kill_at in (1, 2, 6, 7):  # before any state, in mid-epoch, at the start of an epoch
        folder = tmp_path / str(kill_at)
        with pytest.raises(Killed):
            trained(folder, kill_at)
        resumed, resumed_curve = trained(folder, None)
        assert resumed_curve == straight_curve
        assert all(torch.equal(resumed[name], tensor) for name, tensor in straight.items())


def test_an_incomplete_state_is_never_resumed(vocabulary: Vocabulary, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 0)
    checkpoints.save({"x": torch.zeros(2)}, {"step": 1})
    half = tmp_path / ".step_000000002.abc" / "step_000000002"
    half.mkdir(parents=True)
    (half / "state.safetensors").write_bytes(b"half")
    state = checkpoints.load()
    assert state is not None
    assert state[1] == {"step": 1}


def test_the_best_epoch_is_kept(vocabulary: Vocabulary, tmp_path: Path) -> None:
    model = small_model(vocabulary)
    task = finetuning(vocabulary, model)
    curve = fit(model, task, schedule(8, 16), Checkpoints(tmp_path, 1e9), ignore, "test")
    model.eval()
    assert task.validate()["score"] == max(row["score"] for row in curve)


def test_training_stops_after_so_many_epochs_without_progress(vocabulary: Vocabulary, tmp_path: Path) -> None:
    model = small_model(vocabulary)
    task = finetuning(vocabulary, model)
    scores = iter([0.1, 0.3, 0.2, 0.2, 0.9])
    task.validate = lambda: {"score": next(scores)}  # type: ignore[method-assign]
    curve = fit(model, task, schedule(5, 10, patience=2), Checkpoints(tmp_path, 1e9), ignore, "test")
    assert [row["score"] for row in curve] == [0.1, 0.3, 0.2, 0.2]


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    plan = schedule(1, 100)
    assert [plan.factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert plan.factor(55) == pytest.approx(0.5)
    assert plan.factor(100) == pytest.approx(0.0)


def test_multinomial_likelihood_equals_the_hand_value(vocabulary: Vocabulary) -> None:
    # Logits (2, 1, 0, -1) with targets {0, 2} have a negative log-likelihood of 2.88038 (docs/methods.md, section 1.6).
    model = small_model(vocabulary).eval()
    task = finetuning(vocabulary, model)
    change(task, regularisation=0.0)
    logits = torch.full((1, ITEMS), -torch.inf)
    logits[0, :4] = torch.tensor([2.0, 1.0, 0.0, -1.0])
    model.item_logits = lambda hidden, vectors=None: logits  # type: ignore[method-assign]
    task.hide = lambda users, seed: ([np.array([9])], [np.array([0, 2])])  # type: ignore[method-assign]
    name, loss = task.loss((np.array([0]), 0))
    assert name == "loss"
    assert loss.item() == pytest.approx(2.88038 / 2, abs=1e-5)


@given(st.integers(0, 1000), st.floats(0.05, 0.95))
@settings(max_examples=25, deadline=None)
def test_hidden_and_visible_items_part_the_training_items(vocabulary: Vocabulary, seed: int, share: float) -> None:
    task = finetuning(vocabulary, small_model(vocabulary))
    change(task, hidden_share=share)
    users = np.arange(USERS)
    for user, visible, hidden in zip(users, *task.hide(users, seed), strict=True):
        own = task.train.indices[task.train.indptr[user] : task.train.indptr[user + 1]]
        assert sorted([*visible, *hidden]) == sorted(own)
        assert len(hidden) == max(1, int(share * len(own)))


def test_every_user_is_in_one_batch_an_epoch(vocabulary: Vocabulary) -> None:
    task = finetuning(vocabulary, small_model(vocabulary))
    first, second = ([user for users, _ in task.batches(epoch) for user in users] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(USERS))
    assert first != second


def test_validation_items_never_reach_the_loss(vocabulary: Vocabulary) -> None:
    _, held = checkerboard()
    other = csr_array(np.roll(held.toarray(), 3, axis=1))
    losses = []
    for validation in (held, other):
        torch.manual_seed(0)
        task = finetuning(vocabulary, small_model(vocabulary), validation)
        losses.append([task.loss(batch)[1].item() for batch in task.batches(0)])
    assert losses[0] == losses[1]


def graph_term(train: csr_array) -> Propagation:
    texts = np.random.default_rng(5).normal(size=(ITEMS, 3)).astype(np.float32)
    groups = csr_array(np.eye(ITEMS, dtype=np.float32))
    params = PropagationParams(seed=2, folds=4, alpha=0.5, neighbours=ITEMS)
    return fit_propagation(train, Relations(texts, groups, groups), params)


def test_the_loss_never_sees_the_users_hidden_edge(vocabulary: Vocabulary) -> None:
    """Fit the graph term with and without the hidden item in the user's row: his loss is the same to the bit."""
    train, _ = checkerboard()
    users, model = np.array([3]), small_model(vocabulary, dropout=0.0)
    with torch.no_grad():
        model.gates.fill_(1.0)
    task = finetuning(vocabulary, model)
    visible, hidden = task.hide(users, seed=1)
    task.hide = lambda users, seed: (visible, hidden)  # type: ignore[method-assign]
    without = train.tolil()
    without[3, hidden[0]] = 0
    full, poorer = graph_term(train), graph_term(csr_array(without))
    losses = []
    for term in (full, dataclasses.replace(poorer, units=full.units)):
        task.propagation = term
        losses.append(task.loss((users, 0))[1].item())
    assert losses[0] == losses[1]
    task.propagation = dataclasses.replace(full, without=(full.whole,) * 4)
    assert task.loss((users, 0))[1].item() != losses[0]


def test_training_and_recommending_add_the_graph_term(vocabulary: Vocabulary) -> None:
    train, _ = checkerboard()
    task = finetuning(vocabulary, small_model(vocabulary, dropout=0.0).eval())
    users = np.array([4, 1])
    plain = Scorer(task.model, task.prompts, task.bias, None, seed=3).scores(users, train)
    task.propagation = graph_term(train)
    with torch.no_grad():
        task.model.gates[:2] = torch.tensor([2.0, 0.5])
    scores = Scorer(task.model, task.prompts, task.bias, task.propagation, seed=3).scores(users, train)
    terms = task.propagation.terms([items_of(train, user) for user in users])
    np.testing.assert_allclose(scores - plain, 2 * terms[0] + 0.5 * terms[1], atol=1e-4)
    task.loss((users, 0))[1].backward()
    for gates in (task.model.gates, task.model.gating.weight):
        assert gates.grad is not None
        assert gates.grad[:3].all()


def test_without_the_language_model_the_terms_alone_score(vocabulary: Vocabulary) -> None:
    train, _ = checkerboard()
    task = finetuning(vocabulary, small_model(vocabulary))
    change(task, language_model=False, personal_gates=False)
    task.propagation = graph_term(train)
    with torch.no_grad():
        task.model.gates[:2] = torch.tensor([2.0, 0.5])
    users = np.array([4, 1])
    settings = {"language_model": False, "personal_gates": False}
    scores = Scorer(task.model, task.prompts, task.bias, task.propagation, 3, **settings).scores(users, train)
    terms = task.propagation.terms([items_of(train, user) for user in users])
    np.testing.assert_allclose(scores, 2 * terms[0] + 0.5 * terms[1], atol=1e-5)
    task.loss((users, 0))[1].backward()
    trained = {name for name, weights in task.model.named_parameters() if weights.grad is not None}
    assert trained == {"gates"}


def test_a_user_without_training_items_is_scored_from_a_memory_map(vocabulary: Vocabulary) -> None:
    train, _ = checkerboard()
    emptied = train.toarray()
    emptied[4] = 0
    sparse = csr_array(emptied)
    task = finetuning(vocabulary, small_model(vocabulary, dropout=0.0).eval())
    users = np.array([4, 1])
    recommender = Scorer(task.model, task.prompts, task.bias, None, seed=3)
    writable = recommender.scores(users, sparse)
    sparse.indices.flags.writeable = False
    np.testing.assert_array_equal(recommender.scores(users, sparse), writable)


def test_the_rating_loss_is_the_squared_error_of_hidden_ratings(vocabulary: Vocabulary) -> None:
    train, held = checkerboard()
    stars = csr_array((1.0 + train.indices % 5, train.indices, train.indptr), shape=train.shape, dtype=np.float32)
    task = finetuning(vocabulary, small_model(vocabulary, dropout=0.0).eval())
    task.ratings = Ratings(stars, held)
    change(task, regularisation=0.0)
    users = np.array([2, 7])
    visible, hidden = task.hide(users, 4)
    recommender = Scorer(task.model, task.prompts, task.bias, None, seed=3)
    only_visible = np.zeros(train.shape, np.float32)
    for user, items in zip(users, visible, strict=True):
        only_visible[user, items] = 1
    scores = recommender.scores(users, csr_array(only_visible))
    wanted = [np.mean((stars.data.mean() + scores[i, h] - 1 - h % 5) ** 2) for i, h in enumerate(hidden)]
    assert task.loss((users, 4))[1].item() == pytest.approx(np.mean(wanted), rel=1e-4)
    row = task.validate()
    assert row["score"] == -row["rmse"]


def test_items_without_training_interactions_are_no_candidates_in_training(vocabulary: Vocabulary) -> None:
    train, held = checkerboard()
    dense = train.toarray()
    dense[:, 5] = 0
    task = finetuning(vocabulary, small_model(vocabulary, dropout=0.0))
    task = Finetuning(
        task.model,
        task.prompts,
        task.bias,
        None,
        csr_array(dense),
        held,
        FINETUNE.model_copy(update={"regularisation": 0.0}),
    )
    task.loss((np.arange(8), 0))[1].backward()
    gradient = task.model.collaborative.weight.grad
    assert gradient is not None
    assert not gradient[USERS + 5].any()
    assert gradient[USERS + 4].any()


def test_prompt_ends_on_its_user_and_is_never_cut(vocabulary: Vocabulary) -> None:
    prompts = Prompts(vocabulary, 3)
    ids, last = prompts([2, 5], [np.arange(7), np.array([1])])
    assert ids[0, last[0]] == ids[0, 0] == vocabulary.user(2)
    assert (ids[0] >= vocabulary.item(0)).sum() == 3
    assert last.tolist() == [prompts.overhead + 3 - 1, prompts.overhead + 1 - 1]
    assert (ids[1, last[1] + 1 :] == vocabulary.end).all()


def test_scores_do_not_depend_on_the_block(vocabulary: Vocabulary) -> None:
    train, _ = checkerboard()
    task = finetuning(vocabulary, small_model(vocabulary).eval())
    recommender = Scorer(task.model, task.prompts, task.bias, None, seed=3)
    users = np.array([4, 1, 11])
    together = recommender.scores(users, train)
    alone = np.concatenate([recommender.scores(users[i : i + 1], train, rows=1) for i in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


# ---------------------------------------------------------------- pre-training


def test_truncation_cuts_text_then_list_but_never_the_question() -> None:
    prompt = np.array([1, 2, *range(100, 120), 3, 4])  # words below 100, ID tokens from 100
    text = np.arange(10, 40)
    short_prompt, short_text = fitted(prompt, text, 40, n_words=100)
    assert len(short_prompt) == 24
    assert len(short_text) == 16
    short_prompt, short_text = fitted(prompt, text, 20, n_words=100)
    assert len(short_text) == LEAST_TEXT
    assert short_prompt.tolist() == [1, 2, *range(100, 108), 3, 4]
    with pytest.raises(InputError, match="maximum_length"):
        fitted(prompt, text, 10, n_words=100)


def pretraining(vocabulary: Vocabulary, documents: list[Document], tokens_per_batch: int = 60) -> Pretraining:
    return Pretraining(
        small_model(vocabulary),
        documents,
        AttentionBias("none", vocabulary.n_words, USERS, None),
        PRETRAIN.model_copy(update={"tokens_per_batch": tokens_per_batch}),
        vocabulary.end,
    )


@pytest.fixture(scope="module")
def documents(vocabulary: Vocabulary) -> list[Document]:
    rows = [("title", f"The title of <item_{i}> is:", f"lamp {i}") for i in range(ITEMS)]
    rows += [("interactions", f"<user_{u}> has interacted with", "<item_1> <item_4> <item_7>") for u in range(USERS)]
    return encode_corpus(pl.DataFrame(rows, schema=["kind", "prompt", "text"], orient="row"), vocabulary)


def test_texts_end_and_item_sets_do_not(vocabulary: Vocabulary, documents: list[Document]) -> None:
    assert documents[0].text[-1] == vocabulary.end
    assert documents[-1].text.tolist() == [vocabulary.item(i) for i in (1, 4, 7)]


def test_the_first_token_of_a_text_is_a_target(vocabulary: Vocabulary, documents: list[Document]) -> None:
    task = pretraining(vocabulary, documents[:1])
    batch = task.make(Plan("content", np.array([0]), 0))
    prompt = len(documents[0].prompt)
    assert batch.targets[0, prompt - 1] == documents[0].text[0]
    assert batch.ids[0, prompt] == documents[0].text[0]
    assert (batch.targets[0, : prompt - 1] == -1).all()
    assert batch.targets[0, -1] == -1


def test_an_epoch_holds_every_document_once_and_sides_are_not_mixed(
    vocabulary: Vocabulary, documents: list[Document]
) -> None:
    task = pretraining(vocabulary, documents)
    for epoch, sides in enumerate([{"content", "documents"}, {"content", "documents"}, {"documents"}]):
        plans = task.batches(epoch)
        assert {plan.side for plan in plans} == sides
        for side in sides:
            numbers = sorted(n for plan in plans if plan.side == side for n in plan.numbers)
            assert numbers == list(range(ITEMS if side == "content" else USERS))
        assert all(task.make(plan).ids.size <= 60 or len(plan.numbers) == 1 for plan in plans)
    assert task.schedule().steps == sum(len(task.batches(epoch)) for epoch in range(3))


def test_item_order_is_drawn_anew(vocabulary: Vocabulary, documents: list[Document]) -> None:
    task = pretraining(vocabulary, documents, tokens_per_batch=1000)
    orders = {
        tuple(task.make(plan).ids[0]) for epoch in range(3) for plan in task.batches(epoch) if plan.side == "documents"
    }
    assert len(orders) > 1


def test_pretraining_learns(vocabulary: Vocabulary, documents: list[Document], tmp_path: Path) -> None:
    task = pretraining(vocabulary, documents)
    task.params = task.params.model_copy(update={"content_epochs": 40, "interaction_epochs": 40})
    task.epochs = 40
    plan = schedule(40, task.schedule().steps, patience=None)
    curve = fit(task.model, task, plan, Checkpoints(tmp_path, 1e9), ignore, "test")
    for name in ("content_loss", "interaction_loss"):
        losses = [row[name] for row in curve if name in row]
        assert losses[-1] < 0.7 * losses[0]


def on_prompts(vocabulary: Vocabulary, documents: list[Document], **settings: object) -> Pretraining:
    """Pre-training without dropout on prompts of the checkerboard."""
    train, held = checkerboard()
    params = PRETRAIN.model_copy(update={"interactions": "prompts", "users_per_batch": 8} | settings)
    model, bias = small_model(vocabulary, dropout=0.0), AttentionBias("ones", vocabulary.n_words, USERS, None)
    prompts = Finetuning(model, Prompts(vocabulary, 20), bias, None, train, held, params.of_prompts())
    return Pretraining(model, documents, bias, params, vocabulary.end, prompts)


def gradients(task: Pretraining, plan: Plan) -> dict[str, torch.Tensor]:
    task.model.zero_grad()
    task.loss(plan)[1].backward()
    return {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in task.model.named_parameters()}


def test_pretraining_hides_other_items_of_a_user_in_every_epoch(
    vocabulary: Vocabulary, documents: list[Document]
) -> None:
    task, hidden = on_prompts(vocabulary, documents, content_epochs=0), []
    assert task.prompts is not None
    for epoch in range(3):
        plans = task.batches(epoch)
        assert sorted(user for plan in plans for user in plan.numbers) == list(range(USERS))
        found = {u: h for plan in plans for u, h in zip(plan.numbers, task.prompts.hide(*plan[1:])[1], strict=True)}
        hidden.append([found[user].tolist() for user in range(USERS)])
    assert hidden[0] != hidden[1] != hidden[2]


def test_prompts_are_pretrained_with_the_loss_of_fine_tuning(vocabulary: Vocabulary, documents: list[Document]) -> None:
    task = on_prompts(vocabulary, documents, user_dropout=0.0)
    train, held = checkerboard()
    params = FINETUNE.model_copy(
        update={"hidden_share": PRETRAIN.hidden_share, "regularisation": PRETRAIN.regularisation}
    )
    other = Finetuning(task.model, Prompts(vocabulary, 20), task.bias, None, train, held, params)
    plan = Plan("prompts", np.array([3, 4, 9]), 6)
    assert task.loss(plan)[1].item() == other.loss((plan.numbers, plan.seed))[1].item()


def test_an_unknown_user_has_no_part_in_the_prompt(vocabulary: Vocabulary, documents: list[Document]) -> None:
    plan = Plan("prompts", np.arange(8), 6)
    for dropout, learns in ((0.0, set(range(8))), (1.0, set())):
        task = on_prompts(vocabulary, documents, user_dropout=dropout, regularisation=0.0)
        rows = gradients(task, plan)["collaborative.weight"][:USERS].any(dim=1)
        assert set(torch.nonzero(rows).flatten().tolist()) == learns


def test_a_text_is_written_without_its_embedding(vocabulary: Vocabulary, documents: list[Document]) -> None:
    plan = Plan("content", np.arange(4), 6)
    for dropout, reads in ((0.0, True), (1.0, False)):
        task = on_prompts(vocabulary, documents, text_dropout=dropout, regularisation=0.0)
        task.model.texts = torch.ones(ITEMS, 1)
        found = gradients(task, plan)
        assert bool(found["projection.weight"].any()) is reads
        assert found["content.weight"][USERS : USERS + 4].any(dim=1).all()


def test_pretraining_keeps_the_best_epoch_once_the_texts_are_learnt(
    vocabulary: Vocabulary, documents: list[Document], tmp_path: Path
) -> None:
    task = on_prompts(vocabulary, documents, content_epochs=3, interaction_epochs=9, patience=2)
    scores = iter([0.9, 0.8, 0.3, 0.5, 0.4, 0.4, 0.9])
    task.validate = lambda: {"score": next(scores)}  # type: ignore[method-assign]
    weights: list[torch.Tensor] = []

    def keep(_row: Row, _step: int) -> None:
        weights.append(task.model.collaborative.weight.detach().clone())

    curve = fit(task.model, task, task.schedule(), Checkpoints(tmp_path, 1e9), keep, "test")
    assert [row["score"] for row in curve] == [0.9, 0.8, 0.3, 0.5, 0.4, 0.4]
    assert torch.equal(task.model.collaborative.weight, weights[3])
    assert not torch.equal(weights[3], weights[5])


def test_without_patience_the_last_epoch_of_pretraining_is_kept(
    vocabulary: Vocabulary, documents: list[Document]
) -> None:
    assert on_prompts(vocabulary, documents, patience=None).schedule().patience is None
    assert on_prompts(vocabulary, documents, interaction_epochs=0).schedule().patience is None


def test_reading_one_position_out_gives_the_loss_of_all_positions(vocabulary: Vocabulary) -> None:
    task = finetuning(vocabulary, small_model(vocabulary, dropout=0.0))
    batch = (np.arange(USERS), 3)
    found = task.loss(batch)[1].item()

    def forward(
        ids: torch.Tensor, bias: torch.Tensor, table: torch.nn.Embedding, last: torch.Tensor, _: None
    ) -> object:
        return task.model(ids, bias, table)[torch.arange(len(ids)), last]

    task.model.read_out = forward  # type: ignore[method-assign,assignment]
    assert task.loss(batch)[1].item() == pytest.approx(found, rel=1e-6)
