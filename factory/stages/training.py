"""From a curated set to students: teacher targets, SFT, KD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory import runtime
from factory.context import Context
from factory.errors import DataError, ModelError, StageError
from factory.recipe import Teacher
from factory.tables import read_table
from factory.workspace import Artifact, Ledger, write_json
from sft.chat import Encoded, encode_example, tokenizer_digest
from sft.errors import ModelLoadError, TrainingDataError, TrainingDivergedError

TARGETS_VERSION = 1
TRAIN_VERSION = 1


def dataset_rows(dataset: Artifact) -> tuple[list[str], list[str]]:
    """(questions, responses) of the curated set, in its order."""
    table = read_table(dataset.path / "dataset" / "train.parquet", ["prompt", "response"]).to_pydict()
    return table["prompt"], table["response"]


def encode(model: str, prompts: Sequence[str], responses: Sequence[str]) -> list[Encoded]:
    """Training sequences in the student's chat template, loss on the response."""
    from sft.models import load_tokenizer

    runtime.prepare()
    tokenizer = load_tokenizer(model)
    return [encode_example(tokenizer, (("user", p),), r) for p, r in zip(prompts, responses, strict=True)]


def targets(ctx: Context, dataset: Artifact, teacher: Teacher) -> Artifact:
    """``targets.safetensors``: the teacher's distribution at every token of the curated responses."""
    recipe = ctx.recipe
    model = getattr(teacher.engine, "model", "")
    inputs = {
        "dataset": dataset.id,
        "teacher": ctx.engine_id(teacher.engine),
        "student_tokenizer": ctx.model_id(recipe.train.student),
        "top_k": recipe.train.kd.top_k,
    }

    def fill(folder: Path) -> Ledger:
        from sft.models import load_model, load_tokenizer
        from sft.targets import capture, save_targets

        prompts, responses = dataset_rows(dataset)
        with library_errors():
            examples = encode(recipe.train.student, prompts, responses)
            student_tokenizer = load_tokenizer(recipe.train.student)
            teacher_tokenizer = load_tokenizer(model)
            digest = tokenizer_digest(teacher_tokenizer)
            if digest != tokenizer_digest(student_tokenizer):
                raise StageError(
                    f"train.methods: kd needs teacher and student with one tokenizer, but {teacher.name!r} and the"
                    " student differ; use methods: [sft]"
                )
            with ctx.progress.task(f"targets {teacher.name}", len(examples)) as task:
                captured = capture(
                    load_model(model, "float32"),
                    examples,
                    top_k=recipe.train.kd.top_k,
                    tokenizer=digest,
                    pad_id=student_tokenizer.pad_token_id,
                    on_progress=task.advance,
                )
        save_targets(captured, folder)
        size = (folder / "targets.safetensors").stat().st_size
        notes = {"tokens": len(captured.ids), "bytes_per_token": round(size / max(len(captured.ids), 1), 1)}
        return Ledger("targets", len(examples), len(examples), {}, notes)

    return ctx.stage("targets", TARGETS_VERSION, inputs, fill)


def train_student(ctx: Context, method: str, dataset: Artifact, captured: Artifact | None) -> Artifact:
    """``student/``: the base student after SFT or KD on the curated set."""
    config = ctx.recipe.train
    inputs = {
        "dataset": dataset.id,
        "targets": captured.id if captured else None,
        "student": ctx.model_id(config.student),
        "train": config.model_dump(mode="json", exclude={"student", "methods", *(() if captured else ("kd",))}),
        "seed": ctx.recipe.seed,
    }

    def fill(folder: Path) -> Ledger:
        prompts, responses = dataset_rows(dataset)
        with library_errors():
            examples = encode(config.student, prompts, responses)
            summary = run_training(ctx, examples, folder / "student", f"train {method}", captured=captured)
        (folder / "student" / "metrics.jsonl").rename(folder / "metrics.jsonl")
        write_json(folder / "summary.json", summary)
        kept, too_long = summary["num_examples"], summary["dropped_too_long"]
        drops = {"too_long": too_long} if too_long else {}
        notes = {"tokens": summary["num_tokens"], "steps": summary["num_steps"]}
        return Ledger(f"train/{method}", len(examples), kept, drops, notes)

    name = "student" if method == config.methods[0] else f"student-{method}"
    return ctx.stage(f"train/{method}", TRAIN_VERSION, inputs, fill, show={"student": name})


def run_training(
    ctx: Context,
    examples: list[Encoded],
    out: Path,
    what: str,
    *,
    captured: Artifact | None = None,
    token_budget: int | None = None,
) -> dict[str, Any]:
    """Train and say what was done."""
    from sft.targets import load_targets
    from sft.train import train

    runtime.prepare()
    seen = 0
    with ctx.progress.task(what, 1000) as task:

        def report(step: int, num_steps: int, loss: float) -> None:
            nonlocal seen
            done = 1000 * step // num_steps
            task.advance(done - seen, f"step {step}/{num_steps} loss {loss:.3f}")
            seen = done

        result = train(
            ctx.recipe.train,
            examples,
            out,
            seed=ctx.recipe.seed,
            targets=load_targets(captured.path) if captured else None,
            token_budget=token_budget,
            progress=report,
        )
    return {
        "num_examples": result.num_examples,
        "num_steps": result.num_steps,
        "num_tokens": result.num_tokens,
        "num_supervised_tokens": result.num_supervised_tokens,
        "dropped_too_long": len(examples) - result.num_examples,
    }


class library_errors:  # noqa: N801 - reads as a statement
    """The sft library's errors in the words of the command line."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModelLoadError):
            raise ModelError(str(error)) from error
        if isinstance(error, TrainingDataError):
            raise DataError(str(error)) from error
        if isinstance(error, TrainingDivergedError):
            raise StageError(str(error)) from error
