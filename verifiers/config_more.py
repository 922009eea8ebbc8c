"""Settings of the verifiers beside mathematics, exact text and code.

``CombineConfig`` holds configs of other verifiers and so refers to the union that it is itself a part of: the module
that forms the union (``VerifyConfig``) calls ``complete_combine_config`` once with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from verifiers.config_base import VerifierConfig

if TYPE_CHECKING:
    from verifiers.config import VerifyConfig


class ChoiceConfig(VerifierConfig):
    """Multiple choice: the response names the right option by its letter or by its text."""

    kind: Literal["choice"] = "choice"
    """Selects this verifier."""
    num_options: int | None = Field(default=None, ge=2, le=10)
    """How many options a question has. Default: as many as are found in it, else up to ten (A to J)."""


class RegexConfig(VerifierConfig):
    """A regular expression (Python's syntax) that the answer has to match."""

    kind: Literal["regex"] = "regex"
    """Selects this verifier."""
    pattern: str | None = None
    """The expression for all rows. Default: the reference of each row is its expression."""
    match: Literal["fullmatch", "search"] = "fullmatch"
    """Whether the expression covers the whole text or occurs in it."""
    part: Literal["answer", "final"] = "answer"
    """What is matched: the extracted answer, or all that the response says after its reasoning."""
    ignore_case: bool = False
    """Match without regard to case."""


class ReasoningGymConfig(VerifierConfig):
    """The scorer of a task of the package ``reasoning-gym``."""

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    """Selects this verifier."""
    threshold: float = Field(default=1.0, gt=0, le=1)
    """Lowest score that counts as correct. Some scorers give a little for any answer at all."""


class SecondMathConfig(VerifierConfig):
    """math-verify's own extraction and comparison: the second opinion of an audit, not meant to decide."""

    kind: Literal["second_math"] = "second_math"
    """Selects this verifier."""


class JudgeConfig(VerifierConfig):
    """A language model compares the response with the reference."""

    kind: Literal["judge"] = "judge"
    """Selects this verifier."""
    num_votes: int = Field(default=2, ge=1, le=15)
    """Questions asked per response: every other one shows the response before the reference. More than half must agree,
    so 2 means that both orders do."""
    seed: int = 0
    """Part of the secret marks of each request; keep it out of what the judged model can read."""
    part: Literal["answer", "final", "whole"] = "answer"
    """What the judge sees: the marked answer (where nothing is marked, all after the reasoning), all after the
    reasoning, or the whole response."""
    max_response_chars: int = Field(default=4000, ge=100, le=200_000)
    """Longest text shown to the judge; of a longer one its end."""
    max_question_chars: int = Field(default=20_000, ge=0, le=200_000)
    """Longest question and reference shown: a longer question is cut at its end, a longer reference is unverifiable."""
    require_quote: bool = True
    """The judge must quote the answer it graded, word for word; a vote whose quote is not in the response is void."""
    rubric: str = ""
    """What else the judge should know, for example how exact a number must be."""
    batch_size: int = Field(default=64, ge=1, le=10_000)
    """Responses per call of the model."""


class CombineConfig(VerifierConfig):
    """Several verifiers, one verdict (truth tables in ``verifiers.combine``)."""

    kind: Literal["all_of", "any_of", "first_decided"]
    """``all_of``: correct where all say so. ``any_of``: correct where one says so. ``first_decided``: the first that
    says correct or incorrect."""
    members: tuple[VerifyConfig, ...] = Field(min_length=1, max_length=16)
    """The verifiers, in the order in which they are asked. A judge cannot be one: give it the rows that are still
    unverifiable."""


def complete_combine_config(union: Any) -> None:
    """Tell ``CombineConfig`` what its members may be: the discriminated union of all configs, itself included."""
    CombineConfig.model_rebuild(force=True, _types_namespace={"VerifyConfig": union})
