"""The program in a response: the last fenced block of what follows the reasoning."""

from __future__ import annotations

import ast
import re
import warnings
from typing import NamedTuple

from verifiers.extract import final_text, split_reasoning

_FENCE = re.compile(r"^[ \t]{0,12}(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^`\n]*$", re.MULTILINE)
_PYTHON = frozenset(["python", "py", "python3", "python2", "cpython", "pypy", "pypy3", "sage", "ipython"])
_LONGEST_BARE = 200_000


class Program(NamedTuple):
    """What was taken to be the solution."""

    code: str | None
    rule: str | None
    """``fence_python``, ``fence`` (no language given), ``fence_open`` (never closed), ``whole``."""
    truncated: bool


class _Block(NamedTuple):
    language: str
    code: str
    closed: bool


def extract_program(response: str, finish_reason: str | None = None) -> Program:
    """The solution in a response.

    The last block that is marked as Python counts; else the last one without a language (what follows a solution is
    often its output in a bare block); else the whole text, if it is a Python program.
    """
    if finish_reason == "length" or split_reasoning(response).truncated:
        return Program(None, None, truncated=True)
    text = final_text(response)
    blocks = _blocks(text)
    for rule, wanted in (("fence_python", _PYTHON), ("fence", frozenset([""]))):
        chosen = [block for block in blocks if block.language in wanted and block.code.strip()]
        if chosen:
            return Program(chosen[-1].code, rule if chosen[-1].closed else "fence_open", truncated=False)
    if not blocks and _is_program(text):
        return Program(text, "whole", truncated=False)
    return Program(None, None, truncated=False)


def _blocks(text: str) -> list[_Block]:
    blocks: list[_Block] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif not fence[2] and fence[1].startswith(opened[1]):
            blocks.append(_Block(opened[2].lower(), _inner(text, opened, fence.start()), closed=True))
            opened = None
        elif fence[2].lower() in _PYTHON and fence[1] == opened[1] and opened[2] == "":
            opened = fence  # what looked like an opening fence was a stray closing one
    if opened is not None:
        blocks.append(_Block(opened[2].lower(), _inner(text, opened, len(text)), closed=False))
    return blocks


def _inner(text: str, opened: re.Match[str], end: int) -> str:
    """The lines of a block, without the indentation that its fence has (a block in a list item)."""
    code = text[opened.end() + 1 : end]
    indent = re.match(r"[ \t]*", text[opened.start() :])
    if indent is None or not indent[0]:
        return code
    return "\n".join(line.removeprefix(indent[0]) for line in code.split("\n"))


def _is_program(text: str) -> bool:
    """Whether a text without fences is Python, and more than words and numbers that happen to parse."""
    if len(text) > _LONGEST_BARE:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(
        not isinstance(node, ast.Expr | ast.Pass | ast.AnnAssign)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        for node in tree.body
    )
