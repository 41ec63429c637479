"""Serves the console: its pages and static files, from memory.

A page holds no data. Its scripts ask the gateway's API, with the key that the visitor gives, and insert what they get
as text. The Content-Security-Policy lets a page load nothing from elsewhere, run no inline script, and turn no string
into HTML or code.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

STATIC = Path(__file__).parent / "static"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Content-Security-Policy of all that is served here."""

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_UNCHANGING = "public, max-age=31536000, immutable"


class Page(NamedTuple):
    """A page of the console.

    Attributes
    ----------
    path
        One level below the root: its links are relative, so that a proxy may put the gateway under a path of its own.
    title
        In the navigation.
    template
        File in ``templates/``.
    """

    path: str
    title: str
    template: str


PAGES = (Page("/", "Gateway", "gateway.html"), Page("/recommender", "Recommender", "recommender.html"))
"""In the order of the navigation."""


class Served(NamedTuple):
    """A file as it is sent: its bytes, media type and entity tag."""

    body: bytes
    kind: str
    tag: str

    @classmethod
    def of(cls, body: bytes, kind: str) -> "Served":
        """Tag bytes with their digest."""
        return cls(body, f"{kind}; charset=utf-8", f'"{hashlib.sha256(body).hexdigest()[:20]}"')

    def response(self, request: Request, caching: str) -> Response:
        """Answer a request; 304 without a body where the client has these bytes already."""
        headers = {**_HEADERS, "cache-control": caching, "etag": self.tag}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.kind)


def static_files() -> dict[str, Served]:
    """Return what pages load, by path below ``static/``."""
    return {
        path.relative_to(STATIC).as_posix(): Served.of(path.read_bytes(), _KINDS.get(path.suffix, "text/plain"))
        for path in sorted(STATIC.rglob("*"))
        if path.is_file()
    }


def version(files: Mapping[str, Served]) -> str:
    """Return the digest of all files: it stands in their addresses, so that browsers may keep them for good."""
    return hashlib.sha256("\n".join(f"{name} {file.tag}" for name, file in files.items()).encode()).hexdigest()[:12]


def console_router() -> APIRouter:
    """Return the routes of the console: its pages, and ``/console/VERSION/...`` for what they load."""
    files = static_files()
    current = version(files)
    templates = Environment(
        loader=PackageLoader("symbiosis.gateway.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    router = APIRouter(include_in_schema=False)

    def add(page: Page) -> None:
        html = templates.get_template(page.template).render(page=page, pages=PAGES, static=f"console/{current}")
        served = Served.of(html.encode(), "text/html")

        async def show(request: Request) -> Response:
            return served.response(request, "no-cache")

        router.add_api_route(page.path, show, methods=["GET", "HEAD"])

    async def load(request: Request, asked: str, name: str) -> Response:
        file = files.get(name)
        if file is None:
            return Response("no such file\n", 404, {**_HEADERS, "cache-control": "no-store"}, "text/plain")
        # Another version: a page from before an upgrade, or from another worker in the middle of one.
        return file.response(request, _UNCHANGING if asked == current else "no-cache")

    for page in PAGES:
        add(page)
    router.add_api_route("/console/{asked}/{name:path}", load, methods=["GET", "HEAD"])
    return router


router = console_router()
"""These routes, for the gateway's application."""
