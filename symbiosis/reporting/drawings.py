"""Charts that several pages share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from symbiosis.reporting.page import OURS, STRONGEST, Interval, scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {OURS: "#c92a2a", STRONGEST: "#2a6f97", "invalid": "#bbbbbb", "": "#555555"}
"""By the mark of a row."""


def forest(names: Sequence[str], marks: Sequence[str], panels: Mapping[str, Sequence[Interval | None]]) -> "Figure":
    """Draw values as dots and their intervals as whiskers: a row per method, a panel per metric.

    Parameters
    ----------
    names, marks
        Of the rows, from top to bottom; a mark is a key of `COLOURS`.
    panels
        By title: one interval per row, None where the method has no value. An arrow stands for a value off the scale.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.9 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        start, stop = scale(values, marks)
        for row, (value, mark) in enumerate(zip(values, marks, strict=True)):
            if value is not None:
                axis.hlines(row, value.low, value.high, color=COLOURS[mark], linewidth=1.6)
                outside = "<" if value.value < start else ">" if value.value > stop else ""
                place = min(max(value.value, start), stop)
                axis.plot(
                    [place], [row], outside or "o", color=COLOURS[mark], markersize=5, alpha=0.4 if outside else 1
                )
        axis.set_yticks(range(len(names)), list(names) if axis is axes[0] else [""] * len(names))
        axis.set_ylim(len(names) - 0.5, -0.5)
        margin = 0.05 * (stop - start) or 0.05
        axis.set_xlim(start - margin, stop + margin)
        if start < 0 < stop:
            axis.axvline(0, color="0.6", linewidth=0.8, linestyle=":")
        axis.set_title(title, fontsize=10)
        axis.grid(axis="x", color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    for tick, mark in zip(axes[0].get_yticklabels(), marks, strict=True):
        tick.set_color(COLOURS[mark])
        tick.set_fontweight("bold" if mark == OURS else "normal")
    return figure
