"""The cache of embeddings: it saves work, changes no byte, and survives damage, kills and company."""

import threading
from pathlib import Path

import numpy as np
import pytest

from symbiosis.text import cache
from symbiosis.text.cache import embed_cached

TEXTS = ["b", "", "long " * 20_000, "a", "b", "猜字谜", "lone \ud800 surrogate"]


class Embed:
    """Counts the texts; a text's vector depends on the text alone."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.seen += texts
        seeds = [int.from_bytes(text.encode("utf-8", "surrogatepass")[-3:], "big") + len(text) for text in texts]
        return np.stack([np.random.default_rng(seed).standard_normal(4, dtype=np.float32) for seed in seeds])


def test_every_text_is_embedded_once(tmp_path: Path) -> None:
    embed = Embed()
    first = embed_cached(TEXTS, "e", embed, tmp_path)
    np.testing.assert_array_equal(first, Embed()(TEXTS))
    assert sorted(embed.seen) == sorted(set(TEXTS))
    again = embed_cached(TEXTS[::-1], "e", embed, tmp_path)
    assert again.tobytes() == first[::-1].tobytes()
    assert len(embed.seen) == len(set(TEXTS))
    more = embed_cached(["new", *TEXTS], "e", embed, tmp_path)
    assert embed.seen[-1] == "new"
    assert len(embed.seen) == len(set(TEXTS)) + 1
    assert more[1:].tobytes() == first.tobytes()


def test_another_encoder_shares_nothing(tmp_path: Path) -> None:
    embed_cached(TEXTS, "e", Embed(), tmp_path)
    other = Embed()
    embed_cached(TEXTS, "f", other, tmp_path)
    assert sorted(other.seen) == sorted(set(TEXTS))


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "renamed"])
def test_a_damaged_file_is_embedded_again(damage: str, tmp_path: Path) -> None:
    first = embed_cached(TEXTS, "e", Embed(), tmp_path)
    (file,) = (tmp_path / "e").iterdir()
    content = file.read_bytes()
    if damage == "renamed":
        file.rename(file.with_stem("0" * 64))
    else:
        file.write_bytes({"cut": content[:-5], "empty": b"", "changed": content[:-1] + b"\0"}[damage])
    embed = Embed()
    assert embed_cached(TEXTS, "e", embed, tmp_path).tobytes() == first.tobytes()
    assert sorted(embed.seen) == sorted(set(TEXTS))
    assert [kept.name for kept in (tmp_path / "e").iterdir()] == [file.name]


def test_a_killed_run_leaves_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TEXTS_PER_FILE", 2)

    class Killed(Embed):
        def __call__(self, texts: list[str]) -> np.ndarray:
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(texts)

    killed, embed = Killed(), Embed()
    with pytest.raises(KeyboardInterrupt):
        embed_cached(TEXTS, "e", killed, tmp_path)
    (tmp_path / "e" / ".half.safetensors.x").mkdir()
    (tmp_path / "e" / ".half.safetensors.x" / "half.safetensors").write_bytes(b"half")
    result = embed_cached(TEXTS, "e", embed, tmp_path)
    assert result.tobytes() == Embed()(TEXTS).tobytes()
    assert sorted(killed.seen + embed.seen) == sorted(set(TEXTS))


def test_runs_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TEXTS_PER_FILE", 3)
    texts = [f"text {n}" for n in range(40)]
    expected, results = Embed()(texts), dict[int, bytes]()

    def work(number: int) -> None:
        own = texts[number:] + texts[:number]
        back = embed_cached(own, "e", Embed(), tmp_path)
        results[number] = np.roll(back, number, axis=0).tobytes()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results.values()) == {expected.tobytes()}
    assert len(results) == 6
    embed = Embed()
    embed_cached(texts, "e", embed, tmp_path)
    assert not embed.seen
