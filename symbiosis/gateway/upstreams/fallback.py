"""Asks one LLM after the other until one answers."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from symbiosis.gateway.upstreams.answers import UpstreamAnswer
from symbiosis.gateway.upstreams.calls import Call
from symbiosis.gateway.upstreams.client import Upstreams
from symbiosis.gateway.upstreams.failures import UpstreamError, error_document
from symbiosis.gateway.upstreams.headers import ClientHeaders
from symbiosis.gateway.upstreams.opening import Request


@dataclass
class Served:
    """What the client gets, and what was tried for it.

    Parameters
    ----------
    answer
        Of an LLM, or an error in OpenAI's form.
    llm
        Whose answer it is; None if none answered: then the answer is the last upstream's error or the gateway's own.
    failed
        The calls that failed before, in order.
    skipped
        LLMs that were not asked, and why.
    """

    answer: UpstreamAnswer
    llm: str | None = None
    failed: list[Call] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


async def ask(
    upstreams: Upstreams,
    candidates: Iterable[str],
    request: Request,
    headers: ClientHeaders = (),
    *,
    expected_tokens: Mapping[str, float] | None = None,
    on_call: Callable[[Call], None] | None = None,
) -> Served:
    """Ask LLMs in order until one answers, at most `limits.attempts` of them.

    The next is asked after a status of 408, 429 or 5xx, a refusal of the gateway's own key (401, 402), a timeout, a
    connection that fails or breaks, and an answer with nothing in it, as long as nothing was sent to the client. LLMs
    whose circuit is open or that are drained are passed over. Any other 4xx is the client's and is an answer. If all
    fail, the client gets the last upstream's error as it is, or else 504 (too late), 502 (broken), 503 or 429
    with `retry-after` (no circuit was closed).

    Parameters
    ----------
    upstreams
        Those that can be asked.
    candidates
        Names, the best first; read only as far as they are needed.
    request, headers
        The client's.
    expected_tokens
        Length of each LLM's answer that the router expects, for what is observed.
    on_call
        Is given each call once it is over: those that failed, the one that answers, and one that the client left.
    """
    served = Served(UpstreamAnswer(503, []))
    last: UpstreamError | None = None
    for name in candidates:
        if len(served.failed) == upstreams.attempts:
            break
        arm = upstreams.arms.get(name)
        if arm is None or arm.drained:
            served.skipped[name] = "drained" if arm else "unknown"
            continue
        if not arm.breaker.admit():
            served.skipped[name] = f"circuit {arm.breaker.state}"
            continue
        expected = expected_tokens.get(name) if expected_tokens else None
        try:
            served.answer = await upstreams.open(
                name, request, headers, attempt=len(served.failed) + 1, expected_tokens=expected, on_call=on_call
            )
        except UpstreamError as error:
            last = error
            if error.call is not None:
                served.failed.append(error.call)
        else:
            served.llm = name
            return served
    served.answer = _nobody(upstreams, served) if last is None else _failed(last, served)
    return served


def _failed(last: UpstreamError, served: Served) -> UpstreamAnswer:
    if last.kind == "status" and last.status is not None and last.body:
        return UpstreamAnswer(last.status, last.headers, content=last.body)
    tried = "; ".join(f"{call.llm}: {call.error}" for call in served.failed)
    status = {"status": last.status or 502, "timeout": 504}.get(last.kind, 502)
    return _error(status, f"no LLM answered ({tried})", "upstream_failed", last.retry_after_s)


def _nobody(upstreams: Upstreams, served: Served) -> UpstreamAnswer:
    closed = [upstreams.arms[name] for name, why in served.skipped.items() if why.startswith("circuit")]
    if not closed:
        return _error(503, "there is no LLM that can be asked", "no_llm")
    busy = all(arm.last_status == 429 for arm in closed)
    pause = min(arm.breaker.remaining_s for arm in closed)
    message = f"every LLM that could answer failed lately and is left alone: {', '.join(served.skipped)}"
    return _error(429 if busy else 503, message, "rate_limit_exceeded" if busy else "circuit_open", pause)


def _error(status: int, message: str, code: str, pause_s: float | None = None) -> UpstreamAnswer:
    headers = [("content-type", "application/json")]
    if pause_s is not None:
        headers.append(("retry-after", str(max(math.ceil(pause_s), 1))))
    kind = "rate_limit_error" if status == 429 else "upstream_error"
    return UpstreamAnswer(status, headers, content=error_document(message, kind, code))
