"""Pages: escaping, whiskers, marks, folding, and the same bytes each time."""

import re

from matplotlib import pyplot as plt

from symbiosis.reporting import drawings
from symbiosis.reporting.page import OURS, STRONGEST, Figure, Interval, Row, Section, Table, Text, render, scale

HOSTILE = '<b onload="x">&\'</b>'


def whiskers(html: str) -> list[str]:
    return re.findall(r'<svg class="whisker.*?</svg>', html)


def test_every_value_is_escaped() -> None:
    blocks = [
        Text(HOSTILE, "verdict"),
        Section(HOSTILE, [Table([HOSTILE], [[HOSTILE]])]),
        Figure.of(drawings.forest([HOSTILE], [OURS], {HOSTILE: [None]}), HOSTILE),
    ]
    html = render(HOSTILE, HOSTILE, blocks)
    assert "<b " not in html
    assert "onload=&#34;x&#34;&gt;&amp;" in html


def test_a_page_is_one_file_with_a_width_for_phones() -> None:
    html = render("T", "lead", [Text("words")])
    assert html.startswith("<!doctype html>")
    assert '<meta name="viewport" content="width=device-width' in html
    assert not re.search(r"src\s*=|<link|<script|@import|url\(|http", html)
    assert "overflow-x: auto" in html


def test_backquotes_become_code() -> None:
    assert str(Text("run `a < b` now")) == '<p class="note">run <code>a &lt; b</code> now</p>'


def test_an_interval_is_drawn_and_not_typed_into_a_cell() -> None:
    """Three units of a column's scale, 102 wide, and the line at 0."""
    html = str(Table(["m", "v"], [["a", Interval(0.0, -1.0, 1.0, "+.1f", "(x)")], ["b", Interval(1.0, 0.0, 2.0)]]))
    first, second = whiskers(html)
    assert '<line x1="4.0" x2="72.0" y1="7" y2="7"/><circle cx="38.0"' in first
    assert '<line x1="38.0" x2="106.0" y1="7" y2="7"/><circle cx="72.0"' in second
    assert html.count('class="zero" x1="38.0"') == 2
    assert "<title>95 % interval -1.0 to +1.0</title>" in first
    shown = re.sub(r"<svg.*?</svg>", "", html)
    assert "+0.0 (x)" in shown
    assert "-1.0" not in shown


def test_a_row_far_off_does_not_squeeze_the_others() -> None:
    values = [Interval(mean, mean - 1, mean + 1) for mean in (50.0, 51.0, 52.0, 53.0, 1.0)]
    assert scale([*values, "text"], [""] * 6) == (49.0, 54.0)
    assert scale(values[2:], [""] * 3) == (0.0, 54.0)  # of few, none is far off
    assert scale(values, [*[""] * 4, OURS]) == (0.0, 54.0)
    drawn = whiskers(str(Table(["v"], [[value] for value in values])))
    assert ["outside" in whisker for whisker in drawn] == [False, False, False, False, True]


def test_one_row_and_equal_rows_are_drawn() -> None:
    for rows in (1, 3):
        table = Table(["v"], [[Interval(0.5, 0.5, 0.5)]] * rows)
        assert [whisker.count('cx="55.0"') for whisker in whiskers(str(table))] == [1] * rows
    assert scale([], []) == (0.0, 0.0)


def test_our_row_and_the_strongest_baseline_are_marked() -> None:
    rows = [Row(["a", 1], OURS), Row(["b", 2], STRONGEST), ["c", 3]]
    html = str(Table(["m", "v"], rows, {(2, 1): "best"}))
    assert '<tr class="ours"><td>a <small>ours</small></td>' in re.sub(r">\s+<", "><", html)
    assert "b <small>strongest baseline</small>" in html
    assert '<td class="best">3' in html
    assert html.count("<small>") == 2


def test_details_fold() -> None:
    html = str(Section("More", [Text("inside"), Section("Deeper", [], folded=True)], folded=True))
    assert html.startswith("<details><summary>More</summary>")
    assert html.count("<details>") == html.count("</details>") == 2
    assert "<h2>Open</h2>" in str(Section("Open", []))


def test_a_drawing_gives_the_same_bytes_and_is_closed() -> None:
    def draw() -> str:
        figure = drawings.forest(
            ["a", "b", "c"],
            [OURS, STRONGEST, "invalid"],
            {"x": [Interval(1, 0, 2), None, Interval(-9, -10, -8)], "y": [Interval(0, 0, 0)] * 3},
        )
        return str(Figure.of(figure, "label"))

    before = plt.get_fignums()
    assert draw() == draw()
    assert plt.get_fignums() == before
