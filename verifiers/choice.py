"""Multiple choice: which option does the response name, by its letter or by its text?

Options, where they are known, are read from the question (``A. foo``, ``(A) foo``, ``A) foo``; one line or several).
A marked answer (box, tag, ``####``, "the answer is") is read first; where nothing is marked, a response that is or
begins with a letter or an option; last, letters that prose points at ("option C", "I think it's C") and options that it
concludes with ("so it must be Paris"), if it points at one only. What is refused on purpose:

- "A" and "I" as words: ``A cat`` names no option, nor does ``I think``; they need brackets, punctuation or a box.
- Two letters ("A or B", "(A)(B)"), and a letter beside another option's text ("B. Paris" or "Paris (B)" where it is C).
- Letters that are denied ("not A", "A is wrong", "rather than A"), doubted ("could be A", "A?") or somebody else's
  ("many would say the answer is A").
- The lines of a walk through the options ("A. London - no ... C. Paris - yes"): none counts for its place, only the one
  that is affirmed, and only where the question does not ask what is *not* so.
- An answer that is changed. Of several "the answer is", the last counts; but where other words follow that commit to
  another option ("wait, it should be D") or take the answer back, it is ``several_answers`` and never accepted.
- A text answer where the options are not known, or a letter where only the reference's text is: nobody can say, so the
  verdict is ``unverifiable/options_unknown`` and not a guess.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from verifiers import choice_wording as w
from verifiers.base import INFRASTRUCTURE_REASONS, TextVerifier, VerifyTask, recorded
from verifiers.choice_options import (
    LETTERS,
    Options,
    by_text,
    by_value,
    plain,
    read_options,
    same_text,
    same_value,
)
from verifiers.choice_reading import LONGEST_TAIL, Reader, Reading
from verifiers.config_more import ChoiceConfig
from verifiers.extract import explicit_answer, extract_answer, final_text
from verifiers.verdict import Outcome, Verdict

__all__ = ["LETTERS", "ChoiceVerifier", "Options", "read_options"]

_LONGEST_BOUNDED = 100_000


class _Gold(NamedTuple):
    letters: frozenset[str]
    """Empty: only the text is known."""
    text: str


class ChoiceVerifier(TextVerifier):
    """The option that the response names is the reference's."""

    name: ClassVar[str] = "choice"
    version: ClassVar[int] = 2
    REASONS: ClassVar[tuple[str, ...]] = (
        "same_letter",
        "same_text",
        "mismatch",
        "no_answer",
        "no_option",
        "several_answers",
        "letter_text_conflict",
        "truncated",
        "gold_no_option",
        "options_unknown",
        *INFRASTRUCTURE_REASONS,
    )
    PRELOAD: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ChoiceConfig | None = None) -> None:
        config = config or ChoiceConfig()
        super().__init__(config.time_limit_s)
        self._num_options = config.num_options

    def settle(self, task: VerifyTask) -> Verdict | None:
        """The verdict: every rule is linear in the text. Very long texts are left to a worker."""
        if len(task.response) + len(task.gold) + len(task.question) > _LONGEST_BOUNDED:
            return None
        return self.verify(task)

    def verify(self, task: VerifyTask) -> Verdict:
        """The verdict. Never raises on any text."""
        return recorded(self, self._verdict, task)

    def _verdict(self, task: VerifyTask) -> Verdict:
        outcome, reading = self._find(task)
        name = next(iter(sorted(reading.letters)), None) if len(reading.letters) == 1 else None
        return Verdict(outcome, reading.reason, name or (reading.text[:LONGEST_TAIL] or None), reading.rule)

    def _find(self, task: VerifyTask) -> tuple[Outcome, Reading]:
        options = read_options(task.question)
        known = "".join(options) or LETTERS[: self._num_options or len(LETTERS)]
        gold = _read_gold(task.gold, options, known)
        if gold is None:
            return Outcome.UNVERIFIABLE, Reading(reason="gold_no_option")
        if task.finish_reason == "length" or extract_answer(task.response).truncated:
            return Outcome.INCORRECT, Reading(reason="truncated")
        if not options and gold.text and len(gold.letters) == 1:
            options = {next(iter(gold.letters)): gold.text}
        reading = Reader(options, known, task.question).read(task.response)
        if reading.reason == "no_answer" and len(options) <= 1 and gold.text:
            whole = final_text(task.response)
            if len(whole) <= LONGEST_TAIL and same_text(gold.text, whole):
                return Outcome.CORRECT, Reading(reason="same_text", text=whole, rule="whole")
        return _compare(gold, reading, options)


VERIFIER = ChoiceVerifier


def _read_gold(gold: str, options: Options, known: str) -> _Gold | None:
    """The reference's option: its letter, its text, or both. None when it is no option."""
    marked = explicit_answer(gold)
    text = (marked[0] if marked else gold).strip()
    shown = plain(text)
    if not shown:
        return None
    bare = w.BARE.fullmatch(shown)
    if bare:
        letter = bare[1].upper()
        return _Gold(frozenset(letter), options.get(letter, "")) if letter in known else None
    named = by_text(options, text)
    if named:
        return _Gold(named, text)
    labelled = w.LABELLED.fullmatch(shown) or w.LETTER_WORD.fullmatch(shown)
    if labelled:
        *letters, rest = labelled.groups()
        letter = next(x for x in letters if x)
        if letter not in known or (options and by_text(options, rest) - {letter}):
            return None
        return _Gold(frozenset(letter), options.get(letter, rest))
    if options:
        valued = by_value(options, text)
        return _Gold(valued, text) if len(valued) == 1 else None
    return _Gold(frozenset(), text) if len(shown) > 1 and not w.RUN.fullmatch(shown) else None


def _compare(gold: _Gold, reading: Reading, options: Options) -> tuple[Outcome, Reading]:
    if reading.letters and gold.letters:
        if reading.letters & gold.letters:
            return Outcome.CORRECT, reading
        return Outcome.INCORRECT, reading._replace(reason="mismatch")
    if reading.letters:  # the reference is a text, and nobody knows which letter it has
        return Outcome.UNVERIFIABLE, reading._replace(reason="options_unknown")
    is_letter = w.BARE.fullmatch(reading.text) is not None
    if reading.reason == "no_option" and reading.rule is not None and len(options) <= 1 and not is_letter:
        if gold.text and (same_text(gold.text, reading.text) or same_value(gold.text, reading.text)):
            return Outcome.CORRECT, reading._replace(reason="same_text")
        if not gold.text:
            return Outcome.UNVERIFIABLE, reading._replace(reason="options_unknown")
        return Outcome.INCORRECT, reading._replace(reason="mismatch")
    return Outcome.INCORRECT, reading
