"""The console as it is sent: nothing from elsewhere, nothing inline, everything kept by browsers that may be."""

import asyncio
import re
from html.parser import HTMLParser

import httpx
import pytest
from fake_gateway import Played, fake_gateway

from symbiosis.gateway.console.console import PAGES, POLICY, STATIC, static_files, version

OURS = sorted(path for path in STATIC.glob("*.js"))
SHIPPED = sorted(
    path for folder in (STATIC, STATIC.parent / "templates") for path in folder.rglob("*") if path.is_file()
)
VOID = {"meta", "link", "input", "img", "br", "hr"}


class Reader(HTMLParser):
    """Elements of a page with their attributes; checks that each is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, attribute: str, *tags: str) -> list[str]:
        """All values of an attribute, of these elements or of all."""
        return [told[attribute] or "" for tag, told in self.elements if attribute in told and (not tags or tag in tags)]


async def ask(path: str, **headers: str) -> httpx.Response:
    """Ask the console, within this process."""
    transport = httpx.ASGITransport(fake_gateway(Played()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def loaded(path: str, **headers: str) -> httpx.Response:
    """Ask and wait for the answer."""
    return asyncio.run(ask(path, **headers))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.title)
def test_a_page_needs_nothing_but_files_of_its_own(page) -> None:
    response = loaded(page.path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    reader = Reader(response.text)
    needed = reader.values("src") + reader.values("href", "link")
    assert len(needed) > 4
    for address in needed:
        file = loaded(f"/{address}")
        assert file.status_code == 200, address
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert loaded(page.path, if_none_match=response.headers["etag"]).status_code == 304


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.title)
def test_a_page_is_readable_without_a_mouse_and_without_eyes(page) -> None:
    reader = Reader(loaded(page.path).text)
    assert reader.values("lang", "html") == ["en"]
    ids, labelled = reader.values("id"), set(reader.values("for", "label"))
    assert len(set(ids)) == len(ids)
    fields = [told for tag, told in reader.elements if tag in ("input", "select", "textarea")]
    # A checkbox stands inside its label.
    assert all(told.get("type") == "checkbox" or told["id"] in labelled for told in fields)
    assert {name for told in reader.values("aria-labelledby") for name in told.split()} <= set(ids)
    assert {name for told in reader.values("aria-describedby") for name in told.split()} <= set(ids)
    assert all(told.get("alt") is not None for tag, told in reader.elements if tag == "img")
    assert [told for tag, told in reader.elements if "aria-current" in told] == [
        {"href": f".{page.path}", "aria-current": "page"}
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.title)
def test_the_policy_forbids_what_the_page_does_not_need(page) -> None:
    response = loaded(page.path)
    assert response.headers["content-security-policy"] == POLICY
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules.values()) == {"'none'", "'self'", "'script'"}
    assert response.headers["x-content-type-options"] == "nosniff"
    reader = Reader(response.text)
    # Inline styles and handlers would be blocked, an inline script too.
    assert not [name for _, told in reader.elements for name in told if name == "style" or name.startswith("on")]
    assert all("src" in told for tag, told in reader.elements if tag == "script")
    assert "style" not in [tag for tag, _ in reader.elements]


def test_files_are_kept_by_their_version() -> None:
    files = static_files()
    current = version(files)
    kept = loaded(f"/console/{current}/gateway.js")
    assert kept.headers["content-type"] == "text/javascript; charset=utf-8"
    assert kept.text == (STATIC / "gateway.js").read_text(encoding="utf-8")
    tag = kept.headers["etag"]
    for given in (tag, f"W/{tag}", f'"another", {tag}', "*"):
        again = loaded(f"/console/{current}/gateway.js", if_none_match=given)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert loaded(f"/console/{current}/gateway.js", if_none_match='"another"').status_code == 200
    earlier = loaded("/console/0123456789ab/gateway.js")
    assert (earlier.status_code, earlier.headers["cache-control"]) == (200, "no-cache")
    changed = files | {"gateway.js": files["gateway.js"].of(b"// another", "text/javascript")}
    assert version(changed) != current


@pytest.mark.parametrize("name", ["none.js", "..%2fconsole.py", "%2e%2e/console.py", "uplot", ""])
def test_no_other_file_is_served(name: str) -> None:
    response = loaded(f"/console/{version(static_files())}/{name}")
    assert response.status_code == 404
    assert response.headers["content-security-policy"] == POLICY


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_no_file_names_another_host(path) -> None:
    text = path.read_text(encoding="utf-8")
    # A name space of SVG, and the vendored library's name, are not fetched.
    known = {"http://www.w3.org/2000/svg", "https://github.com/leeoniya/uPlot"}
    assert set(re.findall(r"\w+://[^\s\"'`)]*", text)) <= known
    assert not re.search(r"""["'(=]\s*//[\w.]""", text)
    assert "@import" not in text


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_scripts_insert_text_only(path) -> None:
    script = path.read_text(encoding="utf-8")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|DOMParser", script)
    assert "localStorage" not in script
    assert "cookie" not in script
    assert path.name == "api.js" or "sessionStorage" not in script


def test_scripts_find_what_they_name() -> None:
    names = set(static_files())
    ids = {found for page in PAGES for found in Reader(loaded(page.path).text).values("id")}
    for path in OURS:
        script = path.read_text(encoding="utf-8")
        imports = re.findall(r'from "\./([^"]+)"', script)
        assert set(imports) <= names, path.name
        assert set(re.findall(r'byId\("([^"]+)"\)', script)) <= ids, path.name
        for exported, module in re.findall(r'import \{([^}]+)\} from "\./([^"]+)"', script):
            theirs = (STATIC / module).read_text(encoding="utf-8")
            for name in (word.strip() for word in exported.split(",")):
                assert re.search(rf"export [\w* ]*\b{name}\b|export \{{[^}}]*\b{name}\b", theirs), (path.name, name)
                assert len(re.findall(rf"\b{name}\b", script)) > 1, f"{path.name} does not use {name}"


def test_vendored_files_come_with_version_and_licence() -> None:
    folders = [path for path in STATIC.iterdir() if path.is_dir()]
    assert [folder.name for folder in folders] == ["uplot"]
    for folder in folders:
        assert "MIT License" in (folder / "LICENSE").read_text(encoding="utf-8")
        told = re.search(r"uPlot (\d+\.\d+\.\d+), MIT", (folder / "README.md").read_text(encoding="utf-8"))
        assert told is not None
        assert f"(v{told[1]})" in (folder / "uPlot.iife.min.js").read_text(encoding="utf-8")[:80]
    # All else is this project's own.
    assert {path.suffix for path in STATIC.iterdir() if path.is_file()} == {".js", ".css", ".svg"}
