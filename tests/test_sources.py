from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.errors import DataError
from factory.records import Problem
from factory.sources import files
from factory.sources.arithmetic import ArithmeticSource
from factory.sources.config import ColumnMap, FileSource, HubSource
from factory.sources.load import (
    Loaded,
    holdout,
    load_problems,
    normalise_prompt,
    peek,
    remove_overlap,
    source_digest,
)

DATA = Path(__file__).parents[2] / "shared" / "data"
ROWS = [{"question": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(1, 41)]


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Loaded]:
    """Load content written to a file; ``name`` decides its kind."""

    def _load(content: str | bytes, name: str = "data.jsonl", limit: int | None = None, **settings: Any) -> Loaded:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return load_problems(FileSource(path=name, **settings), folder=tmp_path, limit=limit)

    return _load


def reasons(loaded: Loaded) -> list[tuple[int, str]]:
    return [(d.row, d.reason) for d in loaded.dropped]


# Shapes that hold the same problems


def as_columns(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def as_csv(delimiter: str = ",", end: str = "\n") -> str:
    return (
        end.join(delimiter.join(cells) for cells in [("question", "answer"), *(tuple(r.values()) for r in ROWS)]) + end
    )


SHAPES: dict[str, tuple[str, bytes]] = {
    "lines": ("a.jsonl", jsonl(ROWS).encode()),
    "lines_named_json": ("a.json", jsonl(ROWS).encode()),
    "no_last_newline": ("a.jsonl", jsonl(ROWS).rstrip().encode()),
    "byte_order_mark": ("a.jsonl", codecs.BOM_UTF8 + jsonl(ROWS).encode()),
    "carriage_returns": ("a.jsonl", jsonl(ROWS).replace("\n", "\r\n").encode()),
    "blank_lines": ("a.jsonl", b"\n\n" + jsonl(ROWS).replace("\n", "\n \t\n").encode()),
    "gzipped_lines": ("a.jsonl.gz", gzip.compress(jsonl(ROWS).encode())),
    "gzipped_but_not_named_so": ("a.jsonl", gzip.compress(jsonl(ROWS).encode())),
    "array": ("a.json", json.dumps(ROWS, indent=1).encode()),
    "array_named_jsonl": ("a.jsonl", json.dumps(ROWS).encode()),
    "gzipped_array": ("a.json.gz", gzip.compress(json.dumps(ROWS).encode())),
    "wrapped": ("a.json", json.dumps({"version": 1, "data": ROWS}).encode()),
    "wrapped_on_one_line": ("a.json", json.dumps({"data": ROWS}).encode() + b"\n\n"),
    "columns": ("a.json", json.dumps(as_columns(ROWS)).encode()),
    "pandas_columns": (
        "a.json",
        json.dumps({k: {str(i): v for i, v in enumerate(c)} for k, c in as_columns(ROWS).items()}).encode(),
    ),
    "csv": ("a.csv", as_csv().encode()),
    "csv_of_a_spreadsheet": ("a.csv", codecs.BOM_UTF8 + as_csv(";", "\r\n").encode() + b";\r\n"),
    "tsv": ("a.tsv", as_csv("\t").encode()),
    "gzipped_csv": ("a.csv.gz", gzip.compress(as_csv().encode())),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_problems(load: Callable[..., Loaded], shape: str) -> None:
    name, content = SHAPES[shape]
    loaded = load(content, name)
    assert [(p.prompt, p.gold) for p in loaded.problems] == [(r["question"], r["answer"]) for r in ROWS]
    assert loaded.dropped == [] and loaded.rows_in == len(ROWS)


def test_parquet_reads_only_what_it_needs_and_without_float_noise(load: Callable[..., Loaded], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "prompt": [[{"role": "user", "content": "How much?"}], [{"role": "user", "content": "How many?"}]],
            "reward_model": [{"ground_truth": 0.1, "style": "rule"}, {"ground_truth": 18.0, "style": "rule"}],
            "single": pa.array([0.1, 2.5], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "made.parquet")
    content = (tmp_path / "made.parquet").read_bytes()
    nested = load(content, "a.parquet", columns=ColumnMap(gold="reward_model.ground_truth"))
    assert [p.gold for p in nested.problems] == ["0.1", "18"]
    single = load(content, "a.parquet", columns=ColumnMap(gold="single"))
    assert [p.gold for p in single.problems] == ["0.1", "2.5"]
    assert single.problems[1].source == "a.parquet:2"


# Files that cannot be used


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "no_bytes": ("a.jsonl", b"", "is empty"),
    "only_blanks": ("a.csv", b"\n \n", "is empty"),
    "gzip_of_nothing": ("a.jsonl.gz", gzip.compress(b""), "is empty"),
    "only_a_header": ("a.csv", b"question,answer\n", "holds no rows"),
    "empty_array": ("a.json", b"[]", "holds no rows"),
    "unknown_suffix": ("a.docx", b"x", "unknown kind of file; known: .jsonl"),
    "cut_gzip": ("a.jsonl.gz", gzip.compress(jsonl(ROWS).encode())[:-20], "cut short"),
    "cut_array": ("a.json", json.dumps(ROWS, indent=1).encode()[:-5], r"not JSON: .* at line \d+, column \d+"),
    "cut_parquet": ("a.parquet", b"PAR1 and no footer", "damaged Parquet|cannot be read"),
    "no_parquet_at_all": ("a.parquet", b"<html>404</html>", "not a Parquet file"),
    "zstd": ("a.jsonl", b"\x28\xb5\x2f\xfd....", "compressed with zstd"),
    "spreadsheet": ("a.csv", b"PK\x03\x04....", "export the sheet as CSV"),
    "utf16": ("a.csv", as_csv().encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    "latin1_array": ("a.json", '[{"question": "¿?"}]'.encode("latin-1"), "not UTF-8: byte 0xbf"),
    "scalar": ("a.json", b"3", "got a number"),
    "keyed_by_id": ("a.json", b'{"p1": {"question": "?"}, "p2": {"question": "!"}}', "with the keys p1, p2"),
    "uneven_columns": ("a.json", b'{"question": ["?"], "answer": ["1", "2"]}', "columns differ in length"),
    "open_quote": ("a.csv", b'question,answer\n1?,1\n"2?,2\n3?,3\n', "row at line 3 is never closed"),
    "header_twice": ("a.csv", b"question,answer,answer\n1,2,3\n", "names answer twice"),
    "deep_array": ("a.json", b"[" * 100_000, "not usable JSON"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_what_is_wrong(load: Callable[..., Loaded], tmp_path: Path, case: str) -> None:
    name, content, message = BROKEN[case]
    with pytest.raises(DataError, match=message) as caught:
        load(content, name)
    assert str(caught.value).startswith("problems: ") and name in str(caught.value)
    seen = peek(FileSource(path=name), tmp_path)
    assert len(seen) == 1 and re.search(message, seen[0])


def test_a_missing_file_names_both_places_and_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "gsm8k_train.jsonl").write_text(jsonl(ROWS))
    with pytest.raises(DataError) as caught:
        load_problems(FileSource(path="gsm8k_tran.jsonl"), folder=tmp_path, where="eval.benchmarks[0].problems")
    message = str(caught.value)
    assert message.startswith("eval.benchmarks[0].problems: there is no file 'gsm8k_tran.jsonl'")
    assert str(tmp_path / "gsm8k_tran.jsonl") in message and str(Path.cwd() / "gsm8k_tran.jsonl") in message
    assert f"did you mean 'gsm8k_train.jsonl' in {tmp_path}?" in message


def test_the_recipes_folder_goes_before_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe").mkdir()
    for folder, answer in ((tmp_path, "1"), (tmp_path / "recipe", "2")):
        (folder / "a.jsonl").write_text(jsonl([{"question": "?", "answer": answer}]))
    monkeypatch.chdir(tmp_path)
    source = FileSource(path="a.jsonl")
    assert load_problems(source, folder=tmp_path / "recipe").problems[0].gold == "2"
    assert load_problems(source, folder=tmp_path / "elsewhere").problems[0].gold == "1"
    assert load_problems(source).problems[0].gold == "1"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(as_csv())
    with pytest.raises(DataError, match=r"is a folder \(it holds a.csv\)"):
        load_problems(FileSource(path=str(tmp_path)))


# Rows that cannot be used


BAD_LINES: dict[str, tuple[bytes, str, str]] = {
    "cut": (b'{"question": "x", "ans', "malformed_row", "at column"),
    "list": (b"[1, 2]", "malformed_row", "got a list"),
    "null": (b"null", "malformed_row", "got null"),
    "empty_object": (b"{}", "missing_prompt", "missing or null"),
    "not_utf8": ('{"question": "é", "answer": "1"}'.encode("latin-1"), "malformed_row", "byte 0xe9 at column 15"),
    "nul_padding": (b"\0" * 64, "malformed_row", "NUL bytes"),
    "nul_in_text": (b'{"question": "a\\u0000b", "answer": "1"}', "malformed_row", "NUL character"),
    "half_a_character": (b'{"question": "\\ud83d", "answer": "1"}', "malformed_row", "not valid Unicode"),
    "huge_number": (b'{"question": "x", "answer": ' + b"9" * 5000 + b"}", "malformed_row", "usable JSON"),
    "nested_too_deeply": (b'{"question": ' + b"[" * 100_000, "malformed_row", "usable JSON|not JSON"),
    "longer_than_memory": (b'{"question": "' + b"x" * 300_000 + b'", "answer": "1"}', "malformed_row", "longer than"),
    "no_prompt": (b'{"answer": "1"}', "missing_prompt", "missing or null"),
    "blank_prompt": (b'{"question": " \\n", "answer": "1"}', "empty_prompt", "blank"),
    "number_as_prompt": (b'{"question": 5, "answer": "1"}', "unusable_prompt", "got int"),
    "no_gold": (b'{"question": "x"}', "missing_gold", "missing"),
    "null_gold": (b'{"question": "x", "answer": null}', "missing_gold", "null"),
    "nan_gold": (b'{"question": "x", "answer": NaN}', "missing_gold", "not a number"),
    "blank_gold": (b'{"question": "x", "answer": ""}', "empty_gold", "blank"),
    "several_golds": (b'{"question": "x", "answer": [1, 2]}', "unusable_gold", "a list of 2 answers"),
    "no_gold_in_list": (b'{"question": "x", "answer": []}', "missing_gold", "missing"),
    "object_as_gold": (b'{"question": "x", "answer": {"a": 1}}', "unusable_gold", "got dict"),
    "infinite_gold": (b'{"question": "x", "answer": Infinity}', "unusable_gold", "got float"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_dropped_with_its_number_and_reason(
    load: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(files, "_LONGEST_LINE", 200_000)
    line, reason, detail = BAD_LINES[case]
    lines = jsonl(ROWS).encode().splitlines(keepends=True)
    loaded = load(b"".join(lines[:20]) + b"\n" + line + b"\n" + b"".join(lines[20:]))
    assert len(loaded.problems) == len(ROWS) and loaded.rows_in == len(ROWS) + 1
    (dropped,) = loaded.dropped
    assert (dropped.where, dropped.row, dropped.reason) == ("data.jsonl", 22, reason)
    assert re.search(detail, dropped.detail) and dropped.detail.isprintable()


def test_too_many_bad_rows_are_an_error_with_examples(load: Callable[..., Loaded]) -> None:
    content = "oops\n" * 4 + jsonl(ROWS)
    with pytest.raises(DataError) as caught:
        load(content)
    message = str(caught.value)
    assert "4 of 44 rows cannot be used, more than max_bad_rows (0.05) allows" in message
    assert message.count("malformed_row") == 3 and "line 1: " in message and "raise max_bad_rows" in message
    assert len(load(content, max_bad_rows=0.1).problems) == len(ROWS)
    with pytest.raises(DataError, match="1 of 41 rows"):
        load("oops\n" + jsonl(ROWS), max_bad_rows=0)


def test_when_nothing_is_left_the_reasons_are_counted(load: Callable[..., Loaded]) -> None:
    rows = [{"question": "x", "answer": ""}] * 3 + [{"question": "", "answer": "1"}]
    with pytest.raises(DataError, match=r"none of its 4 rows is left as a problem \(empty_gold 3, empty_prompt 1\)"):
        load(jsonl(rows), max_bad_rows=1)


def test_csv_rows_are_bad_one_by_one(load: Callable[..., Loaded]) -> None:
    text = as_csv() + '"two\nlines, quoted ""so""",7\ntoo,many,cells\n"closed" early,1\n\nlast,8\n'
    loaded = load(text.encode() + b"caf\xe9,9\n" + b"nul\0,9\n", "a.csv", max_bad_rows=0.1)
    assert reasons(loaded) == [(n, "malformed_row") for n in (44, 45, 48, 49)]
    assert [(p.prompt, p.source) for p in loaded.problems[-2:]] == [
        ('two\nlines, quoted "so"', "a.csv:42"),
        ("last", "a.csv:47"),
    ]


def test_a_cell_may_be_long(load: Callable[..., Loaded]) -> None:
    long = "word " * 100_000 + "end"
    assert load(f'question,answer\n"{long}",1\n', "a.csv").problems[0].prompt == long
    assert load(jsonl([{"question": long, "answer": "1"}])).problems[0].prompt == long


# Columns and values


def test_an_absent_column_is_named_with_those_that_are_there(load: Callable[..., Loaded]) -> None:
    content = jsonl([{"text": "?", "answers": "1"}])
    with pytest.raises(DataError, match=r"(?s)usual names for the prompt .*columns: text, answers\n.*columns.prompt"):
        load(content)
    with pytest.raises(DataError, match=r"(?s)no column 'answer'; did you mean 'answers'\?.*columns: text, answers"):
        load(content, columns=ColumnMap(prompt="text", gold="answer"))
    assert load(content, columns=ColumnMap(prompt="text", gold="answers")).problems[0].gold == "1"


def test_usual_names_are_found_in_order_and_in_any_case(load: Callable[..., Loaded]) -> None:
    rows = [{"Solution": "long", "Answer": "5", "Problem": "p", "query": "q", "licence": "MIT"}]
    (problem,) = load(jsonl(rows), columns=ColumnMap(licence="licence"), licence="unknown").problems
    assert (problem.prompt, problem.gold, problem.licence) == ("p", "5", "MIT")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18, "18"),
        (18.0, "18"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (2.50, "2.5"),
        (1e-05, "0.00001"),
        (1e22, "10000000000000000000000"),
        (1e300, "1e+300"),
        (True, "True"),
        (["7"], "7"),
        ([[0.5]], "0.5"),
        (" a\r\nb ", "a\nb"),
        ("1,234", "1,234"),
    ],
)
def test_a_gold_becomes_text(load: Callable[..., Loaded], value: Any, text: str) -> None:
    assert load(jsonl([{"question": "?", "answer": value}])).problems[0].gold == text


@pytest.mark.parametrize(
    ("gold_format", "answer", "gold"),
    [
        ("auto", "3+4=7\n#### 7", "7"),
        ("auto", "so\n#### 1,234,567 ", "1234567"),
        ("auto", "#### (1,234)", "(1,234)"),
        ("auto", r"so \boxed{\frac{1}{2}} or \boxed{\frac{2}{3}}.", r"\frac{1}{2}, \frac{2}{3}"),
        ("auto", r"first \boxed{1}. After a long correction of the argument it is \boxed{{2}}", "{2}"),
        ("auto", "#### Step 1\nAdd.\n\\boxed{5}", "5"),
        ("auto", "#### Step 1\nAdd, which gives 5", "#### Step 1\nAdd, which gives 5"),
        ("auto", "7", "7"),
        ("plain", "3+4=7\n#### 7", "3+4=7\n#### 7"),
        ("gsm8k", "#### 7 apples\nindeed", "7 apples"),
        ("gsm8k", "7", None),
        ("gsm8k", "sum\n####", None),
        ("boxed", r"\boxed{7} #### 8", "7"),
        ("boxed", r"\boxed{7", None),
        ("boxed", "the answer is 7", None),
    ],
)
def test_gold_formats(load: Callable[..., Loaded], gold_format: str, answer: str, gold: str | None) -> None:
    rows = [*ROWS, {"question": "?", "answer": answer}]
    loaded = load(jsonl(rows), gold_format=gold_format, max_bad_rows=1) if gold else None
    if loaded:
        assert loaded.problems[-1].gold == gold
    else:
        with pytest.raises(
            DataError, match="1 of 1 rows cannot.*\n  line 1: unmarked_gold.*\n  choose another gold_format"
        ):
            load(jsonl(rows[-1:]), gold_format=gold_format)


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("chat", "outcome"),
    [
        ([turn("user", "Why?")], "Why?"),
        ([turn("system", "Be brief."), turn("user", " Why? ")], "Why?"),
        ([turn("user", "Why?"), turn("assistant", "So.")], "Why?"),
        ([turn("user", [{"type": "text", "text": "Why"}, {"type": "text", "text": "so?"}])], "Why\nso?"),
        ([turn("user", [{"type": "image", "url": "x"}])], "unusable_prompt"),
        ([turn("user", "Why?"), turn("assistant", "So."), turn("user", "Really?")], "multi_turn_prompt"),
        ([turn("system", "Be brief.")], "multi_turn_prompt"),
        ([], "unusable_prompt"),
        (["Why?"], "unusable_prompt"),
        ([turn("user", None)], "unusable_prompt"),
    ],
)
def test_a_chat_gives_its_only_user_turn(load: Callable[..., Loaded], chat: list[Any], outcome: str) -> None:
    loaded = load(jsonl([{"prompt": chat, "answer": "1"}, {"prompt": "x", "answer": "2"}]), max_bad_rows=1)
    assert [p.prompt for p in loaded.problems[:-1]] + [d.reason for d in loaded.dropped] == [outcome]


# Identity, duplicates, contradictions


def test_an_id_is_given_or_a_content_hash(load: Callable[..., Loaded]) -> None:
    rows = [{"id": 7, "problem": "a", "answer": 1}, {"id": None, "problem": "b", "answer": 2}]
    first, second = load(jsonl(rows)).problems
    assert first.id == "7" and re.fullmatch("[0-9a-f]{16}", second.id)
    again = load(json.dumps(rows[::-1]), "other.json", columns=ColumnMap(id="")).problems
    assert again[0].id == second.id and again[1].id not in ("7", second.id)


def test_duplicates_and_contradictions_are_counted(load: Callable[..., Loaded]) -> None:
    rows = [
        {"id": "a", "problem": "one?", "answer": "1"},
        {"id": "a", "problem": "one?", "answer": "1"},  # the same row again
        {"id": "b", "problem": " one?\n", "answer": "1.0"},  # and under another id, written differently
        {"id": "a", "problem": "two?", "answer": "2"},  # an id that is taken
        {"id": "c", "problem": "three?", "answer": "3"},
        {"id": "d", "problem": "three?", "answer": "4"},  # contradicts the row before
        {"id": "e", "problem": "three?", "answer": "3"},
        {"id": "f", "problem": "half?", "answer": r"\frac{1}{2}"},
        {"id": "g", "problem": "half?", "answer": "0.5"},  # the same number
    ]
    loaded = load(jsonl(rows), max_bad_rows=1)
    assert [p.id for p in loaded.problems] == ["a", "f"]
    assert reasons(loaded) == [
        (2, "duplicate_problem"),
        (3, "duplicate_problem"),
        (4, "duplicate_id"),
        (5, "gold_conflict"),
        (6, "gold_conflict"),
        (7, "gold_conflict"),
        (9, "duplicate_problem"),
    ]
    assert loaded.rows_in == len(loaded.problems) + len(loaded.dropped)
    assert loaded.counts() == {"duplicate_problem": 3, "gold_conflict": 3, "duplicate_id": 1}


def test_ids_that_are_none_are_refused_with_the_way_out(load: Callable[..., Loaded]) -> None:
    rows = [{**row, "id": number % 3} for number, row in enumerate(ROWS)]
    with pytest.raises(DataError, match=r'(?s)37 of 40 rows.*duplicate_id.*columns.id \("" for none\)'):
        load(jsonl(rows))
    assert len(load(jsonl(rows), columns=ColumnMap(id="")).problems) == 40


def test_a_limit_gives_the_beginning_of_the_full_load(load: Callable[..., Loaded]) -> None:
    rows = [*ROWS, {**ROWS[0], "answer": "99"}]  # contradicts the first row, far beyond the limit
    full, limited = load(jsonl(rows)), load(jsonl(rows), limit=5)
    assert limited.problems == full.problems[:5] and limited.dropped == full.dropped
    assert limited.problems[0].prompt == ROWS[1]["question"] and limited.rows_in == 41
    arithmetic = ArithmeticSource(num=30, seed=3)
    assert load_problems(arithmetic, limit=7).problems == load_problems(arithmetic).problems[:7]
    with pytest.raises(ValueError, match="limit must be at least 1"):
        load(jsonl(rows), limit=0)


# Digest, hold-out, overlap


def test_a_digest_follows_content_and_not_place(tmp_path: Path) -> None:
    for name, text in (("a.jsonl", "{}\n"), ("b.jsonl", "{}\n"), ("c.jsonl", "{} \n"), ("a.csv", "{}\n")):
        (tmp_path / name).write_text(text)
    digest = {
        name: source_digest(FileSource(path=name), tmp_path) for name in ("a.jsonl", "b.jsonl", "c.jsonl", "a.csv")
    }
    assert digest["a.jsonl"] == digest["b.jsonl"] and len(set(digest.values())) == 3
    assert (
        source_digest(FileSource(path="a.jsonl"), tmp_path, lambda path: f"cached {path.name}")
        == "jsonl:cached a.jsonl"
    )
    with pytest.raises(DataError, match="there is no file"):
        source_digest(FileSource(path="d.jsonl"), tmp_path)


def test_a_digest_of_settings_and_revisions() -> None:
    seeds = {source_digest(ArithmeticSource(seed=seed)) for seed in (0, 1)}
    pins = {source_digest(HubSource(dataset="acme/sums", revision=revision)) for revision in ("a", "b")}
    assert len(seeds) == len(pins) == 2 and "hub:acme/sums@a::train" in pins


def problems(*prompts: str) -> list[Problem]:
    return [Problem(f"id{n}", prompt, "1", f"a.jsonl:{n}", "MIT") for n, prompt in enumerate(prompts)]


def test_a_holdout_is_stable_when_the_pool_grows() -> None:
    pool = problems(*(f"question {n}" for n in range(1000)))
    held, rest = holdout(pool[:800], 100, seed=1)
    ids = {p.id for p in held}
    assert len(held) == 100 and held + rest != pool[:800] and sorted(held + rest, key=pool.index) == pool[:800]
    assert holdout(pool[799::-1], 100, seed=1).held == held[::-1]  # the order of the file does not matter
    grown = holdout(pool, 100, seed=1).held
    assert {p.id for p in grown} & {p.id for p in pool[:800]} <= ids
    assert 65 <= len({p.id for p in grown} & ids) <= 95  # 80 expected
    assert holdout(pool, 100, seed=2).held != grown


def test_a_holdout_leaves_something() -> None:
    with pytest.raises(DataError, match="leaves nothing of a pool of 3"):
        holdout(problems("a", "b", "c"), 3, seed=0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Find $x$  if $x+1 = 2$.", "find x if $x + 1=2$", True),
        (r"\(x\le 3\)", r"$x \leq 3$", True),
        (r"\left(\dfrac{1}{2},\ 3\right)", r"(\frac{1}{2}, 3)", True),
        (r"$\overline{r}_1$", r"\overline r_1", True),
        ("“He’s 10² cm”", '"He\'s 10^2 cm"', True),
        (r"10{,}000", r"10,\!000", True),
        (r"it costs \$5", "it costs $5", True),
        ("What is 3-4?", "What is 3+4?", False),
        (r"\tan 225^\circ", r"\tan 22.5^\circ", False),
        ("What is 5!?", "What is 5?", False),
        ("What is 10²?", "What is 102?", False),
        ("What is 3½?", "What is 31/2?", False),
        ("Find f'(2).", "Find f(2).", False),
        ("x^{23}", "x^{2}3", False),
    ],
)
def test_typography_is_ignored_and_mathematics_is_not(one: str, other: str, same: bool) -> None:
    assert (normalise_prompt(one) == normalise_prompt(other)) is same


def test_what_a_benchmark_asks_leaves_the_pool() -> None:
    pool = problems("What is 2 + 2?", "What is 2 + 3?", "WHAT IS $2+2$")
    kept, dropped = remove_overlap(pool, ["what is 2+2"])
    assert kept == [pool[1]]
    assert [(d.where, d.row, d.reason) for d in dropped] == [
        ("a.jsonl:0", 1, "in_benchmark"),
        ("a.jsonl:2", 3, "in_benchmark"),
    ]


# Peek


def test_peek_finds_what_a_run_would_stop_at(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(as_csv())
    (tmp_path / "bad.jsonl").write_text(jsonl([{"question": "?", "answer": None}] * 30))
    assert peek(FileSource(path="good.csv"), tmp_path) == []
    assert peek(ArithmeticSource(), tmp_path) == []
    assert peek(HubSource(dataset="acme/sums", revision="a"), tmp_path) == []
    (problem,) = peek(FileSource(path="bad.jsonl"), tmp_path)
    assert problem.startswith("among the first 20 rows of bad.jsonl: 20 of 20 rows cannot be used")
    assert "there is no file" in peek(FileSource(path="none.csv"), tmp_path)[0]
    assert "no column 'text'" in peek(FileSource(path="good.csv", columns=ColumnMap(prompt="text")), tmp_path)[0]
    assert "there is no file" in peek(HubSource(dataset="./none", revision="a"), tmp_path)[0]


def test_neither_loading_text_nor_peeking_imports_anything_heavy(tmp_path: Path) -> None:
    for name, (_, content) in {"a.jsonl": SHAPES["lines"], "a.csv": SHAPES["csv"]}.items():
        (tmp_path / name).write_bytes(content)
    code = (
        "import sys\n"
        "from factory.sources.load import load_problems, peek\n"
        "from factory.sources.config import FileSource\n"
        "for name in ('a.jsonl', 'a.csv'): assert peek(FileSource(path=name)) == []\n"
        "assert len(load_problems(FileSource(path='a.csv')).problems) == 40\n"
        "print([m for m in ('pyarrow', 'datasets', 'torch', 'transformers', 'sympy') if m in sys.modules])"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n", done.stderr


# Real data


def real(path: str, **settings: Any) -> Loaded:
    if not (DATA / path).is_file():
        pytest.skip(f"the data set {path} is not on this machine")
    return load_problems(FileSource(path=str(DATA / path), **settings))


ANSWERBENCH = {"columns": ColumnMap(gold="Short Answer", id="Problem ID")}  # its row at line 150 is quoted wrongly


@pytest.mark.parametrize(
    ("path", "settings", "kept", "dropped"),
    [
        ("01_gsm8k/gsm8k_train.jsonl", {}, 7473, {}),
        ("01_gsm8k/gsm8k_test.jsonl", {"gold_format": "gsm8k"}, 1319, {}),
        ("01_gsm8k/gsm_hard_test.jsonl", {"columns": ColumnMap(prompt="input", gold="target")}, None, None),
        ("02_math/MATH500_test.jsonl", {}, 500, {}),
        ("02_math/prime_math500_cleaned.json", {}, 500, {}),
        ("02_math/MATH_test_5000.jsonl", {"columns": ColumnMap(gold="solution"), "gold_format": "boxed"}, 5000, {}),
        ("02_math/imo_answerbench_v2.csv", ANSWERBENCH, 399, {"malformed_row": 1}),
        ("02_math/deepscaler_difficulty3.json.gz", {}, 7804, {"duplicate_problem": 147, "gold_conflict": 10}),
        ("03_aime/aime_1983_2023.json", {}, 975, {}),
        ("03_aime/aime_2024_rllm.json", {}, 30, {}),
    ],
)
def test_real_sets_load(path: str, settings: dict[str, Any], kept: int | None, dropped: dict[str, int] | None) -> None:
    loaded = real(path, **settings)
    assert loaded.rows_in == len(loaded.problems) + len(loaded.dropped)
    if kept is None:
        assert len(loaded.problems) > 0.95 * loaded.rows_in
    else:
        assert len(loaded.problems) == kept and loaded.counts() == dropped


def test_gsm8k_golds_are_numbers() -> None:
    golds = [p.gold for p in real("01_gsm8k/gsm8k_train.jsonl").problems]
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", gold) for gold in golds)


def test_half_a_question_is_noticed() -> None:
    """SVAMP keeps the story in another column, so the questions alone contradict each other."""
    with pytest.raises(DataError, match="gold_conflict.*\n.*\n.*\n.*whether columns.prompt holds the whole question"):
        real("02_math/qwen25math_svamp.jsonl")


def test_benchmark_questions_in_real_pools_are_found() -> None:
    asked = [p.prompt for p in real("02_math/MATH500_test.jsonl").problems]
    assert len(remove_overlap(real("03_aime/aime_1983_2023.json").problems, asked).dropped) == 6
