"""``factory audit``: how far can a file of verdicts be trusted? Nothing in it is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evals.equivalence import same_answers
from factory.errors import DataError
from factory.sources.files import RawRow, file_stream
from verifiers import VerifierPool, VerifyConfig
from verifiers.audit import AuditReport, VerdictRow, audit

_NEEDED = ("response", "gold")
_CARRIED = ("id", "question", "prompt", "problem_id", "finish_reason", *_NEEDED)
_LONGEST_SHOWN = 60
_MOST_SHOWN = 10


def audit_file(
    verdicts: Path, inputs: Path | None, second: VerifyConfig | None, *, num_per_outcome: int, seed: int
) -> AuditReport:
    """Audit a table of traces, or what ``factory verify`` wrote together with its ``inputs``.

    Raises:
        DataError: when rows lack what an audit needs, or the two files do not belong together.
    """
    rows = joined_rows(verdicts, inputs)
    same = same_answers()
    if second is None:
        return audit(rows, None, same=same, num_per_outcome=num_per_outcome, seed=seed)
    with VerifierPool(second) as pool:
        return audit(rows, pool.verify_all, same=same, num_per_outcome=num_per_outcome, seed=seed)


def joined_rows(verdicts: Path, inputs: Path | None) -> Iterator[VerdictRow]:
    """Verdicts with what they are about. Rows that could not be read (``bad_row``) are left out."""
    given = _numbered(inputs) if inputs else None
    for raw in file_stream(verdicts).rows(None):
        values = raw.values
        if values is None:
            raise DataError(f"{verdicts}, row {raw.number}: {raw.problem}")
        if values.get("reason") == "bad_row":
            continue
        if given is not None:
            values = _row_of(given, values, inputs) | values
        elif any(name not in values for name in _NEEDED):
            lacking = ", ".join(name for name in _NEEDED if name not in values)
            raise DataError(f"{verdicts} has no {lacking}; give the file that was verified with --inputs")
        try:
            yield VerdictRow.from_mapping(_with_id(values))
        except ValueError as error:
            raise DataError(f"{verdicts}, row {raw.number}: {error}") from error


def _with_id(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "id": values.get("id", values.get("trace_id"))}


def _numbered(inputs: Path) -> Iterator[RawRow]:
    return file_stream(inputs).rows(None)


def _row_of(given: Iterator[RawRow], verdict: dict[str, Any], inputs: Path | None) -> dict[str, Any]:
    """The input row of a verdict; both files are in the same order."""
    number = verdict.get("row")
    for raw in given:
        if raw.number == number:
            found = {name: (raw.values or {}).get(name) for name in _CARRIED}
            own = found.pop("id")
            if own is not None and str(own) != str(verdict.get("id")):
                raise DataError(
                    f"{inputs}, row {number}: its id is {own!r}, the verdict is about {verdict.get('id')!r};"
                    " is it the file that was verified?"
                )
            if found["question"] is None:
                found["question"] = found["prompt"]
            return {name: value for name, value in found.items() if value is not None}
    raise DataError(f"{inputs} has no row {number} in its place; is it the file that was verified?")


def report_lines(report: AuditReport) -> Iterator[str]:
    """For people."""
    for rate in report.rates:
        if rate.rate is None or rate.low is None or rate.high is None:
            share = "nothing to compare"
        else:
            share = (
                f"{rate.num_disagree} of {rate.num_judged} disagree: {rate.rate:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
            )
        failed = f"; the second grader failed on {rate.num_failed}" if rate.num_failed else ""
        yield f"  {rate.outcome.value:<12} {rate.num_rows:>8} verdicts, {rate.num_sampled} sampled, {share}{failed}"
    for row in report.disagreements[:_MOST_SHOWN]:
        yield (
            f"    {row.id}: {row.outcome.value}/{row.reason}, second grader {row.second_outcome.value};"
            f" reference {_short(row.gold)}, answer {_short(row.extracted)}"
        )
    if len(report.disagreements) > _MOST_SHOWN:
        yield f"    and {len(report.disagreements) - _MOST_SHOWN} more"
    yield f"  references that most samples contradict: {len(report.suspect_golds)}"
    for suspect in report.suspect_golds[:_MOST_SHOWN]:
        yield (
            f"    {suspect.problem_id}: {suspect.num_agree} of {suspect.num_samples} samples say"
            f" {_short(suspect.answer)}, the reference says {_short(suspect.gold)}"
        )
    if report.num_problems_too_few:
        yield f"  {report.num_problems_too_few} problems have too few samples to say anything about their reference"


def _short(text: str | None) -> str:
    if text is None:
        return "(none)"
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "...")
