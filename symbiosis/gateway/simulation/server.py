"""The simulated upstreams' HTTP server: chat completions at an LLM's speed, with faults, and of known quality.

Beside OpenAI's endpoints it has three for tests: ``POST /simulate/faults`` with ``{"fault": "status=503", "llm": null,
"times": 3}`` lets the next answers go wrong, ``DELETE /simulate/faults`` ends that, and ``GET /simulate/calls`` tells
what was asked and how each answer ended. The header ``x-simulate-fault`` asks for a fault of the very request; see
`symbiosis.gateway.simulation.faults`. Every answer's header ``x-simulated-quality`` tells how good it is, 0 to 1.
"""

import asyncio
import hashlib
import json
import math
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from symbiosis.core.errors import InputError
from symbiosis.core.hosts import HostGuard
from symbiosis.gateway.simulation.answers import AnswerBook, count_tokens, draw
from symbiosis.gateway.simulation.faults import FAULT_HEADER, Fault, Faults
from symbiosis.gateway.simulation.llms import SimulatedLlm, router_llms, simulated_llms
from symbiosis.gateway.simulation.requests import Asked, Refusal, read_request
from symbiosis.gateway.simulation.writing import SHOWN, Written, error_document, event

QUALITY_HEADER = "x-simulated-quality"
REMEMBERED = 10_000
"""Calls that are told of, and beginnings of conversations that are held in the prompt cache."""
LATENCY_SPREAD = 0.15
"""Of the logarithm of the time that an answer takes, as in the synthetic table."""
PATIENCE_S = 0.001
"""A token that is early by less is not waited for."""
GARBAGE = b"\x00\xff<html>no event\n\ndata: {neither JSON\n\ndata\n\n"


@dataclass
class Call:
    """One request: the LLM, status and quality of its answer, what was sent of it and how it ended.

    `fields` are those of the request's body, its messages aside. `ended` is None in flight, then finished, client gone
    or cut (by a fault). `chunks` counts the events that were sent, or 1 for a whole answer.
    """

    llm: str
    status: int
    stream: bool
    text: str
    headers: dict[str, str]
    fields: dict[str, Any]
    quality: float | None = None
    chunks: int = 0
    ended: str | None = None


class Simulation:
    """All simulated LLMs, with their workers, prompt caches and faults.

    Parameters
    ----------
    llms, book
        Who answers and what.
    speed
        2 is twice as fast as the LLMs are; infinite: no waiting at all.
    faults
        How answers go wrong.
    seed
        Of identities and of the spread of times.
    """

    def __init__(
        self,
        llms: Sequence[SimulatedLlm],
        book: AnswerBook,
        *,
        speed: float = 1.0,
        faults: Faults | None = None,
        seed: int = 0,
    ) -> None:
        if not speed > 0:
            raise InputError(f"--speed {speed} must be a number above 0")
        self.llms = {llm.name: llm for llm in llms}
        self.book = book
        self.speed = speed
        self.faults = faults or Faults()
        self.seed = seed
        self.calls: deque[Call] = deque(maxlen=REMEMBERED)
        self.slots = {llm.name: asyncio.Semaphore(llm.workers) for llm in llms}
        self._cached: OrderedDict[bytes, None] = OrderedDict()
        self._count = 0

    @classmethod
    def open(cls, folder: Path = Path(), *, speed: float = 1.0, failures: float = 0.0, seed: int = 0) -> "Simulation":
        """Return the simulated LLMs of a data folder's router and routing table.

        Parameters
        ----------
        failures
            Share of requests that fail by chance.

        Raises
        ------
        InputError
            The router or the table is damaged, or a number is out of range.
        """
        if not 0 <= failures <= 1:
            raise InputError(f"--failures {failures} must be a share from 0 to 1")
        llms = simulated_llms(router_llms(folder))
        return cls(llms, AnswerBook.open(folder, seed), speed=speed, faults=Faults(failures, seed), seed=seed)

    def app(self) -> Starlette:
        """Return the web application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
                Route("/simulate/faults", self.order_fault, methods=["POST"]),
                Route("/simulate/faults", self.clear_faults, methods=["DELETE"]),
                Route("/simulate/calls", self.tell_calls),
            ],
            middleware=[Middleware(HostGuard)],
        )

    async def models(self, request: Request) -> Response:
        """List the LLMs."""
        return JSONResponse({"object": "list", "data": [_model(name) for name in self.llms]})

    async def model(self, request: Request) -> Response:
        """Describe one LLM."""
        name = request.path_params["name"]
        if name not in self.llms:
            return _refused(Refusal(404, "model_not_found", "model", f"the model {name!r} does not exist"))
        return JSONResponse(_model(name))

    async def order_fault(self, request: Request) -> Response:
        """Let the next answers go wrong."""
        try:
            document = json.loads(await request.body())
            fault = Fault.parse(document["fault"])
        except InputError as error:
            return _refused(Refusal(400, "invalid_fault", "fault", str(error)))
        except (ValueError, KeyError, TypeError):
            return _refused(Refusal(400, "invalid_fault", "fault", 'give {"fault": "...", "llm": null, "times": null}'))
        self.faults.order(fault, document.get("llm"), document.get("times"))
        return JSONResponse({"ordered": asdict(fault)})

    async def clear_faults(self, request: Request) -> Response:
        """End the faults that were ordered."""
        self.faults.clear()
        return JSONResponse({"ordered": None})

    async def tell_calls(self, request: Request) -> Response:
        """Tell what was asked, the latest last."""
        in_flight = sum(call.ended is None for call in self.calls)
        return JSONResponse({"in_flight": in_flight, "calls": [asdict(call) for call in self.calls]})

    async def chat(self, request: Request) -> Response:
        """Answer a chat completion."""
        try:
            document = _document(await request.body())
            llm, asked = read_request(document, self.llms)
            fault = self.faults.next(llm.name, request.headers.getlist(FAULT_HEADER))
        except InputError as error:
            return _refused(Refusal(400, "invalid_fault", None, str(error)))
        except Refusal as refusal:
            return _refused(refusal)
        except ClientDisconnect:  # before the body was there: nobody reads what is answered
            return Response(status_code=499)
        fields = {key: value for key, value in document.items() if key != "messages"}
        call = Call(llm.name, fault.status or 200, asked.stream, asked.text[:SHOWN], dict(request.headers), fields)
        self.calls.append(call)
        if fault.status is not None:
            told = error_document("this fault is simulated", "simulated", status=fault.status)
            headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
            response = JSONResponse(told, fault.status, headers)
            return Reply(self.slots[llm.name], call, fault, dict(response.headers), [bytes(response.body)], 0.0, 0.0)
        return self._answer(llm, asked, fault, call)

    def _answer(self, llm: SimulatedLlm, asked: Asked, fault: Fault, call: Call) -> "Reply":
        answer = self.book.answer(llm.name, asked.text)
        call.quality = answer.quality
        self._count += 1
        identity = hashlib.sha256(f"{self.seed} {self._count} {llm.name} {asked.text}".encode("utf-8", "replace"))
        written = Written.of(
            asked,
            answer,
            cached=self._cached_tokens(llm.name, asked),
            identity=identity.hexdigest()[:24],
            created=int(time.time()),
            model=llm.name,
        )
        spread = math.exp(LATENCY_SPREAD * draw(self.seed, "latency", llm.name, asked.text).standard_normal())
        startup, interval = (s * spread / self.speed for s in (llm.startup_s, 1 / llm.tokens_per_s))
        headers = {QUALITY_HEADER: f"{answer.quality:g}", "x-request-id": written.id}
        if asked.stream:
            chunks = written.events(asked.include_usage and not fault.no_usage)
            headers |= {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        else:
            chunks = [json.dumps(written.completion(not fault.no_usage), ensure_ascii=False).encode("utf-8", "replace")]
            startup += interval * len(written.pieces)
            headers |= {"content-type": "application/json"}
        if fault.garbage:
            chunks = [GARBAGE]
        if not asked.stream:
            headers["content-length"] = str(len(chunks[0]))
        return Reply(self.slots[llm.name], call, fault, headers, chunks, startup, interval)

    def _cached_tokens(self, llm: str, asked: Asked) -> int:
        """Return the tokens of the longest beginning of the conversation that this LLM has seen, and remember it."""
        digest, cached, tokens = hashlib.sha256(llm.encode()), 0, 0
        for message in asked.messages:
            text = json.dumps(message, sort_keys=True)
            digest.update(text.encode())
            tokens += count_tokens(text)
            key = digest.digest()
            if key in self._cached:
                cached = tokens
            self._cached[key] = None
            self._cached.move_to_end(key)
        while len(self._cached) > REMEMBERED:
            self._cached.popitem(last=False)
        return cached


class Reply(Response):
    """An answer that comes at the LLM's speed, when one of its workers is free, and goes wrong as a fault says."""

    def __init__(
        self,
        slot: asyncio.Semaphore,
        call: Call,
        fault: Fault,
        headers: dict[str, str],
        chunks: Sequence[bytes],
        startup_s: float,
        interval_s: float,
    ) -> None:
        self.status_code = call.status
        self.background = None
        self.init_headers(headers)
        self._slot, self._call, self._fault = slot, call, fault
        self._chunks, self._startup_s, self._interval_s = chunks, startup_s, interval_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, until its end or until the client has gone."""
        work = asyncio.create_task(self._send(receive, send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            finished = work.done()
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            if self._call.ended is None:
                self._call.ended = "client gone"
        if finished:
            work.result()

    async def _send(self, receive: Receive, send: Send) -> None:
        fault, call = self._fault, self._call
        async with self._slot:
            await asyncio.sleep(self._startup_s + fault.slow)
            if fault.hang:
                await _for_ever()
            if fault.disconnect:
                await self._cut(receive)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            begun = time.monotonic()
            for number, chunk in enumerate(self._chunks):
                if number == fault.hang_after:
                    await _for_ever()
                if fault.error_after == number and call.stream:
                    document = error_document("this fault is simulated", "simulated", status=500)
                    await _body(send, event(json.dumps(document)))
                    call.ended = "cut"
                    break
                if number == fault.disconnect_after:
                    await self._cut(receive)
                early = begun + number * self._interval_s - time.monotonic()
                if early > PATIENCE_S:
                    await asyncio.sleep(early)
                if not call.stream and (fault.disconnect_after is not None or fault.hang_after is not None):
                    await _body(send, chunk[: len(chunk) // 2])
                    await (_for_ever() if fault.disconnect_after is None else self._cut(receive))
                await _body(send, chunk, fault.drip)
                call.chunks += 1
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            call.ended = call.ended or "finished"

    async def _cut(self, receive: Receive) -> None:
        """Close the connection; what was written to it before still goes out."""
        self._call.ended = "cut"
        # ASGI has no way to break a connection, so uvicorn's own is taken, of which `receive` is a method.
        receive.__self__.transport.close()  # type: ignore[attr-defined]
        await _for_ever()


async def _body(send: Send, chunk: bytes, drip: float | None = None) -> None:
    if drip is None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        return
    for place in range(len(chunk)):
        await send({"type": "http.response.body", "body": chunk[place : place + 1], "more_body": True})
        await asyncio.sleep(drip)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "invalid_json", None, "the body is no valid JSON") from None


def _refused(refusal: Refusal) -> Response:
    document = error_document(str(refusal), refusal.code, refusal.param, status=refusal.status)
    return JSONResponse(document, refusal.status)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "simulated"}
