"""Train students: capture teacher targets, then one artifact per method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from factory import runtime
from factory.stages.context import Context, Model
from factory.workspace import Artifact, Ledger
from sft.config import TrainConfig

VERSION = 1
STUDENT = "student"

Method = Literal["sft", "kd"]


Example = tuple[str, str]
"""``(question as put to the student, response to learn)``."""


def encode(student: str, examples: Sequence[Example]) -> tuple[Any, list[Any]]:
    """The student's tokenizer and the examples as token ids with labels."""
    runtime.prepare()
    from sft.chat import encode_example
    from sft.models import load_tokenizer

    tokenizer = load_tokenizer(student)
    return tokenizer, [encode_example(tokenizer, [("user", question)], response) for question, response in examples]


def capture_targets(ctx: Context, curated: Artifact, examples: Sequence[Example], teacher: Model) -> Artifact:
    """The teacher's distribution at every supervised token of the curated set."""
    config = ctx.recipe.train
    inputs = [VERSION, curated.key, teacher.identity, config.kd.top_k, ctx.fingerprint(config.student)]

    def make(folder: Path) -> Ledger:
        tokenizer, encoded = encode(config.student, examples)
        from sft.chat import tokenizer_digest
        from sft.errors import TrainingDataError
        from sft.models import load_model, load_tokenizer
        from sft.targets import capture, save_targets

        digest = tokenizer_digest(tokenizer)
        if tokenizer_digest(load_tokenizer(teacher.engine.model)) != digest:
            raise TrainingDataError(
                f"teacher {teacher.name} and the student have different vocabularies, so the teacher's distributions"
                " mean other tokens to the student; use train.methods: [sft], or a teacher of the student's family"
            )
        model = load_model(teacher.engine.model, teacher.engine.dtype)  # type: ignore[union-attr]
        with ctx.progress.task("capture", len(encoded)) as task:
            targets = capture(
                model, encoded, top_k=config.kd.top_k, tokenizer=digest, pad_id=tokenizer.pad_token_id,
                on_progress=task.advance,
            )  # fmt: skip
        save_targets(targets, folder)
        positions = int(targets.offsets[-1])
        size = sum(p.stat().st_size for p in folder.iterdir())
        facts = {"positions": positions, "bytes_per_position": round(size / max(positions, 1), 1)}
        return Ledger(len(encoded), len(encoded), facts=facts)

    return ctx.stage("targets", "targets", inputs, make)


def train_student(
    ctx: Context,
    label: str,
    examples: Sequence[Example],
    *,
    data_key: str,
    method: Method,
    targets: Artifact | None = None,
    token_budget: int | None = None,
) -> Artifact:
    """A trained student in ``student/`` (loads with ``AutoModelForCausalLM``), its log in ``student/metrics.jsonl``."""
    config = ctx.recipe.train
    dump = config.model_dump(mode="json", exclude={"methods", "student", "micro_batch_size"})
    if method != "kd":
        del dump["kd"]
    inputs = [
        VERSION, method, dump, ctx.fingerprint(config.student), data_key, targets.key if targets else None,
        token_budget, ctx.recipe.seed, ctx.recipe.prompt_template,
    ]  # fmt: skip

    def make(folder: Path) -> Ledger:
        _, encoded = encode(config.student, examples)
        return _train(ctx, label, config, encoded, folder, targets, token_budget)

    return ctx.stage(label, "train", inputs, make)


def _train(
    ctx: Context,
    label: str,
    config: TrainConfig,
    encoded: list[Any],
    folder: Path,
    targets: Artifact | None,
    token_budget: int | None,
) -> Ledger:
    from sft.targets import load_targets
    from sft.train import train

    with ctx.progress.task(label, 1000) as task:
        done = 0

        def progress(step: int, num_steps: int, loss: float) -> None:
            nonlocal done
            now = step * 1000 // num_steps
            task.advance(now - done, note=f"step {step}/{num_steps} loss {loss:.3f}")
            done = now

        result = train(
            config, encoded, folder / STUDENT, seed=ctx.recipe.seed, token_budget=token_budget, progress=progress,
            targets=load_targets(targets.path) if targets else None,
        )  # fmt: skip
    facts = {"num_steps": result.num_steps, "num_tokens": result.num_tokens}
    facts["final_loss"] = result.history[-1]["loss"] if result.history else 0.0
    return Ledger(
        len(encoded), result.num_examples, {"too_long": len(encoded) - result.num_examples}, facts,
        costs={"trained_tokens": result.num_tokens},
    )  # fmt: skip
