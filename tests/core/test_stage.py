"""What every stage shares: params in, one clear line out, fingerprints and the list of imports."""

from pathlib import Path

import pytest
import yaml
from pydantic import Field

from symbiosis.core import stage
from symbiosis.core.errors import InputError
from symbiosis.core.fingerprint import fingerprint, imported_files
from symbiosis.core.params import StageParams, read_document, validate_block
from symbiosis.params import BLOCKS, validate

ROOT = Path(__file__).parents[2]


class Inner(StageParams):
    width: int = Field(ge=1)


class Example(StageParams):
    seed: int
    share: float = Field(ge=0, le=1)
    inner: Inner


GOOD = {"seed": 1, "share": 0.5, "inner": {"width": 3}}


def example(**changes: object) -> Example:
    return validate_block({"example": GOOD | changes}, "example", Example)


def test_a_good_block_becomes_frozen_params() -> None:
    params = example()
    assert (params.seed, params.share, params.inner.width) == (1, 0.5, 3)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "`example.sed`: unknown key"),
        ({"inner": {"width": 3, "with": 1}}, "`example.inner.with`: unknown key"),
        ({"inner": {}}, "`example.inner.width`: missing key"),
        ({"inner": {"width": 0}}, "`example.inner.width`: Input should be greater than or equal to 1"),
        ({"share": float("nan")}, "`example.share`: Input should be a finite number"),
        ({"seed": "x"}, "`example.seed`: Input should be a valid integer"),
        ({"inner": None}, "`example.inner`"),
    ],
)
def test_every_fault_names_its_key_on_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        example(**changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InputError, match=r"`example\.share`.*; `example\.more`: unknown key"):
        example(share=2, more=1)


@pytest.mark.parametrize("block", ["absent", "example.absent", "example.seed.deeper"])
def test_a_missing_block_is_named(block: str) -> None:
    with pytest.raises(InputError, match=f"the block `{block}` is missing"):
        validate_block({"example": GOOD}, block, Example)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing: run stages from the top"), ("a: [", "is not valid YAML"), ("- a", "not a list")],
)
def test_a_params_file_that_is_none_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_document(path)


def test_the_whole_document_is_validated() -> None:
    document = read_document(ROOT / "params.yaml")
    validate(document)
    with pytest.raises(InputError, match=r"unknown block `fine_tune`; the blocks are download, clean"):
        validate(document | {"fine_tune": {}})
    for block in BLOCKS:
        with pytest.raises(InputError, match=f"`{block}` is missing"):
            validate({name: value for name, value in document.items() if name != block})


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the test process from dying with its parent, and its arguments from the stage's parser."""
    monkeypatch.setattr(stage, "die_with_parent", lambda: None)
    monkeypatch.setattr("sys.argv", ["stage"])


@pytest.mark.usefixtures("quiet")
def test_a_stage_sees_its_own_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    seen: list[StageParams] = []
    stage.run("clean", BLOCKS["clean"], lambda params: seen.append(params))
    assert [type(params) for params in seen] == [BLOCKS["clean"]]


@pytest.mark.usefixtures("quiet")
def test_bad_input_is_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)

    def work(_: StageParams) -> None:
        raise InputError("file, row, fix")

    with pytest.raises(SystemExit) as caught:
        stage.run("clean", BLOCKS["clean"], work)
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", "error: file, row, fix\n")


@pytest.mark.usefixtures("quiet")
def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    def work(_: StageParams) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage.run("clean", BLOCKS["clean"], work)


@pytest.mark.usefixtures("quiet")
def test_a_wrong_key_in_any_block_stops_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = read_document(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        wrong = document | {block: document[block] | {"tpyo": 1}}  # type: ignore[operator]
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(wrong))
        worked: list[StageParams] = []
        with pytest.raises(SystemExit):
            stage.run("clean", BLOCKS["clean"], lambda params: worked.append(params))  # noqa: B023
        assert worked == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package in which imports go through others, inside functions, and outside the project."""
    files = {
        "stages/__init__.py": "",
        "stages/one.py": "import json\nfrom symbiosis import a\nfrom symbiosis.sub.b import thing\n",
        "symbiosis/__init__.py": "",
        "symbiosis/a.py": "import numpy\nimport symbiosis.c\n",
        "symbiosis/c.py": "from symbiosis import a\n",
        "symbiosis/d.py": "",
        "symbiosis/unused.py": "",
        "symbiosis/sub/__init__.py": "",
        "symbiosis/sub/b.py": "def f():\n    from symbiosis.d import x\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_imports_are_followed_wherever_they_stand(project: Path) -> None:
    assert [path.as_posix() for path in imported_files(project / "stages" / "one.py", project)] == [
        "stages/one.py",
        "symbiosis/a.py",
        "symbiosis/c.py",
        "symbiosis/d.py",
        "symbiosis/sub/b.py",
    ]


def test_a_fingerprint_changes_with_params_code_and_data_and_with_nothing_else(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    Path("data").mkdir()
    Path("data/x").write_text("1")

    def mark(**changes: object) -> str:
        return fingerprint("stages/one.py", example(**changes), ["data"])

    first = mark()
    assert len(first) == 16
    Path("symbiosis/unused.py").write_text("x = 1")
    assert mark() == first
    assert mark(seed=2) != first
    Path("data/x").write_text("2")
    assert (second := mark()) != first
    Path("symbiosis/d.py").write_text("x = 1")
    assert mark() not in {first, second}
