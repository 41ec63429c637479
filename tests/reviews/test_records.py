"""Dirty lines and dirty texts: what becomes a record, what is set aside, and what is mended."""

import contextlib
import gzip
import io
import json
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.core.errors import InputError
from symbiosis.core.text_files import LONGEST_LINE, read_lines
from symbiosis.reviews import text
from symbiosis.reviews.raw import Rejects, verify_gzip
from symbiosis.reviews.records import ITEM_SCHEMA, REVIEW_SCHEMA, csv_batches, read_metadata, read_reviews

MALFORMED = Path(os.environ.get("SYMBIOSIS_DATA_DIR", "nowhere"), "malformed")
GOOD = {
    "reviewerID": "u",
    "asin": "i",
    "overall": 5.0,
    "unixReviewTime": 1_400_000_000,
    "reviewText": "Fine &amp; good",
}


def write(path: Path, lines: list[object]) -> Path:
    with gzip.open(path, "wb") as file:
        for line in lines:
            file.write(line if isinstance(line, bytes) else json.dumps(line).encode())
            file.write(b"\n")
    return path


def reviews(folder: Path, lines: list[object], share: float = 1.0) -> tuple[pl.DataFrame, dict[str, int], list[dict]]:
    quarantine = io.StringIO()
    frame, rejects = read_reviews(write(folder / "reviews.json.gz", lines), quarantine, share)
    return frame, dict(rejects.counts), [json.loads(line) for line in quarantine.getvalue().splitlines()]


def metadata(folder: Path, lines: list[object], wanted: str = "ab") -> tuple[pl.DataFrame, dict[str, int], dict]:
    path = write(folder / "metadata.json.gz", lines)
    frame, rejects, counts = read_metadata(path, io.StringIO(), 1.0, set(wanted))
    return frame, dict(rejects.counts), counts


def test_a_good_line_becomes_a_row(tmp_path: Path) -> None:
    frame, rejected, _ = reviews(tmp_path, [GOOD])
    assert dict(frame.schema) == REVIEW_SCHEMA
    assert frame.rows() == [(1, "u", "i", 5.0, 1_400_000_000, "Fine & good")]
    assert rejected == {}


def test_a_review_may_lack_rating_and_text(tmp_path: Path) -> None:
    bare = {key: GOOD[key] for key in ("reviewerID", "asin", "unixReviewTime")}
    frame, _, _ = reviews(tmp_path, [bare, bare | {"overall": None, "reviewText": ""}, bare | {"reviewText": 7}])
    assert frame["rating"].to_list() == [None] * 3
    assert frame["review"].to_list() == [None] * 3


BAD_LINES: dict[str, list[object]] = {
    "not JSON": [b"{", b'{"reviewerID": "u"', b"reviewer u", b'{"overall": NaN}', b'{"overall": -Infinity}'],
    "not UTF-8": [b'{"reviewerID": "\xff\xfe"}'],
    "a NUL character": [b"{\0}", b"\0\0\0\0"],
    "not an object": [b"[]", b"5", b'"text"', b"null"],
    "line too long": [b'"' + b"x" * LONGEST_LINE + b'"'],
    "reviewerID is missing": [{k: v for k, v in GOOD.items() if k != "reviewerID"}, GOOD | {"reviewerID": "  "},
                              GOOD | {"reviewerID": True}, GOOD | {"reviewerID": None}],
    "reviewerID is no identifier": [GOOD | {"reviewerID": "u" * 65}, GOOD | {"reviewerID": "u\nv"},
                                    GOOD | {"reviewerID": "\ud800"}],
    "asin is missing": [GOOD | {"asin": ["i"]}],
    "rating is no number from 1 to 5": [GOOD | {"overall": value} for value in (0, 6, -1, "5", True, [5], 10**400)]
    + [json.dumps(GOOD).replace("5.0", "1e999").encode()],
    "time is no whole number of seconds from 0": [
        GOOD | {"unixReviewTime": value} for value in (-1, 0.5, "0", None, True, 1 << 40, 10**400)
    ],
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_line_is_counted_and_quarantined_and_the_rest_is_read(tmp_path: Path, reason: str) -> None:
    bad = BAD_LINES[reason]
    frame, rejected, quarantined = reviews(tmp_path, [GOOD, *bad, GOOD])
    assert frame["line"].to_list() == [1, len(bad) + 2]
    assert rejected == {reason: len(bad)}
    assert [entry["line"] for entry in quarantined] == list(range(2, len(bad) + 2))
    assert {entry["file"] for entry in quarantined} == {"reviews.json.gz"}
    assert all(len(entry["start"]) <= 500 for entry in quarantined)


def test_deep_nesting_is_rejected_like_any_bad_line(tmp_path: Path) -> None:
    _, rejected, _ = reviews(tmp_path, [GOOD, b"[" * 100_000, b"{'a':" * 100_000])
    assert rejected == {"not JSON": 2}


def test_too_many_bad_lines_stop_the_stage_and_are_told_apart(tmp_path: Path) -> None:
    lines = [GOOD] * 17 + [b"{", b"{", GOOD | {"overall": 9}]
    assert reviews(tmp_path, lines, share=0.15)[0].height == 17
    with pytest.raises(InputError) as caught:
        reviews(tmp_path, lines, share=0.14)
    for part in ("reviews.json.gz", "3 of 20 lines", "not JSON (2, first in line 18)", "(1, first in line 20)"):
        assert part in str(caught.value)


def test_a_file_without_any_review_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no review"):
        reviews(tmp_path, [])
    with pytest.raises(InputError, match="holds no review"):
        reviews(tmp_path, [b"{"])


def test_many_rows_keep_their_order(tmp_path: Path) -> None:
    frame, _, _ = reviews(tmp_path, [GOOD | {"reviewerID": f"u{k}"} for k in range(120_001)])
    assert frame["line"].to_list() == list(range(1, 120_002))
    assert frame["user_id"].to_list() == [f"u{k}" for k in range(120_001)]


@pytest.mark.parametrize("kept", [0, 5, 30, -9, -1])
def test_a_gzip_file_cut_anywhere_is_named(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "reviews.json.gz", [GOOD | {"asin": str(k)} for k in range(99)])
    path.write_bytes(path.read_bytes()[:kept])
    for read in (lambda: list(read_lines(path)), lambda: verify_gzip(path, str(path))):
        if kept == 0:  # an empty file is an empty gzip file to the library
            assert not read()
            continue
        with pytest.raises(InputError, match=r"reviews\.json\.gz is no whole gzip file"):
            read()


def test_what_is_no_raw_file_at_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reviews.json.gz"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"reviews\.json\.gz is no whole gzip file and no lines of JSON"):
        verify_gzip(path, str(path))
    path.write_bytes(json.dumps(GOOD).encode())
    verify_gzip(path, str(path))


FORMS = {
    "a byte-order mark, CRLF and blank lines": lambda one, two: gzip.compress(
        b"\xef\xbb\xbf" + one + b"\r\n\r\n \t\r\n" + two + b"\r\n\r\n"
    ),
    "no gzip": lambda one, two: one + b"\n" + two,
    "several gzip members, each with a mark": lambda one, two: (
        gzip.compress(b"\xef\xbb\xbf" + one + b"\n") + gzip.compress(b"\xef\xbb\xbf" + two + b"\n")
    ),
    "UTF-16": lambda one, two: gzip.compress((one + b"\n\n" + two).decode().encode("utf-16")),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_in_whatever_legal_form_it_comes(tmp_path: Path, form: str) -> None:
    path, records = tmp_path / "reviews.json.gz", [GOOD, GOOD | {"reviewerID": "zoë"}]
    path.write_bytes(FORMS[form](*(json.dumps(record, ensure_ascii=False).encode() for record in records)))
    verify_gzip(path, str(path))
    frame, rejects = read_reviews(path, io.StringIO(), 0.0)
    assert frame["user_id"].to_list() == ["u", "zoë"]
    assert (rejects.lines, rejects.counts.total()) == (2, 0)


def test_a_user_id_that_is_a_number_is_read_as_its_digits(tmp_path: Path) -> None:
    frame, rejected, _ = reviews(tmp_path, [GOOD | {"reviewerID": 7, "asin": 42}, GOOD | {"reviewerID": 10**70}])
    assert frame.select("user_id", "item_id").rows() == [("7", "42")]
    assert rejected == {"reviewerID is no identifier": 1}


def test_latin_1_is_named_with_its_line_and_the_fix(tmp_path: Path) -> None:
    lines = [GOOD, json.dumps(GOOD | {"reviewText": "café"}, ensure_ascii=False).encode("latin-1")]
    with pytest.raises(InputError, match=r"not UTF-8 \(1, first in line 2\); save the file as UTF-8"):
        reviews(tmp_path, lines, 0.0)


RECORD_2023 = {"rating": 5.0, "title": "t", "text": "fine", "asin": "v", "parent_asin": "i", "user_id": "u",
               "timestamp": 1420156800123}  # fmt: skip


def test_the_release_of_2023_counts_parents_and_milliseconds(tmp_path: Path) -> None:
    frame, rejected, _ = reviews(tmp_path, [RECORD_2023, RECORD_2023 | {"timestamp": 1.5}, GOOD])
    assert frame.rows() == [(1, "u", "i", 5.0, 1420156800123, "fine")]
    assert rejected == {
        "time is no whole number of milliseconds from 0": 1,
        "the record of another release than the first": 1,
    }
    assert reviews(tmp_path, [GOOD, RECORD_2023])[0].height == 1


def test_metadata_of_2023(tmp_path: Path) -> None:
    record = {"main_category": "Home", "title": "T", "features": ["F one.", "F two."], "description": ["D."],
              "price": 9.99, "store": "S", "categories": ["Home", "Lamps"], "parent_asin": "a"}  # fmt: skip
    bare = {"main_category": None, "title": "U", "features": [], "description": [], "price": None, "store": None,
            "categories": [], "parent_asin": "b"}  # fmt: skip
    frame, rejected, _ = metadata(tmp_path, [record, bare])
    assert frame.rows() == [
        ("a", "T", "S", ["Home", "Lamps"], "F one. F two. D. Price: 9.99", 9.99),
        ("b", "U", None, [], None, None),
    ]
    assert rejected == {}


def test_rows_of_a_published_file(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(
        "user_id,parent_asin,rating,timestamp,history\nu,i,2.0,1500000000123,a b\nu,j,x,1,\nu\nu,k,6.0,1,\n"
    )
    rejects = Rejects(io.StringIO())
    frame = pl.concat(csv_batches(path, rejects, 1.0))
    assert frame.rows() == [(2, "u", "i", 2.0, 1500000000123, None)]
    assert rejects.counts == {
        "rating or timestamp is no number": 1, "not 4 or 5 values": 1, "rating is no number from 1 to 5": 1
    }  # fmt: skip
    with pytest.raises(InputError, match=r"train\.csv: 3 of 4 lines.*first in line 3"):
        list(csv_batches(path, Rejects(io.StringIO()), 0.5))


@given(st.binary(max_size=300), st.sampled_from(["as it is", "gzip"]))
def test_any_bytes_give_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes, form: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json.gz"
    path.write_bytes(gzip.compress(content) if form == "gzip" else content)
    for read in (
        lambda: read_reviews(path, io.StringIO(), 1.0)[0].height > 0,
        lambda: read_metadata(path, io.StringIO(), 1.0, {"a"})[0].width == len(ITEM_SCHEMA),
        lambda: verify_gzip(path, "any") is None,
    ):
        with contextlib.suppress(InputError):
            assert read()


@pytest.mark.data
@pytest.mark.skipif(not MALFORMED.is_dir(), reason="the folder of malformed inputs is not there")
@pytest.mark.parametrize("name", ["02-bom-crlf-blank", "02b-blank-between", "07-meta-mess", "08-int-user-ids"])
def test_malformed_reviews_are_read_whole(name: str) -> None:
    folder = MALFORMED / name / "reviews"
    frame, rejects = read_reviews(folder / "Demo_5.json.gz", io.StringIO(), 0.0)
    assert (frame.height, rejects.lines) == (240, 240)
    items, rejects, _ = read_metadata(folder / "meta_Demo.json.gz", io.StringIO(), 0.0, set(frame["item_id"]))
    assert rejects.counts.total() == 0
    if name == "08-int-user-ids":
        assert set(frame["user_id"]) == {str(number) for number in range(1, 31)}
    if name == "07-meta-mess":
        titles = dict(items.select("item_id", "title").iter_rows())
        assert titles["B000008X"] == "Bolt <M6 stainless, 10 pieces"
        assert titles["B000009X"] == "Cable 5<10 m > long"
        assert titles["B000000X"] == "Thing 0 & more"
        assert titles["B000001X"] == "A real title"


@pytest.mark.data
@pytest.mark.skipif(not MALFORMED.is_dir(), reason="the folder of malformed inputs is not there")
def test_malformed_release_of_2023_is_read_whole() -> None:
    path = MALFORMED / "04b-amazon2023-jsonl" / "reviews" / "Demo.jsonl.gz"
    frame, rejects = read_reviews(path, io.StringIO(), 0.0)
    assert (frame.height, rejects.lines, rejects.per_second) == (240, 240, 1000)


def test_metadata_of_both_releases(tmp_path: Path) -> None:
    new = {
        "asin": "a",
        "title": "T",
        "brand": "B",
        "category": ["Root", "Leaf"],
        "description": ["One.", "", "Two."],
        "price": "$1,250.00",
    }
    old = b"""{'asin': 'b', 'title': "Pete's 'x'", 'categories': [['Root', 'Leaf'], ['Other']], 'description': 'D', """
    old += b"'price': 4.5}"
    frame, rejected, counts = metadata(tmp_path, [old, new])
    assert dict(frame.schema) == ITEM_SCHEMA
    assert frame.rows() == [
        ("a", "T", "B", ["Root", "Leaf"], "One. Two.", 1250.0),
        ("b", "Pete's 'x'", None, ["Root", "Leaf", "Other"], "D", 4.5),
    ]
    assert rejected == {}
    assert counts == {"repeated": 0, "titles": 2}


def test_python_lines_are_literals_and_nothing_is_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    line = f"{{'asin': 'a', 'title': open({str(trap)!r}, 'w')}}".encode()
    _, rejected, _ = metadata(tmp_path, [line, b"{'asin': 'b'"])
    assert rejected == {"not JSON": 2}
    assert not trap.exists()


def test_repeated_metadata_is_merged_field_by_field(tmp_path: Path) -> None:
    lines: list[object] = [
        {"asin": "a", "title": '<span class="a-size-medium"', "brand": "First", "category": []},
        {"asin": "a", "title": "Title", "brand": "Second", "category": ["C"]},
        {"asin": "a", "title": "Later", "description": "D", "price": "$3.00"},
        {"asin": "a", "title": "Latest", "price": "$4.00"},
        {"asin": "z", "title": "Not wanted"},
        {"asin": "z", "title": "Not wanted"},
    ]
    frame, _, counts = metadata(tmp_path, lines)
    assert frame.rows() == [("a", "Title", "First", ["C"], "D", 3.0)]
    assert counts == {"repeated": 3, "titles": 5}


def test_metadata_lines_without_item_are_rejected_and_wrong_types_are_missing(tmp_path: Path) -> None:
    odd = {"asin": "a", "title": 5, "brand": ["B"], "category": "C", "categories": None, "description": {"x": 1}}
    frame, rejected, _ = metadata(tmp_path, [odd, {"title": "T"}])
    assert frame.rows() == [("a", None, None, [], None, None)]
    assert rejected == {"asin is missing": 1}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("L&#39;Or&eacute;al", "L'Oréal"),
        ("Fish &amp;amp; Chips", "Fish & Chips"),
        ("  a \n\t b  ", "a b"),
        ("<b>Bold</b> and <br/>plain", "Bold and plain"),
        ("cut <a href='x", "cut"),
        ("3 < 5 and 7 > 6", "3 < 5 and 7 > 6"),
        ("Bolt <M6 stainless, 10 pieces", "Bolt <M6 stainless, 10 pieces"),
        ("Bolt <a few pieces", "Bolt <a few pieces"),
        ("Cable 5<10 m > long", "Cable 5<10 m > long"),
        ("<|endoftext|> <user_3> <|im_start|>", "<|endoftext|> <user_3> <|im_start|>"),
        ("<BR>loud<SPAN CLASS=x>er</SPAN ><!-- no --><!DOCTYPE html>", "loud er"),
        ("cut <span", "cut"),
        ("a\0b", "a b"),
        ("half \ud83d pair", "half ? pair"),
        ("", None),
        (" <br> ", None),
        (None, None),
        (5, None),
        (["x"], None),
    ],
)
def test_plain_text(raw: object, expected: str | None) -> None:
    assert text.plain(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('<span class="a-size-medium a-color-secondary"', None),
        (' Magazines" />', None),
        ("var aPageStart = (new Date()).getTime();", None),
        ("PC World", "PC World"),
    ],
)
def test_page_code_is_no_title(raw: object, expected: str | None) -> None:
    assert text.title(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("by\n    \n    Microsoft", "Microsoft"),
        ("Visit Amazon's Jane Doe Page", "Jane Doe"),
        ("Unknown", None),
        ("By Terry", "By Terry"),
        ("by", "by"),
    ],
)
def test_brands_lose_the_wording_of_the_page(raw: object, expected: str | None) -> None:
    assert text.brand(raw) == expected


def test_categories_are_distinct_names_not_sentences() -> None:
    raw = [["Toys &amp; Games", "Puzzles"], ["Toys & Games", "</span></span>", "No expiration, no fees.", 5, "x" * 61]]
    assert text.categories(raw) == ["Toys & Games", "Puzzles"]
    assert text.categories(["A", "B", "A"]) == ["A", "B"]
    assert text.categories("A") == []


@given(st.text())
def test_any_text_comes_out_tidy_and_storable(raw: str) -> None:
    cleaned = text.plain(raw)
    if cleaned is not None:
        assert cleaned == " ".join(cleaned.split())
        assert cleaned
        assert cleaned.encode("utf-8").decode("utf-8") == cleaned


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x, max_size=3)))
def test_no_value_breaks_the_cleaning(value: object) -> None:
    assert isinstance(text.categories(value), list)
    for clean in (text.title, text.brand, text.description):
        assert clean(value) is None or isinstance(clean(value), str)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("$1,299.00", 1299.0),
        (" $5.99&nbsp;-&nbsp;$15.99 ", 5.99),
        ("12.99 – 15.99", 12.99),
        ("15.99 - 12.99", 12.99),
        ("25", 25.0),
        (7, 7.0),
        (7.5, 7.5),
        ("from 4.99", None),
        ("$12,99", None),
        ("€ 4.99", None),
        ("$4.99 each", None),
        (".a-box-inner{background-color:#fff}", None),
        ("$0.00", None),
        ("$9,999,999.00", None),
        ("", None),
        ("None", None),
        (None, None),
        (True, None),
        (-1.0, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        (["$4.99"], None),
        ("٣.٩٩", None),
    ],
)
def test_a_price_is_an_amount_of_dollars_or_nothing(raw: object, expected: float | None) -> None:
    assert text.price(raw) == expected
