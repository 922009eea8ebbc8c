"""Drop reasons: which one, in which order, and on hostile text."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pytest

from curation.columns import READS, read_traces
from curation.config import CurationConfig
from curation.filters import FILTER_REASONS, filter_rows, format_problem, verdict_reason, well_formed

GOOD = "<think>2 + 2 = 4</think>\nThe answer is \\boxed{4}."


def trace(**changes: Any) -> dict[str, Any]:
    row = {
        "trace_id": "t0",
        "problem_id": "p0",
        "sample": 0,
        "response": GOOD,
        "num_tokens": 10,
        "finish_reason": "stop",
        "outcome": "correct",
        "reason": "exact",
    }
    return row | changes


def reasons(rows: list[dict[str, Any]], **config: Any) -> list[str | None]:
    return filter_rows(read_traces(pa.Table.from_pylist(rows)), CurationConfig(**config)).reasons


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (GOOD, None),
        ("  \n\t<think>a</think> b", None),
        ("<think></think>b", None),
        ("", "empty"),
        (" \n\u3000", "empty"),
        ("just 4", "no_think_tags"),
        ("<thinking>a</thinking> b", "no_think_tags"),
        ("<think>a", "unpaired_think_tags"),
        ("a</think> b", "unpaired_think_tags"),
        ("</think>a<think> b", "unpaired_think_tags"),
        ("<think>a</think><think>b</think> c", "unpaired_think_tags"),
        ("<think><think>a</think> b", "unpaired_think_tags"),
        ("<think>a</think></think> b", "unpaired_think_tags"),
        ("So: <think>a</think> b", "text_before_think"),
        ("<think>a</think>", "no_answer_after_think"),
        ("<think>a</think> \n ", "no_answer_after_think"),
    ],
)
def test_think_format_has_a_named_problem(response: str, problem: str | None) -> None:
    assert format_problem(response) == problem
    assert well_formed(response) is (problem is None)


@pytest.mark.parametrize(
    ("outcome", "finish_reason", "reason", "expected"),
    [
        ("correct", "stop", "exact", None),
        ("correct", "error", "exact", "error"),
        ("error", "stop", "timeout", "error"),
        ("error", "length", "timeout", "error"),
        ("", "stop", "", "error"),
        ("maybe", "stop", "", "error"),
        ("unverifiable", "length", "gold_unparsed", "unverifiable"),
        ("incorrect", "length", "truncated", "truncated"),
        ("incorrect", "stop", "truncated", "truncated"),
        ("correct", "length", "exact", "truncated"),
        ("incorrect", "stop", "mismatch", "incorrect"),
    ],
)
def test_what_could_not_be_judged_is_never_called_incorrect(
    outcome: str, finish_reason: str, reason: str, expected: str | None
) -> None:
    assert verdict_reason(outcome, finish_reason, reason) == expected


def test_the_first_reason_in_the_documented_order_wins() -> None:
    everything_wrong: dict[str, Any] = {"response": "no tags", "num_tokens": 99, "finish_reason": "length"}
    steps: list[tuple[dict[str, Any], str]] = [
        (everything_wrong | {"outcome": "error"}, "error"),
        (everything_wrong | {"outcome": "unverifiable"}, "unverifiable"),
        (everything_wrong | {"outcome": "incorrect"}, "truncated"),
        (everything_wrong | {"outcome": "incorrect", "finish_reason": "stop"}, "incorrect"),
        ({"response": "no tags", "num_tokens": 99}, "format"),
        ({"num_tokens": 99}, "too_long"),
    ]
    rows = [trace(trace_id=f"t{i}", **changes) for i, (changes, _) in enumerate(steps)]
    assert reasons(rows, max_tokens=50) == [expected for _, expected in steps]
    assert [expected for _, expected in steps] == list(FILTER_REASONS[:6])


def test_length_limit_is_inclusive() -> None:
    rows = [trace(num_tokens=50), trace(trace_id="t1", response=GOOD + "!", num_tokens=51)]
    assert reasons(rows, max_tokens=50) == [None, "too_long"]


def test_think_tags_are_demanded_only_on_request_but_an_empty_response_never_passes() -> None:
    rows = [trace(response="4"), trace(response=" ", trace_id="t1")]
    assert reasons(rows) == ["format", "format"]
    assert reasons(rows, require_think_tags=False) == [None, "format"]


def test_format_ok_is_known_for_dropped_rows_too() -> None:
    table = pa.Table.from_pylist([trace(outcome="incorrect"), trace(outcome="incorrect", response="4")])
    assert filter_rows(read_traces(table), CurationConfig()).format_ok == [True, False]


def test_repeated_response_keeps_the_lowest_sample_index_whatever_the_row_order() -> None:
    rows = [
        trace(trace_id="a", sample=3),
        trace(trace_id="b", sample=1),
        trace(trace_id="c", sample=1, response=GOOD.replace(" ", "  ")),
        trace(trace_id="d", sample=0, problem_id="other"),
        trace(trace_id="e", sample=2, response=GOOD + " Indeed."),
        trace(trace_id="f", sample=0, outcome="incorrect"),
    ]
    expected = ["duplicate_trace", None, "duplicate_trace", None, None, "incorrect"]
    assert reasons(rows) == expected
    assert reasons(rows[::-1]) == expected[::-1]


def test_missing_column_is_named() -> None:
    table = pa.Table.from_pylist([trace()]).drop_columns(["outcome"])
    with pytest.raises(ValueError, match="no column outcome"):
        read_traces(table)


def test_null_and_undecodable_cells_are_read() -> None:
    schema = pa.schema([(name, pa.int32() if name in ("sample", "num_tokens") else pa.string()) for name in READS])
    nulls = pa.Table.from_pylist([dict.fromkeys(READS), trace()], schema=schema)
    assert filter_rows(read_traces(nulls), CurationConfig()).reasons == ["error", None]
    surrogate = b"<think>\xed\xa0\x80\xff</think> 4"  # a lone surrogate and a byte that is never UTF-8
    broken = pa.array([surrogate], pa.binary()).view(pa.string())
    table = pa.Table.from_pylist([trace()]).set_column(3, "response", broken)
    assert table.column_names[3] == "response"
    traces = read_traces(table)
    assert traces.response[0].startswith("<think>\ufffd")
    assert filter_rows(traces, CurationConfig()).reasons == [None]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_arrow_text_type_in_any_chunking_reads_the_same(kind: pa.DataType) -> None:
    texts = [f"text {i}" for i in range(600)]
    chunks = [pa.array(texts[:1]).cast(kind), pa.array([], pa.string()).cast(kind), pa.array(texts[1:]).cast(kind)]
    table = pa.Table.from_pylist([trace(trace_id=f"t{i}") for i in range(600)])
    table = table.set_column(3, "response", pa.chunked_array(chunks, kind))
    response = read_traces(table).response
    assert list(response) == texts
    assert [response[i] for i in (0, 1, 257, 599)] == [texts[i] for i in (0, 1, 257, 599)]


@pytest.mark.parametrize("hostile", ["<think>", "</think>", "<think", " ", "\\boxed{", "<think>a</think>"])
def test_filters_are_linear_in_hostile_text(hostile: str) -> None:
    def seconds(num_chars: int) -> float:
        row = trace(response=hostile * (num_chars // len(hostile)) + "x")
        start = time.perf_counter()
        reasons([row])
        return time.perf_counter() - start

    seconds(1000)
    assert seconds(4_000_000) < 2.0


def test_wrong_traces_stay_only_when_asked_and_cut_or_unjudged_ones_never() -> None:
    rows = [
        trace(trace_id="wrong", outcome="incorrect", reason="mismatch"),
        trace(trace_id="cut", outcome="incorrect", reason="truncated", finish_reason="length", response="a"),
        trace(trace_id="unjudged", outcome="unverifiable", reason="gold_unparsed", response="b"),
        trace(trace_id="failed", outcome="error", reason="timeout", response="c"),
    ]
    assert reasons(rows) == ["incorrect", "truncated", "unverifiable", "error"]
    assert reasons(rows, require_correct=False) == [None, "truncated", "unverifiable", "error"]
