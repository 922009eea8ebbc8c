"""Tasks of the package ``reasoning-gym``, judged by the package's own scorers.

The reference is JSON text: ``{"dataset": "chain_sum", "entry": {"question": ..., "answer": ..., "metadata": {...}}}``.
The scorers are used as they are, behind five guards that they turned out to need:

- Some of them run ``eval`` or sympy's parser (which is ``eval`` again) on what the model wrote. Where the source of a
  scorer does so, only plain literals and arithmetic are handed to it; all else is ``incorrect/unsafe_answer``.
- Some compare tuples, which JSON turns into lists: an entry whose own answer scores with tuples only gets them back.
- Some give a little for any answer, or raise on text they cannot read: only ``threshold`` counts, and an exception is
  the response's fault (``incorrect/unparsed_answer``) exactly if the reference's own answer scores.
- A few accept any text for some entries (``game_of_life_halting`` does, where the answer is True). Where nonsense
  passes, only the reference's own words count (else ``incorrect/scorer_accepts_all``).
- A response is only called incorrect by a scorer that accepts the reference's own answer; otherwise the verdict is
  ``unverifiable/gold_rejected``. Entries without an answer (puzzles with many solutions) cannot be tried like that.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifierError, VerifyTask, recorded
from verifiers.config_more import ReasoningGymConfig
from verifiers.extract import explicit_answer, extract_answer, final_text
from verifiers.verdict import Outcome, Verdict

__all__ = ["ReasoningGymVerifier"]

Scorer = Callable[..., float]

_LONGEST_ANSWER = 100_000
_NONSENSE = "qwxzv jkpf"
_RUNS_CODE = re.compile(r"(?<![\w.])(?:eval|exec)\s*\(")
_RUNS_SYMPY = re.compile(r"\b(?:sympy\.|sp\.)?(?:parse_expr|sympify|S)\s*\(")
_FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
    ]
    + ["exp", "log", "ln", "sqrt", "abs", "Abs"]
)
_ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Load),
    *(ast.Tuple, ast.List, ast.Set, ast.Dict),
)
_CALL = re.compile(r"([^\W\d]\w*)\s*\(")
_UNREADABLE_BUT_PLAIN = re.compile(r"(?:[^\"'`\\@#:;{}\[\]_.]|_(?!_)|\.(?=\d))*")


class _Gold(NamedTuple):
    dataset: str
    entry: dict[str, Any]


class _Finding(NamedTuple):
    outcome: Outcome
    reason: str
    answer: str | None = None
    rule: str | None = None
    score: float | None = None


class ReasoningGymVerifier(TextVerifier):
    """The scorer of the task gives the answer the full score.

    Raises:
        VerifierError: on construction, when the package is not installed.
    """

    name: ClassVar[str] = "reasoning_gym"
    version: ClassVar[int] = 1
    REASONS: ClassVar[tuple[str, ...]] = (
        "full_score",
        "low_score",
        "unparsed_answer",
        "unsafe_answer",
        "no_answer",
        "truncated",
        "gold_unparsed",
        "gold_rejected",
        "scorer_accepts_all",
        "unknown_dataset",
        *INFRASTRUCTURE_REASONS,
    )
    PRELOAD: ClassVar[tuple[str, ...]] = ("reasoning_gym",)

    def __init__(self, config: ReasoningGymConfig | None = None) -> None:
        config = config or ReasoningGymConfig()
        super().__init__(config.time_limit_s)
        if importlib.util.find_spec("reasoning_gym") is None:
            raise VerifierError("the verifier reasoning_gym needs the package: pip install reasoning-gym")
        self._threshold = config.threshold

    def settle(self, task: VerifyTask) -> None:
        """None, whatever the row: the time of a foreign scorer is not bounded."""

    def verify(self, task: VerifyTask) -> Verdict:
        """The verdict, with the score in ``detail``. Never raises on any text; run it in a ``VerifierPool``."""
        return recorded(self, self._verdict, task)

    def _verdict(self, task: VerifyTask) -> Verdict:
        outcome, reason, answer, rule, score = self._find(task)  # foreign scorers raise anything
        return Verdict(outcome, reason, answer, rule, detail=None if score is None else json.dumps({"score": score}))

    def render(self, gold: str) -> str | None:
        """The entry's own answer between tags; None where the entry has none."""
        parsed = _read_gold(gold)
        answer = parsed.entry.get("answer") if parsed else None
        return f"<answer>{answer}</answer>" if isinstance(answer, str) else None

    def _find(self, task: VerifyTask) -> _Finding:
        gold = _read_gold(task.gold)
        if gold is None:
            return _Finding(Outcome.UNVERIFIABLE, "gold_unparsed")
        scorer = _scorer(gold.dataset)
        if scorer is None:
            return _Finding(Outcome.UNVERIFIABLE, "unknown_dataset")
        if task.finish_reason == "length" or extract_answer(task.response).truncated:
            return _Finding(Outcome.INCORRECT, "truncated")
        best = _Finding(Outcome.INCORRECT, "no_answer")
        for answer, rule in _candidates(task.response):
            finding = self._score(scorer, gold, answer, rule)
            if finding.outcome is not Outcome.INCORRECT:
                return finding
            if best.reason == "no_answer" or (finding.score or 0.0) > (best.score or 0.0):
                best = finding
        return best

    def _score(self, scorer: Scorer, gold: _Gold, answer: str, rule: str) -> _Finding:
        if not _is_safe(scorer, answer):
            return _Finding(Outcome.INCORRECT, "unsafe_answer", answer, rule)
        own = gold.entry.get("answer")
        entry = gold.entry
        if isinstance(own, str):
            variants = (entry, _with_tuples(entry))
            scoring = next((v for v in variants if (_try(scorer, own, v) or 0.0) >= self._threshold), None)
            if scoring is None:
                return _Finding(Outcome.UNVERIFIABLE, "gold_rejected", answer, rule)
            entry = scoring
        score = _try(scorer, answer, entry)
        if score is None:
            if not isinstance(own, str) and _try(scorer, _NONSENSE, entry) is None:
                raise ValueError("the scorer fails on any text")
            return _Finding(Outcome.INCORRECT, "unparsed_answer", answer, rule)
        if score < self._threshold:
            return _Finding(Outcome.INCORRECT, "low_score", answer, rule, score)
        if answer != own and (_try(scorer, _NONSENSE, entry) or 0.0) >= self._threshold:
            return self._without_scorer(own, answer, rule, score)
        return _Finding(Outcome.CORRECT, "full_score", answer, rule, score)

    def _without_scorer(self, own: Any, answer: str, rule: str, score: float) -> _Finding:
        """The verdict where the scorer accepts nonsense: only the reference's own words count."""
        if not isinstance(own, str):
            return _Finding(Outcome.UNVERIFIABLE, "scorer_accepts_all", answer, rule, score)
        same = " ".join(own.split()).casefold() == " ".join(answer.split()).casefold()
        if same:
            return _Finding(Outcome.CORRECT, "full_score", answer, rule, score)
        return _Finding(Outcome.INCORRECT, "scorer_accepts_all", answer, rule, score)


VERIFIER = ReasoningGymVerifier


@functools.lru_cache(maxsize=64)
def _read_gold(gold: str) -> _Gold | None:
    try:
        value = json.loads(gold)
    except (ValueError, RecursionError):
        return None
    entry = value.get("entry") if isinstance(value, dict) else None
    if not isinstance(entry, dict) or "answer" not in entry:
        return None
    metadata = entry.get("metadata")
    dataset = value.get("dataset") or (metadata.get("source_dataset") if isinstance(metadata, dict) else None)
    return _Gold(dataset, entry) if isinstance(dataset, str) else None


@functools.cache
def _scorer(dataset: str) -> Scorer | None:
    from reasoning_gym.factory import DATASETS, get_score_answer_fn

    return get_score_answer_fn(dataset) if dataset in DATASETS and dataset != "composite" else None


def _candidates(response: str) -> list[tuple[str, str]]:
    """What may be the answer: the marked one, else the whole final text (grids have many lines), else a last number."""
    final = final_text(response)
    marked = explicit_answer(final)
    found = [marked] if marked else []
    if marked and marked[1] == "answer_is":  # a grid begins below the announcement and has more than one line
        at = final.rfind(marked[0])
        found.append((final[at:].strip(), "answer_is"))
    if not marked:
        if final.strip():
            found.append((final.strip(), "whole"))
        answer, rule, _ = extract_answer(response)
        if answer is not None and rule is not None:
            found.append((answer, rule))
    return [(answer, rule) for answer, rule in dict.fromkeys(found) if answer]


def _try(scorer: Scorer, answer: str, entry: dict[str, Any]) -> float | None:
    """The score; None when the scorer raises or returns no number."""
    try:
        score = scorer(answer=answer, entry=entry)
    except Exception:  # foreign code on foreign text
        return None
    is_number = isinstance(score, (bool, int, float)) and math.isfinite(score)
    return float(score) if is_number else None


def _with_tuples(value: Any) -> Any:
    """Lists as tuples, below dictionaries too."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list) else value


@functools.cache
def _dangers(scorer: Scorer) -> tuple[bool, bool]:
    """Whether a scorer's modules run ``eval``, and whether they run sympy's parser. Unknown source: both."""
    kind = type(getattr(scorer, "__self__", None))
    names = {base.__module__ for base in kind.__mro__ if base.__module__.startswith("reasoning_gym.")}
    try:
        source = "\n".join(inspect.getsource(sys.modules[name]) for name in sorted(names))
    except (OSError, TypeError, KeyError):
        return True, True
    if not source:
        return True, True
    return bool(_RUNS_CODE.search(source)), bool(_RUNS_SYMPY.search(source))


def _is_safe(scorer: Scorer, answer: str) -> bool:
    """Whether this text may be given to this scorer."""
    if len(answer) > _LONGEST_ANSWER:
        return False
    runs_code, runs_sympy = _dangers(scorer)
    if not runs_code and not runs_sympy:
        return True
    return _is_plain(answer, strings=not runs_sympy)


def _is_plain(answer: str, strings: bool) -> bool:
    """Whether evaluating the text can do nothing but arithmetic.

    Strings are refused where sympy reads the text: it evaluates them again. Names without a call are symbols.
    """
    try:
        tree = ast.parse(answer.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        # Python cannot read it, but sympy may (``5!``, ``2 x``) and other notations are harmless (``P -> Q``).
        calls = all(len(name) == 1 or name in _FUNCTIONS for name in _CALL.findall(answer))
        return calls and _UNREADABLE_BUT_PLAIN.fullmatch(answer) is not None
    return all(_is_plain_node(node, strings) for node in ast.walk(tree))


def _is_plain_node(node: ast.AST, strings: bool) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (bool, int, float, complex)) or (strings and isinstance(node.value, str))
    if isinstance(node, ast.Name):
        return "__" not in node.id
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not strings and not node.keywords
    return isinstance(node, _ARITHMETIC)
