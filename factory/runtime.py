"""What must be settled in the process before torch does heavy work: memory allocator, noise of other libraries."""

from __future__ import annotations

import contextlib
import ctypes
import os
import warnings

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_TOP_PAD_BYTES = 128 * 2**20

_ready = False


def prepare() -> None:
    """Call before the first import of torch. Idempotent; does nothing to results, only to speed and noise."""
    global _ready
    if _ready:
        return
    _ready = True
    _keep_freed_memory()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate|torch)\b.*")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\b.*")


def _keep_freed_memory() -> None:
    """Have glibc keep freed tensors instead of returning them after every step: the next step touches warm pages.

    On machines where the first touch of a page is slow this trains small models several times faster on a CPU.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to tune
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)
