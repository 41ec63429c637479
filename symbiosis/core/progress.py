"""Progress bars: as usual in a terminal, now and then in a log."""

import sys
from typing import Any

from tqdm.std import tqdm as _Bar

LOGGED_EVERY_S = 10
"""Where no terminal is there; work that takes less shows no bar."""


class tqdm(_Bar):  # type: ignore[type-arg]  # noqa: N801  (a drop-in)
    """`tqdm.tqdm` that does not fill a log: each state of a bar is a line there."""

    # No thread that watches the bars: where memory is short, its start can wait for ever.
    monitor_interval = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._is_logged = sys.stderr is None or not sys.stderr.isatty()
        if self._is_logged:
            options |= {"mininterval": LOGGED_EVERY_S, "delay": LOGGED_EVERY_S}
        super().__init__(*arguments, **options)

    def set_postfix(self, ordered_dict: Any = None, refresh: bool | None = True, **values: Any) -> None:
        """Set what stands behind the bar; in a log it is shown with the next state."""
        super().set_postfix(ordered_dict, bool(refresh) and not self._is_logged, **values)


def end_bars() -> None:
    """End all bars: what is printed next has a line of its own."""
    for bar in list(getattr(_Bar, "_instances", ())):
        bar.close()
