"""Asks an OpenAI-compatible server as fast as it answers, in a process of its own, and tells how long answers took.

`python -m bench.gateway_load` reads jobs, one JSON object a line (`Job`), and writes one result a line (`Times`). Its
client writes ready bytes to open connections and looks for the end of an answer alone: a request costs it a twentieth
of what it costs a server, so that it is not what is measured.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

WORDS = 36
POOL = 32
"""Different texts among those that were seen before."""


@dataclass(frozen=True)
class Job:
    """What to ask.

    Attributes
    ----------
    url
        Of chat completions.
    models
        Names, asked for in turn.
    stream, seen
        Whether answers are streamed; whether the texts are always the same `POOL`.
    requests, concurrency
        How many, and how many at once.
    seed
        Of texts that were not seen before.
    words
        Of a text.
    """

    url: str
    models: list[str]
    stream: bool = False
    seen: bool = True
    requests: int = 100
    concurrency: int = 1
    seed: int = 0
    words: int = WORDS


@dataclass(frozen=True)
class Times:
    """How it went.

    Attributes
    ----------
    p50_ms, p99_ms
        From sending to the end of the answer.
    first_p50_ms
        From sending to the first byte of the answer's body.
    per_s
        Answers a second.
    failed
        Answers of another status than 200, and those without `choices`.
    client_ms
        CPU of this client per request.
    """

    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    per_s: float
    failed: int
    client_ms: float


def vocabulary() -> list[str]:
    """Return English words, from the project's own documents."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"\b[a-z]{3,10}\b", text)))


def texts(job: Job) -> Iterator[str]:
    """Give the texts that a job asks."""
    words = np.array(vocabulary())
    rng = np.random.default_rng(1 if job.seen else [2, job.seed])
    pool = [" ".join(rng.choice(words, job.words)) for _ in range(POOL if job.seen else 0)]
    for number in range(job.requests):
        yield pool[number % POOL] if job.seen else " ".join(rng.choice(words, job.words))


def requests_of(job: Job) -> list[bytes]:
    """Return a job's requests as they go over the wire."""
    url = urlsplit(job.url)
    made = []
    for number, text in enumerate(texts(job)):
        document = {
            "model": job.models[number % len(job.models)],
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 32,
            "stream": job.stream,
        }
        body = json.dumps(document).encode()
        head = (
            f"POST {url.path} HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class Connection:
    """One connection, kept open."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[float, bool]:
        """Send a request and read its answer; return seconds to the first byte of its body, and whether it is one."""
        began = time.perf_counter()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        if length:
            body = await self._reader.readexactly(int(length[1]))
            first = time.perf_counter() - began
        else:
            body = await self._reader.read(1 << 16)
            first = time.perf_counter() - began
            while not body.endswith(b"0\r\n\r\n"):
                more = await self._reader.read(1 << 16)
                if not more:
                    self.close()
                    return first, False
                body += more
        if b"connection: close" in head:
            self.close()
        return first, b" 200 " in head[:16] and b'"choices"' in body

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def asked(job: Job) -> Times:
    """Ask everything and return how it went."""
    url, waiting = urlsplit(job.url), iter(requests_of(job))
    assert url.hostname is not None
    whole: list[float] = []
    first: list[float] = []
    failed = 0

    async def work(connection: Connection) -> None:
        nonlocal failed
        for request in waiting:
            began = time.perf_counter()
            begun, right = await connection.ask(request)
            whole.append(time.perf_counter() - began)
            first.append(begun)
            failed += not right
        connection.close()

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(Connection(url.hostname, url.port or 80)) for _ in range(job.concurrency)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    p50, p99 = np.percentile(whole, [50, 99]) * 1e3
    first_p50 = float(np.median(first) * 1e3)
    return Times(float(p50), float(p99), first_p50, len(whole) / seconds, failed, 1e3 * cpu / len(whole))


def main() -> None:
    """Do the jobs of standard input."""
    for line in sys.stdin:
        print(json.dumps(asdict(asyncio.run(asked(Job(**json.loads(line)))))), flush=True)


if __name__ == "__main__":
    main()
