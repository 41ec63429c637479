"""Reads usage and text from the bytes of an answer while they pass, streamed or not."""

import json
import re
from typing import Any

from pydantic_core import from_json

from symbiosis.gateway.upstreams.usage import Usage, reported

LONGEST_EVENT = 1 << 20
"""Bytes of an unfinished event that are held; beyond, they pass as they are and count as garbage."""
LONGEST_TEXT = 1 << 18
"""Characters of an answer's text that are kept for checks."""
TAIL = 1 << 12
"""Last bytes of an answer too long to be held, in which its usage is looked for."""
# Atomic groups: a "\r\n" must never be read as two line ends.
EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
LINE_END = re.compile(rb"\r\n|\n|\r")


class EventSplitter:
    """Cuts a stream of bytes into whole events; what it gives out adds up to what it was given."""

    def __init__(self) -> None:
        self.rest = b""
        """Bytes of the event that is not finished yet."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the events that are whole now, each with its empty line."""
        if not self.rest and 0 < chunk.find(b"\n\n") == len(chunk) - 2 and b"\r" not in chunk:
            return [chunk]  # nearly always: one whole event
        searched = max(len(self.rest) - 3, 0)
        data = self.rest + chunk if self.rest else chunk
        events, start = [], 0
        while match := EVENT_END.search(data, max(start, searched)):
            events.append(data[start : match.end()])
            start = match.end()
        self.rest = data[start:] if start else data
        if len(self.rest) > LONGEST_EVENT:
            events.append(self.rest)
            self.rest = b""
        return events


def event_data(event: bytes) -> bytes | None:
    """Return the data of an event, None where it has none: a comment, or no event at all."""
    if event.startswith(b"data:") and event.count(b"\n") == 2 and event.endswith(b"\n\n"):  # nearly all are such
        return event[5:-2].strip()
    lines = [line[5:].removeprefix(b" ") for line in LINE_END.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def _document(data: bytes) -> Any:
    """Read JSON, None where it is none."""
    try:
        return from_json(data)  # less than half the time of json.loads
    except ValueError:
        pass
    try:
        return json.loads(data)  # knows lone surrogates, into which some upstreams cut an emoji
    except (ValueError, RecursionError):
        return None


class AnswerReader:
    """What is known of an answer from the documents that were seen: chunks of a stream, or one completion."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.characters = 0
        """Of all that the LLM wrote: text, reasoning, calls of tools."""
        self.chunks = 0
        """Documents with `choices`."""
        self.ended = False
        """Whether a `finish_reason` or `[DONE]` was seen."""
        self.done = False
        """Whether `[DONE]` was seen."""
        self.error: str | None = None
        """Message of an error that came in place of an answer."""
        self.error_code: Any = None
        self.garbage = 0
        """Events that could not be read."""
        self._text: list[str] = []
        self._text_length = 0

    @property
    def text(self) -> str:
        """The first choice's text, up to `LONGEST_TEXT` characters; an emoji that came in two halves is whole again."""
        text = "".join(self._text)
        return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    @property
    def text_whole(self) -> bool:
        """Whether `text` is all of it."""
        return self._text_length <= LONGEST_TEXT

    def see_event(self, event: bytes) -> bool:
        """Read one event of a stream and say whether it holds usage and nothing else."""
        data = event_data(event)
        if data is None:
            if not all(line.startswith((b":", b"event:", b"id:", b"retry:")) for line in LINE_END.split(event) if line):
                self.garbage += 1
            return False
        if data == b"[DONE]":
            self.ended = self.done = True
            return False
        return self.see(data)

    def see(self, data: bytes) -> bool:
        """Read one document and say whether it holds usage and nothing else."""
        document = _document(data)
        if not isinstance(document, dict):
            self.garbage += 1
            return False
        usage = reported(document.get("usage"))
        self.usage = usage or self.usage
        if document.get("error"):
            error = document["error"]
            self.error = str(error.get("message", error) if isinstance(error, dict) else error)[:500]
            self.error_code = error.get("code") if isinstance(error, dict) else None
        choices = document.get("choices")
        if not isinstance(choices, list):
            return False
        self.chunks += 1
        for choice in choices:
            if isinstance(choice, dict):
                self._see_choice(choice)
        return not choices and usage is not None

    def _see_choice(self, choice: dict[str, Any]) -> None:
        self.ended = self.ended or choice.get("finish_reason") is not None
        message = choice.get("delta") or choice.get("message")
        if not isinstance(message, dict):
            return
        content = message.get("content")
        if isinstance(content, str) and content:
            self.characters += len(content)
            if choice.get("index", 0) == 0:
                kept = content[: max(LONGEST_TEXT - self._text_length, 0)]
                self._text_length += len(content)
                if kept:
                    self._text.append(kept)
        if len(message) == (content is not None):
            return  # most events bring a piece of text and nothing else
        for name in ("reasoning_content", "reasoning", "refusal"):
            if isinstance(message.get(name), str):
                self.characters += len(message[name])
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                parts = (function.get("name"), function.get("arguments"))
                self.characters += sum(len(part) for part in parts if isinstance(part, str))

    def see_tail(self, tail: bytes, length: int) -> None:
        """Look for usage in the last bytes of an answer of so many bytes that was too long to be read whole."""
        self.characters, self._text_length = length, LONGEST_TEXT + 1
        text = tail.decode("utf-8", "replace")
        for match in re.finditer(r'"usage"\s*:\s*(?=\{)', text):
            try:
                value, _ = json.JSONDecoder().raw_decode(text, match.end())
            except (ValueError, RecursionError):
                continue
            self.usage = reported(value) or self.usage
