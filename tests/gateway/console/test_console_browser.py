"""The console in a real browser, over a gateway that plays.

Slow, and in need of selenium and Chromium with its driver:  pytest -m slow tests/gateway/console

SCREENSHOTS names a folder for pictures of what the browser showed.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chromium import chromium
from fake_gateway import ANSWER, LLMS, Played, fake_gateway, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FAINT = """
const light = (colour) => {
  const linear = (x) => (x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
  const [r, g, b] = colour.slice(0, 3).map((x) => linear(x / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const behind = (node) => {
  for (let other = node; other; other = other.parentElement) {
    const colour = numbers(getComputedStyle(other).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const faint = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const node = texts.currentNode.parentElement;
  const style = getComputedStyle(node);
  if (!texts.currentNode.textContent.trim() || !node.getClientRects().length) continue;
  if (node.closest(":disabled, title, option")) continue;
  const own = numbers(node instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [light(own), light(behind(node))].sort((x, y) => y - x);
  const contrast = (a + .05) / (b + .05);
  if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${texts.currentNode.textContent.trim().slice(0, 40)}`);
}
return [...new Set(faint)];
"""
"""Texts whose contrast with what is behind them is below 4.5 (WCAG AA)."""

BROAD = """
const nodes = [...document.body.querySelectorAll("*")];
const broad = nodes.filter((node) => node.getBoundingClientRect().right > innerWidth + 1);
return broad.filter((node) => !node.closest(".skip")).map((node) => `${node.tagName} ${node.className}`);
"""
"""Elements that reach over the right edge of the screen."""


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests of this file."""
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as window:
        yield window


@pytest.fixture
def browser(shared_browser: Any) -> Any:
    """The browser at an empty page: an earlier one would go on asking a gateway that has gone."""
    shared_browser.get("about:blank")
    shared_browser.get_log("browser")
    return shared_browser


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until a condition holds and return what it gives."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def one(window: Any, selector: str) -> Any:
    """Wait for an element that is shown."""
    return until(lambda: next((e for e in window.find_elements("css selector", selector) if e.is_displayed()), None))


def keep(window: Any, name: str) -> None:
    """Take a picture, if a folder for it is named."""
    if folder := os.environ.get("SCREENSHOTS"):
        window.save_screenshot(str(Path(folder, f"{name}.png")))


def complaints(window: Any) -> list[str]:
    """What the page, or its Content-Security-Policy, wrote to the browser's console since it was last read."""
    return [entry["message"] for entry in window.get_log("browser")]


def narrow(window: Any, width: int, height: int = 800) -> None:
    """Play a screen of this size."""
    told = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", told)


def scheme(window: Any, name: str) -> None:
    """Prefer light or dark."""
    told = {"features": [{"name": "prefers-color-scheme", "value": name}]}
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", told)


def test_from_a_prompt_to_a_thumb_by_keyboard(browser: Any) -> None:
    played = Played(traffic=False)
    with running(fake_gateway(played)) as address:
        browser.get(address)
        until(lambda: "No queries in the last 24 hours" in one(browser, "#headline").text)
        one(browser, "#prompt").send_keys("Reverse a list")
        one(browser, ".arms .arm.chosen")
        assert len(browser.find_elements("css selector", ".arms .arm")) == len(LLMS)
        assert played.sent == []
        assert [(look["model"], look["store"]) for look in played.looked] == [("auto", False)]
        names = {told.get_attribute("textContent") for told in browser.find_elements("css selector", ".arms .name")}
        assert names <= set(LLMS)
        assert names

        browser.switch_to.active_element.send_keys("\ue009\ue007")  # Ctrl + Enter
        until(lambda: one(browser, ".answer").text == ANSWER)
        assert played.sent[0]["messages"] == [{"role": "user", "content": "Reverse a list"}]
        facts = until(lambda: (told := one(browser, "#answer .facts").text) and "whole answer" in told and told)
        for name in ("model", "cost $", "overhead 6.2", "propensity 0.90"):
            assert name in facts
        until(lambda: "Why this LLM?" in one(browser, "#answer").text)
        for _ in range(10):
            browser.switch_to.active_element.send_keys("\ue004")  # Tab
            if "Good answer" in browser.switch_to.active_element.text:
                break
        browser.switch_to.active_element.send_keys("\ue007")
        until(lambda: "Recorded as a good answer" in one(browser, ".acknowledged").text)
        assert played.feedback == {played.decisions[-1]["id"]: True}
        until(lambda: "good" in one(browser, "button.row").text)
        keep(browser, "console_sent")

        one(browser, "button.link").send_keys("\ue007")
        why = one(browser, ".why table")
        assert len(why.find_elements("css selector", "tbody tr")) == len(LLMS)
        assert len(why.find_elements("css selector", "svg.bar")) == len(LLMS)
        assert one(browser, "button.row").get_attribute("aria-expanded") == "true"
        keep(browser, "console_why")
    assert complaints(browser) == []


def test_names_are_text_and_texts_fit(browser: Any) -> None:
    played = Played()
    with running(fake_gateway(played)) as address:
        for width in (360, 800, 1280):
            narrow(browser, width)
            for colours in ("light", "dark"):
                scheme(browser, colours)
                browser.get(address)
                one(browser, "#prompt").send_keys("Reverse a list")
                one(browser, ".arms .arm.chosen")
                one(browser, "button.row").click()
                one(browser, ".why table")
                browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
                assert browser.execute_script(BROAD) == []
                assert browser.execute_script(FAINT) == []
                keep(browser, f"console_{width}_{colours}")
        rows = browser.find_elements("css selector", "button.row")
        newest = sorted(played.decisions[-20:], key=lambda one: -one["at"])
        assert newest != played.decisions[:-21:-1]
        assert [row.get_attribute("aria-controls") for row in rows] == [f"why-{one['id']}" for one in newest]
        told = [name.get_attribute("textContent") for name in browser.find_elements("css selector", "#llms .llm")]
        assert sorted(told) == sorted(LLMS)
        assert browser.find_elements("css selector", "#llms b, .arms b") == []
    scheme(browser, "light")
    assert complaints(browser) == []


def test_a_key_is_asked_for_and_stays_in_the_tab(browser: Any) -> None:
    with running(fake_gateway(Played(key="secret"))) as address:
        browser.get(address)
        assert one(browser, "#error").text == "The gateway asks for an API key."
        one(browser, "#key").send_keys("wrong\ue007")
        until(lambda: one(browser, "#error").text == "The gateway refuses this API key.")
        one(browser, "#key").send_keys("secret\ue007")
        until(lambda: "spent in the last 24 hours" in one(browser, "#headline").text)
        assert not browser.find_element("css selector", "#key-form").is_displayed()
        kept = browser.execute_script(
            "return [Object.values(sessionStorage), Object.keys(localStorage), document.cookie]"
        )
        assert kept == [["secret"], [], ""]
        browser.execute_script("sessionStorage.clear()")
    assert all(" 401 " in told for told in complaints(browser))


def test_errors_are_one_line(browser: Any) -> None:
    played = Played(breaks=True)
    with running(fake_gateway(played)) as address:
        browser.get(address)
        one(browser, "button.row")
        one(browser, "#send").click()
        assert one(browser, "#prompt-error").text == "Write a prompt first."
        one(browser, "#prompt").send_keys("Reverse a list")
        one(browser, "#send").click()
        until(lambda: one(browser, "#prompt-error").text == "upstream simulated broke off")
        assert ANSWER.startswith(one(browser, ".answer").text)
        one(browser, "#answer .thumb.bad")
        played.feedback[played.decisions[-1]["id"]] = True
        one(browser, "#answer .thumb.bad").click()
        until(lambda: one(browser, ".thumbs .error").text == "the decision has other feedback already")
        assert all(" 409 " in told for told in complaints(browser))
    one(browser, "#predict").click()
    until(lambda: one(browser, "#prompt-error").text == "The gateway does not answer: is it running?")
    assert browser.find_elements("css selector", "#prompt-error *") == []
    assert all("ERR_CONNECTION_REFUSED" in told for told in complaints(browser))


def test_with_the_real_gateway(browser: Any, door: Any) -> None:
    narrow(browser, 1280, 1000)
    with httpx.Client(base_url=door.address) as web:
        before = web.get("/v1/summary").json()["queries"]
        browser.get(door.address)
        one(browser, "#prompt").send_keys("How do I reverse a list in Python?")
        one(browser, ".arms .arm.chosen")
        assert "auto:careful" in one(browser, "#policy").text
        assert web.get("/v1/summary").json()["queries"] == before
        one(browser, "#send").click()
        link = one(browser, "button.link")
        newest = web.get("/v1/decisions?limit=1").json()["data"][0]
        assert newest["served"] in one(browser, "#answer .facts").text
        assert one(browser, ".answer").text
        one(browser, "#answer .thumb.bad").click()
        until(lambda: "Recorded as a bad answer" in one(browser, ".acknowledged").text)
        assert web.get(f"/v1/decisions/{newest['id']}").json()["feedback"]["satisfied"] is False
        link.click()
        arms = one(browser, ".why table").find_elements("css selector", "tbody tr")
        assert len(arms) == len(web.get(f"/v1/decisions/{newest['id']}").json()["decision"]["arms"])
        keep(browser, "console_real")
    assert complaints(browser) == []
