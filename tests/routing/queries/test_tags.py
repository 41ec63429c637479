"""Tags from every source, their grouping into domains, and the language model that writes them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symbiosis.core.errors import InputError
from symbiosis.routing.queries.llm_tagger import LlmTagger, parse
from symbiosis.routing.queries.tags import Clusters, KeyPhrases, Metadata, TaggedQueries, group_tags

AXES = np.eye(4)
COOKING = [f"Please bake sourdough bread with {n} grams of flour" for n in ("ten", "six", "two")]
LAW = [f"Is this contract void after {n} years of silence" for n in ("ten", "six", "two")]


def queries(texts: list[str], embeddings: np.ndarray | None = None) -> TaggedQueries:
    vectors = AXES[np.arange(len(texts)) % 4] if embeddings is None else embeddings
    return TaggedQueries(texts, ["law"] * len(texts), ["contracts"] + [None] * (len(texts) - 1), vectors)


def flat(tags: list[list[str]]) -> set[str]:
    return {tag for own in tags for tag in own}


def test_metadata() -> None:
    assert Metadata()(queries(["a", "b"])) == [["law / contracts"], ["law"]]


def test_clusters() -> None:
    tags = Clusters(2, seed=0)(queries(["a"] * 4, AXES[[0, 1, 0, 1]]))
    assert tags[0] == tags[2] != tags[1] == tags[3]


def test_key_phrases() -> None:
    tags = KeyPhrases(minimum=3, phrases=2)(queries([*COOKING, *LAW, ""]))
    assert all(len(own) == 2 for own in tags[:6])
    assert tags[6] == []
    cooking, law = flat(tags[:3]), flat(tags[3:6])
    assert not cooking & law
    assert cooking <= {"bake", "sourdough", "bread", "grams", "flour", "bake sourdough",
                                      "sourdough bread", "bread grams", "grams flour"}  # fmt: skip


def test_key_phrases_read_the_end_of_a_text() -> None:
    long = ["preamble words " * 20_000 + text for text in COOKING]
    assert {"sourdough", "flour"} <= flat(KeyPhrases(3, 20)(queries([""] * 9 + long)))


def test_no_common_phrase_is_refused() -> None:
    with pytest.raises(InputError, match="`train_encoder.tags.minimum` is 5, and no phrase"):
        KeyPhrases(5, 3)(queries(["", "", "", "", ""]))


def test_tags_that_few_queries_have_do_not_count() -> None:
    tags = [["a", "rare"], ["a"], ["b"], ["b"], ["only"]]
    vectors = np.array([AXES[0], AXES[0], AXES[1], AXES[1], AXES[1]])
    labels, names = group_tags(tags, vectors, domains=20, minimum=2, seed=0)
    assert labels.tolist() == [0, 0, 1, 1, 1]  # the last one has no tag that counts, and lies with b
    assert names == ["a", "b"]


def test_most_tags_decide() -> None:
    """One vote outweighs any likeness."""
    tags = [["a"], ["a"], ["b"], ["b"], ["a"]]
    vectors = np.array([AXES[0], AXES[0], AXES[1], AXES[1], AXES[1]])
    assert group_tags(tags, vectors, 20, 1, 0)[0].tolist() == [0, 0, 1, 1, 0]


def test_alike_tags_make_one_domain() -> None:
    tags = [["a"], ["a"], ["b"], ["b"], ["c"], ["c"], ["c"]]
    vectors = AXES[[0, 0, 1, 1, 2, 2, 2]] + 0.0
    vectors[2:4] = (0.9, np.sqrt(1 - 0.81), 0, 0)
    labels, names = group_tags(tags, vectors, domains=2, minimum=1, seed=0)
    assert len(set(labels[:4].tolist())) == 1
    assert len(set(labels[4:].tolist())) == 1
    assert labels[0] != labels[4]
    assert sorted(names) == ["a; b", "c"]


@pytest.mark.parametrize("tags", [[[], [], []], [["a"], ["a"], ["a"]], [["a"], ["b"], ["c"]]])
def test_fewer_than_two_domains_are_refused(tags: list[list[str]]) -> None:
    with pytest.raises(InputError, match="it needs two; lower `minimum`"):
        group_tags(tags, AXES[:3], 20, 2, 0)


# ------------------------------------------------------------------ the language model


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ('["Contract  Law", "multiple choice", "contract law"]', ["contract law", "multiple choice"]),
        ('Sure:\n```json\n[{"tag": "Algebra", "explanation": "it asks [sic]"}]\n```', ["algebra"]),
        ("[]", []),
        (json.dumps([str(n) for n in range(9)]), ["0", "1", "2", "3", "4"]),
    ],
)
def test_answers_are_read(answer: str, tags: list[str]) -> None:
    assert parse(answer) == tags


@pytest.mark.parametrize("answer", ["", "no idea", "[1, 2]", '["cut', "] [", '[{"name": "x"}]', None, ["law"], 7])
def test_other_answers_are_no_tags(answer: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(answer)


class Endpoint:
    """A loopback server that gives prepared (status, body) first and tags ever after."""

    def __init__(self) -> None:
        self.prepared: list[tuple[int, str]] = []
        self.requests: list[tuple[str, str | None, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, self.headers["Authorization"], body))
                content = json.dumps({"choices": [{"message": {"content": '["Law", "contracts"]'}}]})
                status, content = outer.prepared.pop(0) if outer.prepared else (200, content)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TEST_KEY", "secret")
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def tagger(url: str, folder: Path, **changes: Any) -> LlmTagger:
    settings: dict[str, Any] = {"key_variable": "TEST_KEY", "attempts": 3, "pause_s": 0.001, "folder": folder}
    return LlmTagger(url, **({"model": "small"} | settings | changes))


def test_a_model_tags_each_query_once(endpoint: Endpoint, tmp_path: Path) -> None:
    asked = queries(["void contract?", "{braces} stay", "void contract?"])
    assert tagger(endpoint.url, tmp_path)(asked) == [["law", "contracts"]] * 3
    assert len(endpoint.requests) == 2
    for path, key, body in endpoint.requests:
        assert (path, key, body["model"], body["temperature"]) == ("/v1/chat/completions", "Bearer secret", "small", 0)
    assert "{braces} stay" in endpoint.requests[1][2]["messages"][0]["content"]
    assert tagger(endpoint.url, tmp_path)(asked) == [["law", "contracts"]] * 3
    assert len(endpoint.requests) == 2
    tagger(endpoint.url, tmp_path, model="large")(asked)
    assert len(endpoint.requests) == 4
    assert not any("secret" in file.read_text() for file in tmp_path.rglob("*.json"))


def test_known_answers_need_neither_key_nor_server(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagger(endpoint.url, tmp_path)(queries(["x"]))
    monkeypatch.delenv("TEST_KEY")
    assert tagger("http://127.0.0.1:9/v1", tmp_path)(queries(["x"])) == [["law", "contracts"]]


def test_a_long_prompt_is_cut_at_its_head(endpoint: Endpoint, tmp_path: Path) -> None:
    tagger(endpoint.url, tmp_path)(queries(["law " * 25_000 + "the question", ""]))
    content = endpoint.requests[0][2]["messages"][0]["content"]
    assert "the question" in content
    assert len(content) < 6000


@pytest.mark.parametrize("fault", [(503, ""), (429, "{}"), (200, "no JSON"), (200, '{"choices": []}')])
def test_faults_that_pass_are_tried_again(endpoint: Endpoint, tmp_path: Path, fault: tuple[int, str]) -> None:
    endpoint.prepared = [fault, fault]
    assert tagger(endpoint.url, tmp_path)(queries(["x"])) == [["law", "contracts"]]
    assert len(endpoint.requests) == 3


def test_faults_that_stay_are_told_and_nothing_is_lost(endpoint: Endpoint, tmp_path: Path) -> None:
    tagger(endpoint.url, tmp_path)(queries(["first"]))
    endpoint.prepared = [(500, "")] * 3
    with pytest.raises(InputError, match=r"gave no tags in 3 attempts \(last: status 500\).* are kept"):
        tagger(endpoint.url, tmp_path)(queries(["first", "second"]))
    tagger(endpoint.url, tmp_path)(queries(["first", "second"]))
    assert len(endpoint.requests) == 5


def test_a_refusal_is_told_at_once(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.prepared = [(401, "secret")]
    with pytest.raises(InputError, match="refuses with status 401: check .* the API key in TEST_KEY") as error:
        tagger(endpoint.url, tmp_path)(queries(["x"]))
    assert "secret" not in str(error.value)
    assert len(endpoint.requests) == 1


def test_no_server_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(InputError, match=r"in 2 attempts \(last: ConnectionError: is the server running\?\)"):
        tagger("http://127.0.0.1:9/v1", tmp_path, key_variable=None, attempts=2)(queries(["x"]))


def test_a_missing_key_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(InputError, match="environment variable TEST_KEY is not set"):
        tagger("http://127.0.0.1:9/v1", tmp_path)(queries(["x"]))


def test_a_damaged_answer_is_asked_for_again(endpoint: Endpoint, tmp_path: Path) -> None:
    tagger(endpoint.url, tmp_path)(queries(["x"]))
    (file,) = tmp_path.rglob("*.json")
    for content in ('{"tags": ["la', "[]", '{"tags": [1]}'):
        file.write_text(content)
        assert tagger(endpoint.url, tmp_path)(queries(["x"])) == [["law", "contracts"]]
    assert len(endpoint.requests) == 4
