"""``factory verify``: verdicts on the rows of a file, without a recipe.

Rows stream through a pool of verifier processes and come out in their order (``factory.verdict_file`` keeps them).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from factory.engines.config import OpenAIEngineConfig
from factory.errors import DataError, RecipeError
from factory.progress import Progress
from factory.sources.fields import UnusableRowError, read_gold
from factory.sources.files import RawRow, detect_format, file_stream
from factory.verdict_file import VerdictFile, check_place
from verifiers import Outcome, Verdict, VerifierPool, VerifyConfig, VerifyTask, build_verifier
from verifiers.config import AnyVerifyConfig, JudgeConfig

BAD_ROW = "bad_row"
_BESIDE_TESTS = ("entry_point", "fn_name", "prompt", "test_setup_code", "test_imports", "float_tolerance")
"""Columns of code rows that belong to the tests; what the tests themselves say goes first."""
_WINDOW_PER_WORKER = 32


class Row(NamedTuple):
    """One row of the input: what is to be checked, or why it cannot be."""

    number: int
    """Line (JSONL, CSV) or position (Parquet, JSON) in the file, from 1."""
    id: str
    task: VerifyTask | None
    problem: str = ""


@dataclass
class Summary:
    """What one call did."""

    rows: int = 0
    resumed: int = 0
    """Verdicts that an earlier, stopped call had left."""
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """``outcome/reason`` -> rows."""

    def lines(self) -> Iterator[str]:
        """For people."""
        again = f" ({self.resumed} of them were there)" if self.resumed else ""
        yield f"{self.rows} rows{again}"
        for outcome in Outcome:
            count = self.outcomes[outcome.value]
            reasons = ", ".join(
                f"{name.partition('/')[2]} {n}"
                for name, n in self.reasons.most_common()
                if name.partition("/")[0] == outcome.value
            )
            if count:
                yield f"  {outcome.value:<12} {count:>8}  {count / self.rows:6.1%}  {reasons}"


def verifier_config(kind: str, workers: int | None, time_limit_s: float | None, settings: Sequence[str]) -> Any:
    """The verifier's settings from the command line.

    Raises:
        RecipeError: for an unknown kind or setting, with what is allowed.
    """
    import yaml
    from pydantic import TypeAdapter, ValidationError

    values: dict[str, Any] = {"kind": "plugin", "check": kind} if ":" in kind else {"kind": kind}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: expected NAME=VALUE")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RecipeError(f"--set {setting}: the value is not YAML; put it in quotes") from None
    values |= {"num_workers": workers} if workers else {}
    values |= {"time_limit_s": time_limit_s} if time_limit_s is not None else {}
    try:
        return TypeAdapter(AnyVerifyConfig).validate_python(values)
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc'][1:]) or '--kind'}: {e['msg']}" for e in error.errors()]
        raise RecipeError(f"--kind {kind}: " + "; ".join(lines)) from error


def judge_engine(
    config: VerifyConfig | JudgeConfig, model: str | None, base_url: str | None, api_key_env: str
) -> OpenAIEngineConfig | None:
    """Who the judge is; None for every other verifier.

    Raises:
        RecipeError: a judge without a model, or an address that is none.
    """
    from pydantic import ValidationError

    if not isinstance(config, JudgeConfig):
        return None
    if model is None:
        raise RecipeError("--kind judge: name the model with --model (and its server with --base-url)")
    try:
        return OpenAIEngineConfig(model=model, base_url=base_url, api_key_env=api_key_env)
    except ValidationError as error:
        raise RecipeError("; ".join(f"--{e['loc'][0]}: {e['msg']}" for e in error.errors())) from error


Judging = Callable[[Iterator["Row"]], Iterator[tuple["Row", Verdict]]]
"""Verdicts on rows, in their order."""


@contextmanager
def pooled(config: VerifyConfig) -> Iterator[Judging]:
    """Verdicts from worker processes."""
    with VerifierPool(config) as pool:
        yield lambda rows: _in_order(pool, rows)


@contextmanager
def judged(config: JudgeConfig, engine: OpenAIEngineConfig) -> Iterator[Judging]:
    """Verdicts from a language model behind an endpoint."""
    from factory.engines.build import build_engine
    from factory.engines.openai_engine import openai_identity
    from factory.judging import generate_with
    from verifiers.judge import judge_all

    model = build_engine(engine, openai_identity(engine))
    generate = generate_with(model)

    def verdicts(rows: Iterator[Row]) -> Iterator[tuple[Row, Verdict]]:
        while part := list(islice(rows, config.batch_size)):
            found = judge_all((row.task for row in part if row.task), generate, config)
            yield from ((row, next(found)[1] if row.task else _bad(row)) for row in part)

    try:
        yield verdicts
    finally:
        model.close()


def _judging(config: VerifyConfig | JudgeConfig, engine: OpenAIEngineConfig | None) -> AbstractContextManager[Judging]:
    if not isinstance(config, JudgeConfig):
        return pooled(config)
    if engine is None:
        raise RecipeError("a judge needs an engine")
    return judged(config, engine)


def verify_file(
    source: Path,
    out: Path,
    config: VerifyConfig | JudgeConfig,
    progress: Progress,
    engine: OpenAIEngineConfig | None = None,
) -> Summary:
    """A verdict on every row of ``source`` in ``out`` (JSONL or Parquet, by its name).

    Args:
        engine: who the judge is, where ``config`` is a judge's.

    Raises:
        DataError: when the input cannot be read, or ``out`` has no known ending or is the input.
        WorkspaceError: when ``out`` cannot be written.
    """
    if not source.is_file():
        raise DataError(f"there is no file {source}")
    check_place(out, source)
    num_rows = _count_rows(source)
    with VerdictFile(out, _call(source, config, engine)) as verdicts:
        if verdicts.discarded:
            progress.line(f"{verdicts.discarded} verdicts of a stopped call with other input or settings were dropped")
        return _verify(source, config, engine, verdicts, progress, num_rows)


def _call(source: Path, config: VerifyConfig | JudgeConfig, engine: OpenAIEngineConfig | None) -> dict[str, Any]:
    """What verdicts depend on: the input, the settings but for the number of workers, the verifier's version."""
    return {
        "input": _digest(source),
        "verify": config.model_dump(mode="json", exclude={"num_workers"}),
        "version": _version(config),
        "judge": engine and engine.model_dump(mode="json"),
    }


def _version(config: VerifyConfig | JudgeConfig) -> int:
    if isinstance(config, JudgeConfig):
        from verifiers.judge import JudgeVerifier

        return JudgeVerifier.version
    with closing(build_verifier(config)) as verifier:
        return verifier.version


def _verify(
    source: Path,
    config: VerifyConfig | JudgeConfig,
    engine: OpenAIEngineConfig | None,
    verdicts: VerdictFile,
    progress: Progress,
    num_rows: int,
) -> Summary:
    summary = Summary(resumed=verdicts.num_rows)
    with progress.task("verdicts", num_rows) as task, _judging(config, engine) as verdicts_on:
        rows = read_rows(source, config.kind)
        for _ in range(verdicts.num_rows):  # an earlier call's
            next(rows)
        task.advance(verdicts.num_rows)
        for row, verdict in verdicts_on(rows):
            verdicts.append(verdict_row(row, verdict))
            task.advance()
    for line in verdicts.rows():
        summary.rows += 1
        summary.outcomes[line["outcome"]] += 1
        summary.reasons[f"{line['outcome']}/{line['reason']}"] += 1
    verdicts.finish()
    return summary


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _count_rows(path: Path) -> int:
    """For the progress bar; lines of a text file may be a few more than its rows."""
    if detect_format(path).kind == "parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    with open(path, "rb") as handle:
        return sum(block.count(b"\n") for block in iter(lambda: handle.read(2**20), b"")) + 1


def read_rows(source: Path, kind: str) -> Iterator[Row]:
    """The rows of a file as tasks; a row that cannot be one is handed on with what is wrong with it."""
    stream = file_stream(source)
    for raw in stream.rows(None):
        try:
            yield _row(raw, kind)
        except UnusableRowError as fault:
            values = raw.values or {}
            yield Row(raw.number, _row_id(raw, values), None, f"{stream.unit} {raw.number}: {fault.detail}")


def _row(raw: RawRow, kind: str) -> Row:
    values = raw.values
    if values is None:
        raise UnusableRowError("malformed_row", raw.problem)
    response = values.get("response")
    if not isinstance(response, str):
        raise UnusableRowError("malformed_row", f"`response`: expected a text, got {_shown(values, 'response')}")
    finish_reason, question = values.get("finish_reason"), values.get("question", values.get("prompt"))
    task = VerifyTask(
        _row_id(raw, values),
        _storable(response),
        _storable(_REFERENCE.get(kind, _text_gold)(values)),
        finish_reason if isinstance(finish_reason, str) else None,
        _storable(question) if isinstance(question, str) else "",
    )
    return Row(raw.number, task.id, task)


def _row_id(raw: RawRow, values: dict[str, Any]) -> str:
    given = values.get("id", values.get("trace_id"))
    return _storable(str(given)) if isinstance(given, str | int | float) and given != "" else str(raw.number)


def _storable(text: str) -> str:
    """JSON may hold lone surrogates, which no process and no file takes; they become question marks."""
    return text.encode("utf-8", "replace").decode()


def _shown(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return f"no such column (columns: {', '.join(list(values)[:12])})"
    return f"{type(values[name]).__name__}" if values[name] is not None else "null"


def _text_gold(values: dict[str, Any]) -> str:
    if "gold" not in values:
        raise UnusableRowError("missing_gold", f"`gold`: {_shown(values, 'gold')}")
    return read_gold(values["gold"], "plain") if not isinstance(values["gold"], str) else values["gold"]


def _code_gold(values: dict[str, Any]) -> str:
    """The tests as JSON text: of ``tests``, of ``test_code``, or of ``gold``; with what the row says of them beside."""
    beside = {name: values[name] for name in _BESIDE_TESTS if values.get(name) is not None}
    if values.get("test_code") is not None:
        return json.dumps({"test_code": values["test_code"], **beside})
    for name in ("tests", "gold"):
        tests = _parsed(values.get(name))
        if isinstance(tests, dict):
            return json.dumps({**beside, **tests})
        if isinstance(tests, list):
            return json.dumps({"tests": tests, **beside} if beside else tests)
        if isinstance(tests, str) and tests.strip():
            return tests
    raise UnusableRowError("missing_gold", f"`tests` or `test_code`: {_shown(values, 'tests')}")


def _parsed(tests: Any) -> Any:
    """JSON text as what it holds; other text as it is."""
    if not isinstance(tests, str):
        return tests
    try:
        return json.loads(tests)
    except (ValueError, RecursionError):
        return tests


def _entry_gold(values: dict[str, Any]) -> str:
    """reasoning-gym's entry as JSON text: of ``dataset`` and ``entry``, or of ``gold``."""
    if isinstance(values.get("dataset"), str) and isinstance(values.get("entry"), dict):
        return json.dumps({"dataset": values["dataset"], "entry": values["entry"]})
    gold = values.get("gold")
    if isinstance(gold, dict):
        return json.dumps(gold)
    if isinstance(gold, str):
        return gold
    raise UnusableRowError("missing_gold", "`dataset` and `entry`, or `gold` with both: not there")


_REFERENCE: dict[str, Callable[[dict[str, Any]], str]] = {"code": _code_gold, "reasoning_gym": _entry_gold}


def _in_order(pool: VerifierPool, rows: Iterator[Row]) -> Iterator[tuple[Row, Verdict]]:
    """Verdicts in the order of the rows; a bounded number of rows is read ahead."""
    pending: deque[tuple[Row, Future[Verdict] | None]] = deque()
    window = _WINDOW_PER_WORKER * pool.num_workers
    for row in rows:
        pending.append((row, pool.submit(row.task) if row.task else None))
        while pending and (len(pending) >= window or _is_done(pending[0][1])):
            yield _taken(*pending.popleft())
    while pending:
        yield _taken(*pending.popleft())


def _is_done(future: Future[Verdict] | None) -> bool:
    return future is None or future.done()


def _taken(row: Row, future: Future[Verdict] | None) -> tuple[Row, Verdict]:
    return row, future.result() if future else _bad(row)


def _bad(row: Row) -> Verdict:
    return Verdict(Outcome.ERROR, BAD_ROW, detail=json.dumps({"problem": row.problem}, ensure_ascii=False))


def verdict_row(row: Row, verdict: Verdict) -> dict[str, Any]:
    """A line of the output."""
    return {
        "id": row.id,
        "row": row.number,
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "extracted": verdict.extracted and _storable(verdict.extracted),
        "rule": verdict.rule,
        "verifier": verdict.verifier,
        "seconds": round(verdict.seconds, 6),
        "detail": verdict.detail and _storable(verdict.detail),
    }
