"""What a process that computes with torch needs set before it allocates. Call ``prepare`` early; it is cheap."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 * 2**20
_NEVER_TRIM = 2**31 - 1


def prepare() -> None:
    """Keep freed memory instead of giving it back after every step, and silence other libraries' own progress.

    glibc returns large tensors to the system when they are freed, and the next step pays for touching fresh pages:
    several times the compute of a small model on some machines. Settings of the user's own environment win.
    """
    # Threads that wait by spinning make a step many times slower as soon as another program wants one of the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate|torch)\b.*")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\b.*")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if sys.platform == "linux" and not any(name.startswith("MALLOC_") for name in os.environ):
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent under musl
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
        mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)
