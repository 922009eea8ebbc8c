"""What can go wrong while loading models or preparing training data."""

from __future__ import annotations


class ModelLoadError(RuntimeError):
    """The model reference cannot be found or loaded; the message says what was tried and what is allowed."""


class TrainingDataError(ValueError):
    """The examples, tokenizer or teacher targets do not fit together; nothing was trained."""


class TrainingDivergedError(RuntimeError):
    """The loss became infinite or not a number; no student was saved."""
