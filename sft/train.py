"""Teach the student: supervised fine-tuning and offline token-level distillation on TRL's trainer."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.chat import Encoded, num_supervised, tokenizer_digest
from sft.config import TrainConfig
from sft.errors import TrainingDataError, TrainingDivergedError
from sft.logits import POSITIONS_PER_SLICE, selected_logits
from sft.models import load_model, load_tokenizer, quiet, release_memory, saving
from sft.targets import Targets, predicts_supervised


@dataclass(frozen=True)
class TrainResult:
    """What a training did; ``history`` holds one ``{"step", "loss", "lr", "tokens"}`` row per logged step."""

    num_examples: int
    num_steps: int
    num_tokens: int
    """Tokens seen, prompts included and padding not, summed over steps."""
    num_supervised_tokens: int
    """Those of them that carried loss: the responses' and their ends."""
    history: list[dict[str, float]]


Progress = Callable[[int, int, float], None]
"""Called as ``progress(step, num_steps, loss)``."""


def preflight(examples: Sequence[Encoded], eos_id: int, max_length: int) -> list[int]:
    """Indices of the examples that fit into ``max_length`` tokens; longer ones are left out, never cut.

    Raises:
        TrainingDataError: when nothing fits, or an example would be trained without its end-of-sequence token.
    """
    for i, example in enumerate(examples):
        if not example.labels or example.labels[-1] != eos_id:
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
    config = getattr(model_or_config, "config", model_or_config).get_text_config()
    return configured or getattr(config, "max_position_embeddings", None) or 32_768


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
    """Train ``config.student`` on ``examples``, shuffled anew by ``seed`` in each epoch, and save it to ``out``.

    ``out`` receives safetensors weights, tokenizer and ``metrics.jsonl``; it loads with ``AutoModelForCausalLM``. Equal
    inputs on one machine give equal bytes; the order of the examples is one of the inputs. One process uses one GPU,
    the first visible one; for more, start the process under a distributed launcher. The model's memory is free when
    this returns.

    Args:
        targets: teacher targets in the order of ``examples``; given, the loss mixes in forward KL (``config.kd``).
        token_budget: in place of ``config.epochs``, so many whole steps that about this number of supervised tokens
            (those with loss: responses and their ends, every pass over one counted) are seen. Prompts do not count, so
            that what a student learns from stays equal where prompts differ in length.

    Raises:
        TrainingDataError: when examples, tokenizer, or targets do not fit together.
        TrainingDivergedError: when the loss is no number any more.
        ModelLoadError: when the student cannot be loaded.
    """
    try:
        return _train(config, examples, out, seed, targets, token_budget, progress)
    finally:
        release_memory()  # trainer and callbacks refer to each other


def _train(
    config: TrainConfig,
    examples: Sequence[Encoded],
    out: Path,
    seed: int,
    targets: Targets | None,
    token_budget: int | None,
    progress: Progress | None,
) -> TrainResult:
    from transformers import set_seed

    tokenizer = load_tokenizer(config.student)
    _check_targets(targets, examples, tokenizer)
    set_seed(seed)
    model = load_model(config.student, _weights_dtype(config))
    use_cache = model.config.use_cache
    fitting = preflight(examples, tokenizer.eos_token_id, model_max_length(model, config.max_length))
    num_steps = _num_steps(config, [num_supervised(examples[i]) for i in fitting], token_budget)
    rows = [(i, examples[i]) for i in fitting]
    with _deterministic():
        trainer = _build_trainer(config, model, tokenizer, rows, targets, out, seed, num_steps, progress)
        trainer.train()
    model.config.use_cache = use_cache  # the trainer switches it off
    _save(trainer.model, tokenizer, config.dtype, out)
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in trainer.history))
    return TrainResult(len(fitting), num_steps, trainer.num_tokens, trainer.num_supervised_tokens, trainer.history)


def _check_targets(targets: Targets | None, examples: Sequence[Encoded], tokenizer: Any) -> None:
    if targets is None:
        return
    if targets.tokenizer != tokenizer_digest(tokenizer):
        raise TrainingDataError("the teacher targets were captured with another vocabulary than the student's")
    if len(targets.digests) != len(examples):
        raise TrainingDataError(f"{len(targets.digests)} teacher targets for {len(examples)} examples")
    for index, example in enumerate(examples):
        targets.of(index, example)


def _weights_dtype(config: TrainConfig) -> str:
    """Trained weights are float32: steps of a usual size vanish in bfloat16's rounding. Frozen ones need not be."""
    return config.dtype if config.lora else "float32"


def _num_steps(config: TrainConfig, supervised: Sequence[int], token_budget: int | None) -> int:
    steps_per_epoch = math.ceil(len(supervised) / config.batch_size)
    epochs = config.epochs if token_budget is None else token_budget / sum(supervised)
    return max(1, round(epochs * steps_per_epoch))


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Repeatable kernels where there are any; only while we train, since they slow down everything else."""
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _build_trainer(
    config: TrainConfig,
    model: Any,
    tokenizer: Any,
    rows: Sequence[tuple[int, Encoded]],
    targets: Targets | None,
    out: Path,
    seed: int,
    num_steps: int,
    progress: Progress | None,
) -> Any:
    from datasets import Dataset
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback, ProgressCallback
    from trl import SFTTrainer

    class Trainer(SFTTrainer):
        """TRL's trainer with the distillation term where the batch carries teacher targets."""

        num_tokens = 0
        num_supervised_tokens = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.history: list[dict[str, float]] = []

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            self.num_tokens += int(inputs["attention_mask"].sum())
            self.num_supervised_tokens += int(predicts_supervised(inputs["labels"]).sum())
            loss = mixed_loss(model, inputs, config.kd.weight if "target_ids" in inputs else 0.0, num_items_in_batch)
            if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                loss = (
                    loss * self.accelerator.num_processes
                )  # the count is of all processes, their gradients' mean is taken
            return (loss, None) if return_outputs else loss

    class Report(TrainerCallback):
        """Every step's figures for ``metrics.jsonl`` and the caller."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            step, loss = int(state.global_step), float(logs["loss"])
            if not math.isfinite(loss):
                raise TrainingDivergedError(
                    f"the loss is {loss} at step {step} of {num_steps}; lower train.learning_rate"
                )
            lr = float(logs["learning_rate"])
            trainer.history.append({"step": step, "loss": round(loss, 6), "lr": lr, "tokens": trainer.num_tokens})
            if progress:
                progress(step, num_steps, loss)

    data = {
        "input_ids": [example.input_ids for _, example in rows],
        "labels": [example.labels for _, example in rows],
        "index": [index for index, _ in rows],
    }
    trainer = Trainer(
        model=_with_lora(model, config),
        args=_arguments(config, out, seed, num_steps),
        train_dataset=Dataset.from_dict(data),
        processing_class=tokenizer,
        data_collator=lambda batch: collate(batch, tokenizer.pad_token_id, targets),
        callbacks=[Report()],
    )
    # They print; ours is the only progress.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def _arguments(config: TrainConfig, out: Path, seed: int, num_steps: int) -> Any:
    import torch
    from trl import SFTConfig

    micro = config.micro_batch_size or config.batch_size
    arguments = SFTConfig(
        output_dir=str(out),
        max_steps=num_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        learning_rate=config.learning_rate,
        lr_scheduler_type=_SCHEDULES[config.schedule],
        warmup_steps=round(config.warmup_ratio * num_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.dtype == "bfloat16",
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
    # Without a launcher the trainer would spread each batch over all visible GPUs in threads (DataParallel): slow, and
    # the token count that the loss is divided by arrives once per GPU.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


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


def collate(batch: Sequence[dict[str, Any]], pad_id: int, targets: Targets | None = None) -> dict[str, Any]:
    """Right-pad a batch; teacher targets are concatenated over the supervised positions of the whole batch."""
    import torch

    from sft.targets import pad_batch

    encoded = [Encoded(row["input_ids"], row["labels"]) for row in batch]
    tokens, mask, labels = pad_batch(encoded, pad_id)
    out = {"input_ids": tokens, "attention_mask": mask, "labels": labels}
    if targets is not None:
        parts = [targets.of(row["index"], example) for row, example in zip(batch, encoded, strict=True)]
        out["target_ids"] = torch.cat([torch.from_numpy(ids) for ids, _ in parts])
        out["target_logp"] = torch.cat([torch.from_numpy(logp) for _, logp in parts])
    return out


def mixed_loss(model: Any, inputs: dict[str, Any], kd_weight: float, num_items: Any) -> Any:
    """(1 - w) * cross-entropy + w * forward KL, summed over supervised tokens and divided by their global count.

    ``num_items`` is the number of supervised tokens of the whole optimizer step, so that gradient accumulation gives
    exactly the gradient of one large batch.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    labels = inputs["labels"]
    supervised = predicts_supervised(labels)
    logits = selected_logits(model, inputs["input_ids"], inputs["attention_mask"], supervised)
    count = num_items if num_items is not None else supervised.sum()
    parts = [logits, labels[:, 1:][supervised[:, :-1]]]
    if kd_weight > 0:
        if len(logits) != len(inputs["target_ids"]):
            raise TrainingDataError(f"{len(logits)} supervised tokens but {len(inputs['target_ids'])} teacher targets")
        parts += [inputs["target_ids"], inputs["target_logp"]]
    # Computed again on the way back, slice by slice: the losses' own arrays are as large as the logits, each.
    losses = [
        checkpoint(_summed_loss, kd_weight, *slices, use_reentrant=False, preserve_rng_state=False)
        for slices in zip(*(part.split(POSITIONS_PER_SLICE) for part in parts), strict=True)
    ]
    loss = torch.stack(losses).sum()
    return loss / torch.as_tensor(count, device=loss.device)


def _summed_loss(kd_weight: float, logits: Any, labels: Any, target_ids: Any = None, target_logp: Any = None) -> Any:
    from torch.nn.functional import cross_entropy

    from sft.losses import forward_kl_with_tail

    loss = (1 - kd_weight) * cross_entropy(logits.float(), labels, reduction="sum")
    if kd_weight > 0:
        loss = loss + kd_weight * forward_kl_with_tail(logits, target_ids, target_logp).sum()
    return loss


def _save(model: Any, tokenizer: Any, dtype: str, out: Path) -> None:
    import torch

    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    try:
        model.generation_config.validate(strict=True)
    except ValueError:  # the author left sampling settings beside do_sample=false, which cannot be saved
        model.generation_config.do_sample = True
    with saving(out), quiet():
        model.to(getattr(torch, dtype)).save_pretrained(out)
    tokenizer.save_pretrained(out)
