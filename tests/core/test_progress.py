"""Bars of progress: rare in a log, without a thread, and no part of the line that says what failed."""

import io
import threading

import pytest

from symbiosis.core import stage
from symbiosis.core.progress import end_bars, tqdm


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_log_is_not_filled(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    threads = threading.active_count()
    for number in (bar := tqdm(range(100), file=stream, mininterval=0)):
        bar.set_postfix(loss=number)
    assert bool(stream.getvalue()) == terminal
    assert threading.active_count() == threads


def test_an_error_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    bar = tqdm(total=3, file=stream)
    bar.update()
    assert not stream.getvalue().endswith("\n")
    stage._failed("no room")
    assert stream.getvalue().splitlines()[-1] == "error: no room"
    end_bars()
