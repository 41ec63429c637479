"""Other forms of a question."""

from symbiosis.routing.queries.perturbations import INVISIBLE, PERTURBATIONS

TEXT = "What is the integral of x squared? Explain every step of it."


def test_every_form_changes_the_text_and_is_the_same_each_time() -> None:
    made = {name: change(TEXT) for name, change in PERTURBATIONS.items()}
    assert len({TEXT, *made.values()}) == len(made) + 1
    assert made == {name: change(TEXT) for name, change in PERTURBATIONS.items()}


def test_blanks_and_case_alone_are_invisible() -> None:
    for name in INVISIBLE:
        assert PERTURBATIONS[name](TEXT).lower().split() == TEXT.lower().split()


def test_forms_by_hand() -> None:
    assert PERTURBATIONS["end_mark"]("Go home.") == "Go home"
    assert PERTURBATIONS["end_mark"]("Go home ") == "Go home."
    assert PERTURBATIONS["other_words"]("What is large?") == "what's big?"
    assert PERTURBATIONS["other_words"]("2 + 2") == "Could you help me with this? 2 + 2"
    assert PERTURBATIONS["double_spaces"]("a b") == "a  b"


def test_a_typing_error_swaps_two_letters_of_a_long_word() -> None:
    changed = PERTURBATIONS["typing_error"](TEXT)
    assert sorted(changed) == sorted(TEXT)
    assert sum(a != b for a, b in zip(changed, TEXT, strict=True)) in (0, 2)
    assert PERTURBATIONS["typing_error"]("a b 12") == "a b 12"


def test_odd_texts_are_no_error() -> None:
    for text in ("", " ", "\ud800", "x" * 10_000, "?"):
        for change in PERTURBATIONS.values():
            assert isinstance(change(text), str)
