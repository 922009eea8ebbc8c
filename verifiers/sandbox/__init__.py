"""Running code that no one has read: a sandbox with a warm parent inside, and the channel to it."""

from __future__ import annotations

from verifiers.sandbox.host import Cell, Job, Sandbox, SandboxFailedError, TesterChannel, ensure_available
from verifiers.sandbox.policy import SandboxUnavailableError

__all__ = [
    "Cell",
    "Job",
    "Sandbox",
    "SandboxFailedError",
    "SandboxUnavailableError",
    "TesterChannel",
    "ensure_available",
]
