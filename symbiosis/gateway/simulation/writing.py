"""Answers of simulated LLMs in OpenAI's form, whole or as server-sent events."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from symbiosis.gateway.simulation.answers import SimulatedAnswer, count_tokens
from symbiosis.gateway.simulation.requests import Asked

FILLER = ["These", "words", "stand", "for", "the", "rest", "of", "the", "answer,", "which", "nobody", "has", "written."]
SHOWN = 120
"""Characters of a prompt that its answer repeats."""
DEEPEST = 8
"""Levels of a JSON schema that are filled."""
ARGUMENT_PIECES = 8
"""Of the arguments of a function, in a stream."""


def error_document(message: str, code: str | None, param: str | None = None, *, status: int = 400) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class Written:
    """An answer in pieces, one a token.

    Attributes
    ----------
    pieces
        Of the content, or of the arguments of the function to call.
    prompt_tokens, cached_tokens
        Of the prompt, and those of them that the LLM had in its cache.
    finish_reason
        stop, length or tool_calls.
    tool
        Function that is called; None: the pieces are content.
    """

    pieces: Sequence[str]
    prompt_tokens: int
    cached_tokens: int
    finish_reason: str
    tool: str | None
    id: str
    created: int
    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, asked: Asked, answer: SimulatedAnswer, *, cached: int, identity: str, created: int, model: str
    ) -> "Written":
        """Write the answer to a request."""
        tool = None
        if asked.tool is not None:
            tool, parameters = asked.tool
            pieces, reason = _split(json.dumps(example(parameters, asked.text)), ARGUMENT_PIECES), "tool_calls"
        elif asked.schema is not None:
            document = example(asked.schema, asked.text) if asked.schema else _verdict(answer, asked.text)
            text = json.dumps(document, ensure_ascii=False)
            pieces, reason = _split(text, count_tokens(text)), "stop"
        else:
            pieces, reason = _pieces(_opening(answer, asked.text), answer.response_tokens), "stop"
        if asked.limit is not None and len(pieces) > asked.limit:
            pieces, reason = pieces[: asked.limit], "length"
        prompt = max(1, answer.prompt_tokens) + asked.other_tokens
        return cls(pieces, prompt, min(cached, prompt), reason, tool, f"chatcmpl-{identity}", created, model)

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens in OpenAI's form."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.pieces),
            "total_tokens": self.prompt_tokens + len(self.pieces),
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def completion(self, usage: bool = True) -> dict[str, Any]:
        """Return the whole answer as one document."""
        whole = "".join(self.pieces)
        message: dict[str, Any] = {"role": "assistant", "content": whole if self.tool is None else None}
        if self.tool is not None:
            message["tool_calls"] = [self._call(whole)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            **({"usage": self.usage} if usage else {}),
        }

    def events(self, usage: bool) -> list[bytes]:
        """Return the answer as server-sent events, the last one ``[DONE]``."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if self.tool is None:
            deltas += [{"content": piece} for piece in self.pieces]
        else:
            deltas = [{"role": "assistant", "content": None, "tool_calls": [{"index": 0, **self._call("")}]}]
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in self.pieces]
        ends: list[str | None] = [None] * len(deltas) + [self.finish_reason]
        head = self._head("chat.completion.chunk")
        documents: list[dict[str, Any]] = [
            {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}]}
            for delta, end in zip([*deltas, {}], ends, strict=True)
        ]
        if usage:
            documents = [{**document, "usage": None} for document in documents]
            documents.append({**head, "choices": [], "usage": self.usage})
        return [event(json.dumps(document, ensure_ascii=False)) for document in documents] + [event("[DONE]")]

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model} | dict(self.extra)

    def _call(self, arguments: str) -> dict[str, Any]:
        identity = f"call_{self.id.removeprefix('chatcmpl-')}"
        return {"id": identity, "type": "function", "function": {"name": self.tool, "arguments": arguments}}


def event(data: str) -> bytes:
    """Return one server-sent event."""
    return f"data: {data}\n\n".encode("utf-8", "replace")


def example(schema: Any, text: str, depth: int = 0) -> Any:
    """Return a value that a JSON schema allows, for the schemas that applications write.

    Objects have all their properties, lists as many items as they must, strings the text as far as they may.
    References and patterns are not followed.
    """
    if not isinstance(schema, dict) or depth > DEEPEST:
        return text[:SHOWN]
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(schema[key][0], text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    if kind == "object":
        return {name: example(of, text, depth + 1) for name, of in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [example(schema.get("items"), text, depth + 1)] * max(1, int(schema.get("minItems", 1)))
    if kind in ("integer", "number"):
        number = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
        return int(number) if kind == "integer" else number
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return text[:SHOWN].ljust(int(schema.get("minLength", 0)), ".")[: schema.get("maxLength")]


def _opening(answer: SimulatedAnswer, text: str) -> str:
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    told = "" if answer.quality in (0.0, 1.0) else f" (quality {answer.quality:.2f})"
    return f"{'A right' if answer.quality >= 0.5 else 'A wrong'} answer{told} to: {' '.join(shown.split())}"


def _verdict(answer: SimulatedAnswer, text: str) -> dict[str, Any]:
    return {"answer": _opening(answer, text), "right": answer.quality >= 0.5, "quality": answer.quality}


def _pieces(opening: str, tokens: int) -> list[str]:
    """Return a text of so many pieces: the opening, then words that fill it up, or the opening alone in fewer."""
    words = opening.split()
    if len(words) > tokens:
        return _split(opening, tokens)
    words += [FILLER[place % len(FILLER)] for place in range(tokens - len(words))]
    return [words[0], *(f" {word}" for word in words[1:])]


def _split(text: str, pieces: int) -> list[str]:
    """Cut a text into at most so many pieces of about one length."""
    length = max(1, -(-len(text) // max(1, pieces)))
    return [text[start : start + length] for start in range(0, len(text), length)]
