"""The form of a query beside its embedding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.routing.queries.text_shape import WIDEST, query_vectors, shape


def test_counts_by_hand() -> None:
    columns = shape(["Is 12 + 3.5 = 15.5?"])[0]
    raw = np.log1p(19), np.log1p(6), 19 / 6, 7 / 19
    usual = [(5.5, 0.8), (3.8, 0.8), (5.7, 0.9), (0.02, 0.03)]
    expected = [np.clip((value - mean) / spread, -3, 3) for value, (mean, spread) in zip(raw, usual, strict=True)]
    np.testing.assert_allclose(columns[:4], expected, rtol=1e-12)
    # Signs other than letters, digits and blanks: + . = . ?
    np.testing.assert_allclose(columns[4], (5 / 19 - 0.06) / 0.05 if 5 / 19 < 0.21 else 3.0)
    np.testing.assert_allclose(columns[9], (np.log1p(1) - 0.5) / 0.4)  # one question mark
    np.testing.assert_allclose(columns[14], (np.log1p(3) - 1.2) / 1.0)  # three numbers
    np.testing.assert_allclose(columns[15], (np.log1p(15.5) - 2.7) / 2.7)  # the largest


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_every_text_has_a_form_of_its_own(texts: list[str]) -> None:
    rows = shape(texts)
    assert rows.shape == (len(texts), 17)
    assert np.isfinite(rows).all()
    assert (np.abs(rows) <= WIDEST).all()
    np.testing.assert_array_equal(rows, np.vstack([shape([text]) for text in texts]))


def test_empty_and_very_long_texts_have_a_form() -> None:
    assert np.isfinite(shape(["", "9" * 100_000])).all()


def test_vectors_have_length_one_and_keep_the_embedding() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((3, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    texts = ["What is 2 + 2?", "", "Explain the `for` loop, and give an example."]
    vectors = query_vectors(embeddings, texts, 0.1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    ratio = vectors[:, :8] / embeddings
    np.testing.assert_allclose(ratio, np.tile(ratio[:, :1], (1, 8)), rtol=1e-4)
    np.testing.assert_allclose(vectors[:, 8:], 0.1 * shape(texts) * ratio[:, :1], rtol=1e-4)
    np.testing.assert_array_equal(query_vectors(embeddings, texts, 0.0), embeddings.astype(np.float32))


def test_blanks_and_case_change_nothing() -> None:
    text = "What is  2 + 2?\nExplain."
    for other in (f" {text} ", text.replace(" ", "   "), f"\n{text}\n\n", text.lower(), text.upper()):
        np.testing.assert_array_equal(shape([other]), shape([text]))
    assert not np.array_equal(shape([text.replace("\n", " ")]), shape([text]))
