"""Requests to simulated LLMs: what they ask for, checked against what the LLM can do."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from symbiosis.gateway.simulation.answers import count_tokens
from symbiosis.gateway.simulation.llms import SimulatedLlm

TOKENS_PER_IMAGE = 85
"""What an image counts in a prompt, as OpenAI bills one of low detail."""


class Refusal(Exception):  # noqa: N818  # it is an answer, not a fault of this program
    """A request that is refused, as an upstream would: status, code, parameter and message."""

    def __init__(self, status: int, code: str, param: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


@dataclass(frozen=True)
class Asked:
    """A request, checked against what the LLM can do.

    Attributes
    ----------
    messages
        As they were sent.
    text
        Of the last user message, what the routing table knows queries by.
    stream, include_usage
        Whether the answer is a stream, and whether that tells the usage at its end.
    limit
        Tokens that the response may have; None: any number.
    tool
        Name and parameters of the function to call instead of answering.
    schema
        Of the JSON to answer with; None: plain text.
    """

    messages: Sequence[Mapping[str, Any]]
    text: str
    stream: bool
    include_usage: bool
    limit: int | None
    tool: tuple[str, Any] | None
    schema: Any | None

    @property
    def other_tokens(self) -> int:
        """Tokens of the prompt beside `text`."""
        whole = sum(_message_tokens(message) for message in self.messages)
        return max(0, whole - count_tokens(self.text))


def read_request(document: Any, llms: Mapping[str, SimulatedLlm]) -> tuple[SimulatedLlm, Asked]:
    """Check a request and find the LLM that it asks.

    Raises
    ------
    Refusal
        It is no chat completion, or the LLM is unknown or cannot serve it.
    """
    if not isinstance(document, dict):
        raise Refusal(400, "invalid_json", None, "the body must be a JSON object")
    name, messages = document.get("model"), document.get("messages")
    llm = llms.get(name) if isinstance(name, str) else None
    if llm is None:
        raise Refusal(
            404, "model_not_found", "model", f"the model {name!r} does not exist; there are {', '.join(llms)}"
        )
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise Refusal(400, "invalid_messages", "messages", "`messages` must be a list of at least one message")
    tools, form = document.get("tools") or [], document.get("response_format") or {}
    schema = _schema(form)
    needed = (("tools", bool(tools), llm.tools), ("response_format", schema is not None, llm.json_mode))
    for param, wanted, able in (*needed, ("messages", any(map(_images, messages)), llm.vision)):
        if wanted and not able:
            what = "images" if param == "messages" else f"`{param}`"
            raise Refusal(400, "unsupported", param, f"{llm.name} does not support {what}")
    limit = document.get("max_completion_tokens", document.get("max_tokens"))
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise Refusal(400, "invalid_value", "max_tokens", f"`max_tokens` is {limit!r}: give a whole number above 0")
    options = document.get("stream_options") or {}
    text = next((_text(one) for one in reversed(messages) if one.get("role") == "user"), "")
    asked = Asked(
        messages,
        text,
        stream=document.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        limit=limit,
        tool=_tool(tools, document.get("tool_choice"), text, answered=messages[-1].get("role") == "tool"),
        schema=schema,
    )
    tokens = sum(map(_message_tokens, messages)) + (limit or 0)
    if tokens > llm.context:
        raise Refusal(
            400, "context_length_exceeded", "messages", f"{llm.name} takes {llm.context} tokens; these are {tokens}"
        )
    return llm, asked


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))


def _images(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return sum(isinstance(part, dict) and part.get("type") == "image_url" for part in parts)


def _message_tokens(message: Mapping[str, Any]) -> int:
    called = len(json.dumps(message["tool_calls"])) if message.get("tool_calls") else 0
    return count_tokens(_text(message)) + called // 4 + TOKENS_PER_IMAGE * _images(message)


def _schema(form: Any) -> Any | None:
    """Return the schema of the JSON that is asked for; empty: any object; None: no JSON."""
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_schema":
        given = form.get("json_schema")
        return given.get("schema") or {} if isinstance(given, dict) else {}
    return {} if kind == "json_object" else None


def _tool(tools: Any, choice: Any, text: str, *, answered: bool) -> tuple[str, Any] | None:
    """Return the function to call: the one that the request demands, or whose name or a "tool" the prompt names."""
    given = [one["function"] for one in tools if isinstance(one, dict) and isinstance(one.get("function"), dict)]
    functions = {str(one.get("name")): one.get("parameters") for one in given} if isinstance(tools, list) else {}
    if not functions or choice == "none":
        return None
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        if name not in functions:
            raise Refusal(400, "invalid_value", "tool_choice", f"`tool_choice` names {name!r}, which is no tool")
        return name, functions[name]
    if answered:
        return None
    words = text.casefold()
    named = next((name for name in functions if name.casefold() in words), None)
    if named is None and (choice == "required" or "tool" in words):
        named = next(iter(functions))
    return None if named is None else (named, functions[named])
