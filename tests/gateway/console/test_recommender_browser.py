"""The console's second page in a real browser, over a gateway that plays.

Slow, and in need of selenium and Chromium with its driver:  pytest -m slow tests/gateway/console
"""

from typing import Any

import pytest
from chromium import until
from fake_gateway import Played, fake_gateway, running
from fake_recommender import TITLES
from test_console_browser import BROAD, FAINT, browser, complaints, keep, narrow, one, scheme, shared_browser

__all__ = ["browser", "shared_browser"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_user_a_session_and_words(browser: Any) -> None:
    played = Played()
    with running(fake_gateway(played)) as address:
        narrow(browser, 1280, 1000)
        browser.get(f"{address}/recommender")
        one(browser, "#ask-form button.main").click()
        assert "Give a user" in one(browser, "#ask-error").text
        until(lambda: len(browser.find_elements("css selector", "#users option")) == 3)
        one(browser, "#search").send_keys("kett")
        one(browser, "#found button").click()
        assert one(browser, "#session li").text == f"{TITLES[1]} remove"
        one(browser, "#words").send_keys("tea\ue007")  # Enter
        until(lambda: one(browser, "#answer-lead").text.startswith("For a guest with 1 item and the words “tea”"))
        assert "the session's items speak alone" in one(browser, "#answer-lead").text
        assert played.recommended[-1] == {"session": ["I1"], "text": "tea", "count": 10}
        shown = browser.find_elements("css selector", "#items > li b")
        assert [item.text for item in shown] == list(TITLES[1:])
        assert "bought with Brass Teapot by 8 others" in one(browser, "#items li").text

        one(browser, "#user").send_keys("A1")
        one(browser, "summary").click()
        one(browser, "#price-to").send_keys("20")
        one(browser, "#ask-form button.main").click()
        until(lambda: one(browser, "#answer-lead").text.startswith("For user A1 with 1 item clicked since"))
        assert (played.recommended[-1]["user"], played.recommended[-1]["price_to"]) == ("A1", 20)
        one(browser, "#items button.link").click()
        until(lambda: "“I like tea.”" in one(browser, "#items .why-item").text)
        one(browser, "#user").clear()
        one(browser, "#user").send_keys("nobody\ue007")
        until(lambda: one(browser, "#ask-error").text == "user 'nobody' is unknown")
        one(browser, "#empty").click()
        assert browser.find_elements("css selector", "#session li, #items li") == []
    assert all(" 422 " in told for told in complaints(browser))


def test_champions_verdicts_drift_and_the_last_run(browser: Any) -> None:
    with running(fake_gateway(Played())) as address:
        for width in (360, 800, 1280):
            narrow(browser, width, 1000)
            for colours in ("light", "dark"):
                scheme(browser, colours)
                browser.get(f"{address}/recommender")
                until(lambda: "passed the gate" in one(browser, "#models").text)
                one(browser, "#search").send_keys("tea")
                one(browser, "#found button").click()
                one(browser, "#ask-form button.main").click()
                one(browser, "#items li")
                browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
                assert browser.execute_script(BROAD) == []
                assert browser.execute_script(FAINT) == []
                keep(browser, f"recommender_{width}_{colours}")
        told = one(browser, "#models").text
        assert "Candidate version 1 (aabbccddeeff) was refused by the gate." in told
        assert "Nothing has been promoted" in told
        assert len(browser.find_elements("css selector", "#models svg.gain")) == 2
        assert one(browser, "#drift-words").text == "Alarm: embedding distance."
        assert "nightly" in one(browser, "#run-words").text
        assert browser.find_elements("css selector", "#items b b") == []
    scheme(browser, "light")
    assert complaints(browser) == []
