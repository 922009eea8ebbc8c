"""What several test files share: the shipped tiny models, and the labelled data where it is there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from factory import runtime

runtime.prepare()  # before anything imports torch
# A shell has its background jobs ignore Ctrl-C, and children inherit that: the tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "recipes" / "quickstart" / "models"


@pytest.fixture(scope="session")
def tiny_model() -> str:
    """The shipped base student: a Llama of 0.7 million parameters with a chat template."""
    return str(MODELS / "base")


@pytest.fixture(scope="session")
def tiny_teacher() -> str:
    """A shipped teacher with the student's vocabulary."""
    return str(MODELS / "steady")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public evaluation data beside the repository; skips where it is not there."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no evaluation data at {folder}")
    return folder
