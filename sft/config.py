"""The recipe's ``train`` section."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraConfig(_Config):
    """Train low-rank adapters instead of all weights (merged into the saved student)."""

    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the adapters."""
    alpha: int = Field(default=32, ge=1)
    """Scale numerator of the adapters."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapters' input."""


class KdConfig(_Config):
    """Token-level distillation on captured teacher targets (top-k log-probs plus explicit tail mass)."""

    top_k: int = Field(default=20, ge=1, le=512)
    """Teacher log-probs kept per token; the rest of the mass is one explicit tail bucket, never renormalised away."""
    weight: float = Field(default=0.5, ge=0, le=1)
    """Loss = (1 - weight) * cross-entropy + weight * forward KL(teacher || student)."""


class TrainConfig(_Config):
    """How the student is taught. Every method starts from the same student and sees the same examples."""

    student: str = Field(min_length=1)
    """Base student: a local directory, a ``.gguf`` file, ``package:NAME`` (weights inside a package), or a hub id."""
    methods: tuple[Literal["sft", "kd"], ...] = ("sft",)
    """``sft``: cross-entropy on the traces. ``kd``: adds forward KL to the teacher's captured distributions."""
    epochs: float = Field(default=5.0, gt=0)
    """Passes over the curated set."""
    batch_size: int = Field(default=16, ge=1)
    """Sequences per optimizer step."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Sequences per forward pass; must divide batch_size. Default: batch_size."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    """Learning-rate schedule after the warm-up."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps spent warming up."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping."""
    max_length: int | None = Field(default=None, ge=8)
    """Longest training sequence in tokens; a longer example is dropped, never cut. Default: the student's limit."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Activations during training, and the saved student. (Weights that are trained stay in float32 meanwhile; frozen
    ones beside ``lora`` take this type.) On a CPU without bfloat16 instructions float32 is several times faster."""
    gradient_checkpointing: bool = False
    """Trade compute for memory."""
    lora: LoraConfig | None = None
    """Adapters instead of full fine-tuning."""
    kd: KdConfig = KdConfig()
    """Settings of the ``kd`` method."""

    @field_validator("methods")
    @classmethod
    def _methods_listed_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(f"needs one or more different methods of sft, kd; got {list(value)}")
        return value

    @field_validator("micro_batch_size")
    @classmethod
    def _divides(cls, value: int | None, info) -> int | None:  # type: ignore[no-untyped-def]
        batch = info.data.get("batch_size")
        if value is not None and batch is not None and batch % value:
            raise ValueError(f"must divide batch_size ({batch}), got {value}")
        return value
