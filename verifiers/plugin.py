"""Verifiers of the user's own: a class in a file, in an installed module, or registered by a package.

A plug-in is one short file::

    from verifiers import Outcome, TextVerifier, Verdict, VerifyTask

    class Check(TextVerifier):
        name, version, REASONS = "even", 1, ("even", "odd")

        def verify(self, task: VerifyTask) -> Verdict:
            even = int(task.response.split()[-1]) % 2 == 0
            return Verdict(Outcome.CORRECT if even else Outcome.INCORRECT, "even" if even else "odd")

With a pydantic model ``Config`` on the class, ``options`` of the recipe are read into it and ``__init__`` gets it as
``config``. ``verify`` runs in a worker process with hard limits; what it raises becomes ``error/checker_failed``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifierError, VerifyTask, error_verdict
from verifiers.config import PluginConfig
from verifiers.verdict import Verdict

__all__ = ["PluginVerifier", "load_check"]

ENTRY_POINTS = "factory_verifiers"
"""Group under which an installed package registers verifiers by name."""


def load_check(reference: str) -> type[Any]:
    """The class that ``reference`` names: ``./file.py:Class``, ``package.module:Class``, or a registered name.

    Raises:
        VerifierError: when there is none, or it is no verifier.
    """
    if ":" not in reference:
        found = [point for point in importlib.metadata.entry_points(group=ENTRY_POINTS) if point.name == reference]
        if not found:
            known = sorted({point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)})
            raise VerifierError(
                f"no verifier {reference!r} is registered (registered: {', '.join(known) or 'none'});"
                " write ./file.py:Class or package.module:Class for one that is not"
            )
        loaded = found[0].load()
    else:
        place, _, name = reference.rpartition(":")
        module = _file_module(Path(place)) if place.endswith(".py") else _module(place)
        loaded = getattr(module, name, None)
    if not isinstance(loaded, type) or not callable(getattr(loaded, "verify", None)):
        raise VerifierError(f"{reference}: there is no class with a method `verify(task)`")
    lacks = [field for field in ("name", "version", "REASONS") if not hasattr(loaded, field)]
    if lacks:
        raise VerifierError(f"{reference}: the class lacks {', '.join(lacks)}")
    return loaded


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise VerifierError(f"verifier module {name}: {error}") from error


def _file_module(path: Path) -> Any:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise VerifierError(f"there is no verifier file {path}")
    name = f"_factory_verifier_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise VerifierError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may do anything at import
        raise VerifierError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


class PluginVerifier(TextVerifier):
    """Runs a class of the user's own as a verifier."""

    PRELOAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: PluginConfig) -> None:
        super().__init__(config.time_limit_s)
        check = load_check(config.check)
        self.name: str = check.name
        self.version: int = check.version
        self.REASONS: tuple[str, ...] = (*check.REASONS, *INFRASTRUCTURE_REASONS)
        self._check = _construct(check, config)

    def settle(self, task: VerifyTask) -> None:
        """Always left to a worker: nothing is known about what the class does."""

    def verify(self, task: VerifyTask) -> Verdict:
        """The class's verdict, with its name, version and seconds filled in."""
        start = time.perf_counter()
        try:
            verdict = self._check.verify(task)
        except Exception:  # of the user's class: a recorded row, not the end of the run
            return error_verdict(self, "checker_failed", time.perf_counter() - start)
        if not isinstance(verdict, Verdict) or verdict.reason not in self.REASONS:
            return error_verdict(self, "checker_failed", time.perf_counter() - start)
        return replace(verdict, verifier=f"{self.name}@{self.version}", seconds=time.perf_counter() - start)

    def render(self, gold: str) -> str | None:
        """The class's own, where it has one."""
        own = getattr(self._check, "render", None)
        return own(gold) if callable(own) else None

    def close(self) -> None:
        """The class's own, where it has one."""
        own = getattr(self._check, "close", None)
        if callable(own):
            own()


def _construct(check: type[Any], config: PluginConfig) -> Any:
    options = dict(config.options)
    shape = getattr(check, "Config", None)
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        try:
            return check(config=shape.model_validate(options))
        except ValidationError as error:
            raise VerifierError(f"verify.options of {config.check}: {error}") from error
    if options:
        raise VerifierError(f"verify.options: {config.check} takes none (its class has no pydantic model `Config`)")
    return check()


VERIFIER = PluginVerifier
