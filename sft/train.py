"""Teach the student: supervised fine-tuning and offline token-level distillation on TRL's trainer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.chat import IGNORE, Encoded
from sft.config import TrainConfig
from sft.errors import TrainingDataError
from sft.models import load_model, load_tokenizer
from sft.targets import Targets


@dataclass(frozen=True)
class TrainResult:
    """What a training did; ``history`` holds one ``{"step", "loss", "lr", "tokens"}`` row per logged step."""

    num_examples: int
    num_steps: int
    num_tokens: int
    """Tokens seen, prompts included, summed over epochs."""
    history: list[dict[str, float]]


Progress = Callable[[int, int, float], None]
"""Called as ``progress(step, num_steps, loss)``."""


def preflight(examples: Sequence[Encoded], eos_id: int, max_length: int) -> list[int]:
    """Indices of the examples that fit into ``max_length`` tokens; longer ones are left out, never cut.

    Raises:
        TrainingDataError: when nothing fits, or an example would be trained without its end-of-sequence token.
    """
    for i, example in enumerate(examples):
        if example.labels[-1] != eos_id:
            raise TrainingDataError(f"example {i}: the loss does not cover the end-of-sequence token ({eos_id})")
    fitting = [i for i, e in enumerate(examples) if len(e.input_ids) <= max_length]
    if not fitting:
        longest = max((len(e.input_ids) for e in examples), default=0)
        raise TrainingDataError(
            f"no example fits into {max_length} tokens ({len(examples)} examples, longest {longest});"
            " raise train.max_length or curate shorter traces"
        )
    return fitting


def model_max_length(model_or_config: Any, configured: int | None) -> int:
    """The longest trainable sequence: the recipe's, else what the model's positions allow."""
    limit = getattr(getattr(model_or_config, "config", model_or_config), "max_position_embeddings", None)
    return configured or limit or 32_768


def train(
    config: TrainConfig,
    examples: Sequence[Encoded],
    out: Path,
    *,
    seed: int,
    targets: Targets | None = None,
    token_budget: int | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train ``config.student`` on ``examples`` in their order's seeded shuffles and save it to ``out``.

    ``out`` receives safetensors weights, tokenizer and ``metrics.jsonl``; it loads with ``AutoModelForCausalLM``.

    Args:
        targets: teacher targets in the order of ``examples``; given, the loss mixes in forward KL (``config.kd``).
        token_budget: stop after about so many tokens instead of after ``config.epochs``.

    Raises:
        TrainingDataError: when examples, tokenizer, or targets do not fit together.
        ModelLoadError: when the student cannot be loaded.
    """
    import torch
    from transformers import set_seed

    set_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    tokenizer = load_tokenizer(config.student)
    model = load_model(config.student, config.dtype)
    fitting = preflight(examples, tokenizer.eos_token_id, model_max_length(model, config.max_length))
    per_epoch = sum(len(examples[i].input_ids) for i in fitting)
    steps_per_epoch = math.ceil(len(fitting) / config.batch_size)
    num_steps = max(1, round(config.epochs * steps_per_epoch))
    if token_budget is not None:
        num_steps = max(1, round(token_budget / per_epoch * steps_per_epoch))
    trainer = _build_trainer(
        config, model, tokenizer, [_row(i, examples[i], targets) for i in fitting], out, seed, num_steps, progress
    )
    trainer.train()
    _save(trainer.model, tokenizer, out)
    history = _history(trainer.state.log_history, per_epoch / steps_per_epoch)
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    return TrainResult(len(fitting), num_steps, round(num_steps * per_epoch / steps_per_epoch), history)


def _row(index: int, example: Encoded, targets: Targets | None) -> dict[str, Any]:
    row: dict[str, Any] = {"input_ids": example.input_ids, "labels": example.labels}
    if targets is not None:
        ids, logp = targets.of(index, example)
        row["target_ids"], row["target_logp"] = ids.tolist(), logp.astype("float32").tolist()
    return row


def _build_trainer(
    config: TrainConfig,
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    out: Path,
    seed: int,
    num_steps: int,
    progress: Progress | None,
) -> Any:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTTrainer

    class Trainer(SFTTrainer):
        """TRL's trainer with the distillation term where the batch carries teacher targets."""

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            loss = mixed_loss(model, inputs, config.kd.weight if "target_ids" in inputs else 0.0, num_items_in_batch)
            return (loss, None) if return_outputs else loss

    class Report(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if progress and logs and "loss" in logs:
                progress(state.global_step, num_steps, float(logs["loss"]))

    # TRL logs through accelerate and tqdm; both stay quiet inside our own progress.
    trainer = Trainer(
        model=_with_lora(model, config),
        args=_arguments(config, out, seed, num_steps),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        data_collator=lambda batch: collate(batch, tokenizer.pad_token_id),
        callbacks=[Report()],
    )
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _arguments(config: TrainConfig, out: Path, seed: int, num_steps: int) -> Any:
    import torch
    from trl import SFTConfig

    micro = config.micro_batch_size or config.batch_size
    return SFTConfig(
        output_dir=str(out),
        max_steps=num_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=round(config.warmup_ratio * num_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.dtype == "bfloat16" and torch.cuda.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        max_length=None,  # nothing is ever cut: preflight already dropped what is too long
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        full_determinism=False,
        loss_type="nll",
    )


def _with_lora(model: Any, config: TrainConfig) -> Any:
    if config.lora is None:
        return model
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def collate(batch: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    """Right-pad a batch; teacher targets are concatenated over the supervised positions of the whole batch."""
    import torch

    from sft.targets import pad_batch

    tokens, mask, labels = pad_batch([Encoded(r["input_ids"], r["labels"]) for r in batch], pad_id)
    out = {"input_ids": tokens, "attention_mask": mask, "labels": labels}
    if "target_ids" in batch[0]:
        out["target_ids"] = torch.tensor([position for r in batch for position in r["target_ids"]])
        out["target_logp"] = torch.tensor([position for r in batch for position in r["target_logp"]])
    return out


def mixed_loss(model: Any, inputs: dict[str, Any], kd_weight: float, num_items: Any) -> Any:
    """(1 - w) * cross-entropy + w * forward KL, summed over supervised tokens and divided by their global count.

    ``num_items`` is the number of supervised tokens of the whole optimizer step, so that gradient accumulation gives
    exactly the gradient of one large batch. Only supervised positions are passed through the language-model head's
    softmax.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from sft.losses import forward_kl_with_tail

    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    next_labels = inputs["labels"][:, 1:]
    supervised = next_labels != IGNORE
    kept = logits[:, :-1][supervised]
    count = num_items if num_items is not None else supervised.sum()
    loss = (1 - kd_weight) * cross_entropy(kept.float(), next_labels[supervised], reduction="sum")
    if kd_weight > 0:
        if len(kept) != len(inputs["target_ids"]):
            raise TrainingDataError(f"{len(kept)} supervised tokens but {len(inputs['target_ids'])} teacher targets")
        loss = loss + kd_weight * forward_kl_with_tail(kept, inputs["target_ids"], inputs["target_logp"]).sum()
    return loss / torch.as_tensor(count, device=loss.device)


def _save(model: Any, tokenizer: Any, out: Path) -> None:
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for leftover in ("training_args.bin", "README.md"):  # a pickle with local paths, and a card that is not ours
        (out / leftover).unlink(missing_ok=True)


def _history(log: list[dict[str, float]], tokens_per_step: float) -> list[dict[str, float]]:
    rows = [row for row in log if "loss" in row and "step" in row]
    return [
        {
            "step": int(row["step"]),
            "loss": round(float(row["loss"]), 6),
            "lr": float(row["learning_rate"]),
            "tokens": round(row["step"] * tokens_per_step),
        }
        for row in rows
    ]
