"""``factory verify``: verdicts on the rows of a file, without a recipe.

Rows stream through a pool of verifier processes and come out in their order. Verdicts are appended to ``OUT.partial``
as they arrive; when all are there the file becomes ``OUT``. A run that was killed goes on behind the last whole line,
if it is called with the same input and settings (``OUT.partial.json`` says with which ones it was begun).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from factory.engines.config import OpenAIEngineConfig
from factory.errors import DataError, RecipeError, WorkspaceError
from factory.progress import Progress
from factory.sources.fields import UnusableRowError, read_gold
from factory.sources.files import RawRow, detect_format, file_stream
from verifiers import Outcome, Verdict, VerifierPool, VerifyConfig, VerifyTask
from verifiers.config import AnyVerifyConfig, JudgeConfig

COLUMNS = ("id", "row", "outcome", "reason", "extracted", "rule", "verifier", "seconds", "detail")
OUT_SUFFIXES = (".jsonl", ".ndjson", ".parquet", ".pq")
BAD_ROW = "bad_row"
_WINDOW_PER_WORKER = 32
_PARQUET_ROWS = 4096


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
        values[name] = yaml.safe_load(text)
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
    _check_places(source, out)
    settings = {"verify": config.model_dump(mode="json"), "judge": engine and engine.model_dump(mode="json")}
    verdicts = _Partial(out, {"input": _digest(source), **settings})
    summary = Summary(resumed=verdicts.num_rows)
    judging = _judging(config, engine)
    with progress.task("verdicts", _count_rows(source)) as task, judging as verdicts_on:
        rows = read_rows(source, config.kind)
        for _ in range(verdicts.num_rows):  # an earlier call's
            if next(rows, None) is None:
                raise DataError(f"{source} has fewer rows than {verdicts.path} has verdicts; remove that file")
        task.advance(verdicts.num_rows)
        with verdicts.appending() as append:
            for row, verdict in verdicts_on(rows):
                append(verdict_row(row, verdict))
                task.advance()
    for line in verdicts.rows():
        summary.rows += 1
        summary.outcomes[line["outcome"]] += 1
        summary.reasons[f"{line['outcome']}/{line['reason']}"] += 1
    verdicts.finish()
    return summary


def _check_places(source: Path, out: Path) -> None:
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise DataError(f"--out {out}: unknown ending; known: {', '.join(OUT_SUFFIXES)}")
    if not source.is_file():
        raise DataError(f"there is no file {source}")
    if out.exists() and out.samefile(source):
        raise DataError(f"--out {out} is the input; name another file")
    if out.is_dir():
        raise DataError(f"--out {out} is a folder; name a file in it")


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
    """The tests as JSON text: of ``tests``, of ``test_code``, or of ``gold``."""
    if values.get("test_code") is not None:
        return json.dumps({key: values[key] for key in ("test_code", "entry_point") if values.get(key) is not None})
    for name in ("tests", "gold"):
        tests = values.get(name)
        if isinstance(tests, str) and tests.strip():
            return tests
        if isinstance(tests, dict | list):
            return json.dumps(tests)
    raise UnusableRowError("missing_gold", f"`tests` or `test_code`: {_shown(values, 'tests')}")


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
        "extracted": verdict.extracted,
        "rule": verdict.rule,
        "verifier": verdict.verifier,
        "seconds": round(verdict.seconds, 6),
        "detail": verdict.detail,
    }


class _Partial:
    """Verdicts on their way to ``out``."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self._out = out
        self.path = out.with_name(out.name + ".partial")
        self._begun = out.with_name(out.name + ".partial.json")
        self.num_rows = 0
        with _writing(out):
            if not self._same_call(settings):
                self.path.unlink(missing_ok=True)
                out.parent.mkdir(parents=True, exist_ok=True)
                self._begun.write_text(json.dumps(settings) + "\n")
            self.num_rows = self._whole_lines()

    def _same_call(self, settings: dict[str, Any]) -> bool:
        try:
            begun: object = json.loads(self._begun.read_text())
        except (OSError, ValueError):
            return False
        return begun == settings

    def _whole_lines(self) -> int:
        """Number of whole lines; what follows the last one is cut off."""
        if not self.path.is_file():
            return 0
        count = end = 0
        with open(self.path, "r+b") as handle:
            for line in handle:
                if not line.endswith(b"\n"):
                    break
                count, end = count + 1, end + len(line)
            handle.truncate(end)
        return count

    @contextmanager
    def appending(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A function that writes one line at once, so that a killed process loses none."""
        with _writing(self._out):
            handle = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed below

        def append(row: dict[str, Any]) -> None:
            with _writing(self._out):
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
                handle.flush()

        try:
            yield append
        finally:
            with _writing(self._out):
                handle.close()

    def rows(self) -> Iterator[dict[str, Any]]:
        if self.path.is_file():
            with open(self.path, encoding="utf-8") as handle:
                yield from map(json.loads, handle)

    def finish(self) -> None:
        """Give the file its name, in its format."""
        with _writing(self._out):
            if self._out.suffix.lower() in (".parquet", ".pq"):
                whole = self._out.with_name(self._out.name + ".whole")
                _write_parquet(whole, self.rows())
                whole.replace(self._out)
                self.path.unlink(missing_ok=True)
            else:
                self.path.touch()
                self.path.replace(self._out)
            self._begun.unlink(missing_ok=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """What the disk says, as ``WorkspaceError``."""
    try:
        yield
    except OSError as error:
        raise WorkspaceError(
            f"--out {out}: cannot be written ({error.strerror or error}); verdicts written so far are kept:"
            " make room or fix the rights, and run the same command again"
        ) from error


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa

    from factory.tables import write_table

    kinds = {"row": pa.int64(), "seconds": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    write_table(path, schema, iter(lambda: list(islice(rows, _PARQUET_ROWS)), []))
