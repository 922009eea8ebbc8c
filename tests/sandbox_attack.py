"""What the tests of the sandbox share: one verifier, the check that an attack left nothing behind, and ways to ask."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from verifiers.base import VerifyTask
from verifiers.code import CodeVerifier
from verifiers.config import CodeConfig
from verifiers.verdict import Verdict

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

SQUARE = "n = int(input())\nprint(n * n)"
RIGHT = {"inputs": ["3\n", "5\n"], "outputs": ["9\n", "25\n"]}
MOST_PROCESSES = 3  # bubblewrap, the warm parent, one idle cell
CONFIG = CodeConfig(time_limit_s=1.0, memory_mb=192, total_time_limit_s=30)


def judge(verifier: CodeVerifier, code: str, gold: dict[str, Any]) -> Verdict:
    program = textwrap.dedent(code)
    return verifier.verify(VerifyTask("attack", f"```python\n{program}\n```", json.dumps(gold)))


def descendants() -> set[int]:
    """Live processes below this one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {os.getpid()}
    for _ in range(len(parents)):
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            break
        found |= more
    return found - {os.getpid()}


@pytest.fixture(scope="module")
def shared() -> Iterator[CodeVerifier]:
    verifier = CodeVerifier(CONFIG)
    yield verifier
    verifier.close()


@pytest.fixture
def verifier(shared: CodeVerifier) -> Iterator[CodeVerifier]:
    """The sandbox that all attacks share; fails the test where one has left a trace."""
    yield shared
    assert judge(shared, SQUARE, RIGHT).reason == "passed"
    assert judge(shared, "print(1)", RIGHT).reason == "wrong_output"
    assert len(descendants()) <= MOST_PROCESSES


def output(verifier: CodeVerifier, code: str, stdin: str = "") -> str:
    """What the program prints (the test expects something else)."""
    verdict = judge(verifier, code, {"inputs": [stdin], "outputs": ["nothing of the kind"]})
    failure = json.loads(verdict.detail or "{}")["first_failure"]
    assert verdict.reason == "wrong_output", failure
    return str(failure["got"]).strip()


def refusal(verifier: CodeVerifier, statement: str) -> str:
    """Name of the exception that a statement ends with, or ``done``."""
    body = textwrap.indent(textwrap.dedent(statement).strip(), "    ")
    code = f"import ctypes, os, socket, subprocess, sys\ntry:\n{body}\n    print('done')\n"
    return output(verifier, code + "except Exception as error:\n    print(type(error).__name__)")


def call(number: int, *arguments: int) -> str:
    """A statement that makes a system call and raises where the kernel refuses."""
    numbers = ", ".join(map(str, (number, *arguments)))
    return f"""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall({numbers}) < 0: raise OSError(ctypes.get_errno(), 'refused')
    """


x86_only = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls of x86-64")
