"""Every error a user can cause or meet. A message says where, what, got, allowed, and what to do next."""

from __future__ import annotations


class FactoryError(Exception):
    """Base of all errors that the command line shows as a message instead of a traceback."""


class RecipeError(FactoryError, ValueError):
    """The recipe (or a ``--set``) is wrong; the message lists every problem found, with its line."""


class DataError(FactoryError, ValueError):
    """An input file or data set cannot be used."""


class ModelError(FactoryError, RuntimeError):
    """A model cannot be found, loaded, or used for what the recipe asks."""


class EngineError(FactoryError, RuntimeError):
    """An engine cannot go on (server unreachable, key refused). Never a verdict on a model's answer."""


class WorkspaceError(FactoryError, RuntimeError):
    """The workspace cannot be used: locked by another run, read-only, or the disk is full."""


class StageError(FactoryError, RuntimeError):
    """A stage cannot produce a usable result (for example: nothing was accepted, so nothing can be trained)."""
