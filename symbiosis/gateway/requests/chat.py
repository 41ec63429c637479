"""A chat request as a client sends it: what routing needs of it is read, and everything else passes through.

The body is parsed once and never written anew: for an upstream the model's name is put into the bytes that came, and
the wish for usage where the answer is streamed. So unknown fields, long numbers and the order of keys survive.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

from symbiosis.core.errors import InputError
from symbiosis.gateway.requests import json_spans
from symbiosis.gateway.requests.json_spans import Span
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN

_LONGEST_NAME = 300
_MOST_OPENING = 64
_IMAGES = frozenset({"image_url", "input_image", "image"})
_TOOL_ROLES = frozenset({"tool", "function"})
_INCLUDE_USAGE = '"include_usage":true'


class BadRequest(InputError):  # noqa: N818
    """A request that cannot be served as it is, in OpenAI's form.

    Attributes
    ----------
    status
        Of the answer.
    param
        Field of the body at fault.
    code
        OpenAI's word for the fault.
    """

    def __init__(self, message: str, param: str | None = None, code: str | None = None, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def document(self) -> dict[str, object]:
        """Return the body of the answer."""
        error = {"message": str(self), "type": "invalid_request_error", "param": self.param, "code": self.code}
        return {"error": error}


class Needs(NamedTuple):
    """What an LLM must be able to do to serve a request.

    Attributes
    ----------
    tools, vision, json_mode
        Whether it is asked to call tools, see images, answer in JSON.
    tokens
        Of the prompt, estimated, and the answer as far as the client limits it.
    """

    tools: bool = False
    vision: bool = False
    json_mode: bool = False
    tokens: int = 0


@dataclass(frozen=True, eq=False)
class ChatRequest:
    """A request for a chat completion.

    Attributes
    ----------
    raw
        The parsed body, as it came.
    model
        What the client asks for.
    stream
        Whether it wants a stream of events.
    wants_usage
        Whether it asked for usage at the stream's end.
    """

    raw: Mapping[str, Any] = field(repr=False)
    model: str
    stream: bool
    wants_usage: bool
    _text: str = field(repr=False)
    _spans: Mapping[str, Span] = field(repr=False)
    _options: Mapping[str, Span] | None = field(repr=False)
    _opening: tuple[str, ...] = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> "ChatRequest":
        """Read a request's body.

        Raises
        ------
        BadRequest
            It is no JSON object in UTF-8, or a field that the gateway reads is missing or of another kind. Nothing
            else is raised, whatever the bytes are.
        """
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadRequest("the body is not UTF-8: send JSON in UTF-8") from None
        with _refused("the body cannot be read as JSON"):
            spans = json_spans.document(text)
        raw = {key: span.value for key, span in spans.items()}
        model = raw.get("model")
        if not isinstance(model, str) or not model.strip():
            raise BadRequest("`model` must be a text: an LLM's name, `auto`, or `auto:POLICY`", "model")
        if len(model) > _LONGEST_NAME or not model.isprintable():
            raise BadRequest(f"`model` must be a printable text of at most {_LONGEST_NAME} characters", "model")
        stream = _flag(raw, "stream")
        options = raw.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise BadRequest("`stream_options` must be an object", "stream_options")
        _check_messages(raw.get("messages"))
        with _refused("the body cannot be read as JSON"):
            inner = json_spans.members(text, spans["stream_options"].start)[0] if options is not None else None
        for key in ("n", "max_tokens", "max_completion_tokens"):
            _count(raw, key)
        for key in ("tools", "functions"):
            if raw.get(key) is not None and not isinstance(raw[key], list):
                raise BadRequest(f"`{key}` must be a list", key)
        shape = raw.get("response_format")
        if shape is not None and not (isinstance(shape, dict) and isinstance(shape.get("type"), str)):
            raise BadRequest("`response_format` must be an object with a `type`", "response_format")
        wants_usage = options is not None and bool(options.get("include_usage"))
        return cls(raw, model, stream, wants_usage, text, spans, inner, tuple(_opening(text, spans["messages"].start)))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation, oldest message first."""
        messages: list[dict[str, Any]] = self.raw["messages"]
        return messages

    @cached_property
    def text(self) -> str:
        """What is routed: text parts of the last user message, joined by newlines.

        The router was trained on the text of single queries, so neither instructions nor the conversation before are
        part of it. Without a user's message it is the last message that has text, and empty where none has. What no
        text can hold (NUL, lone surrogates) becomes U+FFFD here, not in what the upstream gets.
        """
        users = [message for message in self.messages if message["role"] == "user"]
        for message in reversed(users or self.messages):
            text = "\n".join(_texts(message.get("content")))
            if text or users:
                return _storable(text)
        return ""

    @cached_property
    def prompt_characters(self) -> int:
        """Characters of all messages' text and tool calls, and of the tools' description."""
        characters = sum(_characters(message) for message in self.messages)
        described = (self._spans[key] for key in ("tools", "functions") if self.raw.get(key))
        return characters + sum(span.end - span.start for span in described)

    @property
    def prompt_tokens(self) -> int:
        """Estimated: a quarter of the characters, as in the data that routers are trained on."""
        return math.ceil(self.prompt_characters / CHARACTERS_PER_TOKEN)

    @property
    def maximum_tokens(self) -> int | None:
        """Limit of the response's tokens that the client sets."""
        limits = [_count(self.raw, key) for key in ("max_completion_tokens", "max_tokens")]
        return next((limit for limit in limits if limit is not None), None)

    @property
    def responses(self) -> int:
        """How many answers are asked for."""
        return _count(self.raw, "n") or 1

    @property
    def response_format(self) -> str | None:
        """``json_object``, ``json_schema``, or another type that the client names."""
        shape = self.raw.get("response_format")
        return None if shape is None else shape["type"]

    @cached_property
    def needs(self) -> Needs:
        """What an LLM must be able to do to serve it."""
        parts = [part for message in self.messages for part in _parts(message.get("content"))]
        uses_tools = bool(self.raw.get("tools") or self.raw.get("functions")) or any(
            message["role"] in _TOOL_ROLES or message.get("tool_calls") for message in self.messages
        )
        return Needs(
            tools=uses_tools,
            vision=any(str(part.get("type")) in _IMAGES for part in parts),
            json_mode=self.response_format in ("json_object", "json_schema"),
            tokens=self.prompt_tokens + (self.maximum_tokens or 0),
        )

    @property
    def inside_tool_loop(self) -> bool:
        """Whether it brings a tool's result, which goes to the LLM that called the tool."""
        return self.messages[-1]["role"] in _TOOL_ROLES

    def conversation(self, header: str | None = None, api_key: str | None = None) -> str:
        """Return the hash of the conversation that the request continues, 32 hexadecimal digits.

        Parameters
        ----------
        header
            ``x-symbiosis-conversation``, the client's own name for it. Without it the messages up to and including
            the first of the user tell: they stay the same while a conversation grows.
        api_key
            Name of the client's key: clients do not share conversations.
        """
        digest = sha256(f"{api_key or ''}\0".encode("utf-8", "replace"))
        if header:
            digest.update(b"header\0" + header.encode("utf-8", "replace"))
        else:
            for message in self._opening:
                digest.update(message.encode() + b"\0")
        return digest.hexdigest()[:32]

    def for_upstream(self, model: str, include_usage: bool = True) -> bytes:
        """Return the body for an upstream: the bytes as they came, but for the model's name.

        Parameters
        ----------
        model
            The provider's name.
        include_usage
            Whether a stream shall end with its usage, which ``stream_options.include_usage`` asks for.
        """
        changes = [(self._spans["model"].start, self._spans["model"].end, json.dumps(model))]
        if include_usage and self.stream and not self.wants_usage:
            changes.append(self._usage_wish())
        place, pieces = 0, []
        for start, end, new in sorted(changes):
            pieces += [self._text[place:start], new]
            place = end
        return "".join([*pieces, self._text[place:]]).encode()

    def _usage_wish(self) -> tuple[int, int, str]:
        """Return where in the text to put what, so that the upstream tells usage."""
        options = self._spans.get("stream_options")
        if options is None:
            end = self._spans["model"].end  # behind the model's name, whose own change ends there
            return end, end, f',"stream_options":{{{_INCLUDE_USAGE}}}'
        if self._options is None:
            return options.start, options.end, f"{{{_INCLUDE_USAGE}}}"
        told = self._options.get("include_usage")
        if told is not None:
            return told.start, told.end, "true"
        behind = options.start + 1
        return behind, behind, _INCLUDE_USAGE + ("," if self._options else "")


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """Turn a ValueError into a refusal; Python has one for numbers of thousands of digits, too."""
    try:
        yield
    except ValueError as error:
        raise BadRequest(f"{what}: {error}") from None


def _opening(text: str, start: int) -> Iterator[str]:
    """Yield the first messages, as they were written, up to and including the first of the user."""
    for span in islice(json_spans.elements(text, start), _MOST_OPENING):
        yield text[span.start : span.end]
        if span.value["role"] == "user":
            return


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list of at least one message", "messages")
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"`{place}` must be an object with a `role`", place)
        content = message.get("content")
        if content is None or isinstance(content, str):
            continue
        if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
            raise BadRequest(f"`{place}.content` must be a text, a list of parts, or null", f"{place}.content")
        if any(part.get("type") == "text" and not isinstance(part.get("text"), str) for part in content):
            raise BadRequest(f"`{place}.content`: a part of type text must have a `text`", f"{place}.content")


def _flag(raw: Mapping[str, Any], key: str) -> bool:
    value = raw.get(key)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"`{key}` must be true or false", key)
    return bool(value)


def _count(raw: Mapping[str, Any], key: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 2**31 or value % 1:
        raise BadRequest(f"`{key}` must be a whole number from 1", key)
    return int(value)


def _parts(content: object) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else []


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in _parts(content):
        if part.get("type") == "text":
            yield part["text"]


def _characters(message: Mapping[str, Any]) -> int:
    count = sum(map(len, _texts(message.get("content"))))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        called = call.get("function") if isinstance(call, dict) else None
        if isinstance(called, dict):
            count += sum(len(value) for value in called.values() if isinstance(value, str))
    return count


def _storable(text: str) -> str:
    clean = text.replace("\0", "\ufffd")
    return clean if clean.isascii() else clean.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
