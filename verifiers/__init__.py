"""Is this answer right? Verdicts on model responses, alone or in a pool of worker processes with hard limits.

Importing this package loads no symbolic mathematics: that happens inside the checker, when a row needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from verifiers.base import TextVerifier, Verifier, VerifierError, VerifyTask
from verifiers.config import CodeConfig, ExactConfig, JudgeConfig, MathConfig, PluginConfig, VerifyConfig
from verifiers.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from verifiers.pool import VerifierPool

__all__ = [
    "CodeConfig",
    "ExactConfig",
    "MathConfig",
    "Outcome",
    "PluginConfig",
    "TextVerifier",
    "Verdict",
    "Verifier",
    "VerifierError",
    "VerifierPool",
    "VerifyConfig",
    "VerifyTask",
    "build_verifier",
]


_MODULES = {"all_of": "combine", "any_of": "combine", "first_decided": "combine"}


def build_verifier(config: VerifyConfig | JudgeConfig) -> Verifier:
    """The verifier that ``config.kind`` names: ``VERIFIER`` of ``verifiers.<kind>`` (``combine`` for combinators).

    A judge's decides only the rows for which no model is asked; the others are ``judge_all``'s.
    """
    module = import_module(f"{__name__}.{_MODULES.get(config.kind, config.kind)}")
    verifier: Verifier = module.VERIFIER(config)
    return verifier


def __getattr__(name: str) -> Any:
    if name == "VerifierPool":
        from verifiers.pool import VerifierPool

        return VerifierPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
