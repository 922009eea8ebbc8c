"""Answers of another kind than the reference: a sentence for a number, an equation for an expression, words for either.

``False`` is said only where no reading makes the two the same; None leaves them to the symbolic core.
"""

from __future__ import annotations

import re

from verifiers.algebra import is_expression, split_relation
from verifiers.notation import as_words, is_clearly_text, is_list, split_items

_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_LONG_WORD = re.compile("[A-Za-z]{4}")
_HEDGE = re.compile(
    r"(?:\\text\s*\{\s*)?(?:at\s+least|at\s+most|(?:less|more|greater|fewer)\s+than|no\s+(?:more|less|fewer)\s+than)\b",
    re.IGNORECASE,
)
_STATES_NO_VALUE = re.compile(r"\\(?:cap|subset|subseteq|supset|supseteq|perp|parallel|cong|propto|notin)(?![A-Za-z])")
_UNITES = re.compile(r"\\cup(?![A-Za-z])")


def different_kinds(gold: str, answer: str) -> bool | None:
    """A number or expression is no sentence, and no equation or inequality either; words are no mathematics."""
    for text, other, is_gold in ((gold, answer, True), (answer, gold, False)):
        if not is_expression(text):
            continue
        words = as_words(other)
        if words is not None and len(words) > 3 and is_clearly_text(other) and not is_expression(other):
            return False
        sides, signs = split_relation(other)
        ends_in_value = len(signs) > 1 and "=" in signs  # a chain a = b = 5 states 5
        states_one = not is_list(_GROUPED.sub("", other)) and not (is_gold and ends_in_value)
        if signs and states_one and all(map(is_expression, sides)):
            return False
    return False if _is_only_words(answer, gold) or _is_no_value(answer, gold) else None


def _is_only_words(words: str, text: str) -> bool:
    r"""Whether words stand beside mathematics that holds other letters: ``acbd`` may be ``abcd``, theta ``\theta``."""
    plain = as_words(words)
    if plain is None or as_words(text) is not None or not _LONG_WORD.search(plain) or not _is_mathematics(text):
        return False
    return not set(re.findall("[a-z]", plain)) <= set(re.findall("[a-z]", text.casefold()))


def _is_no_value(statement: str, text: str) -> bool:
    """Whether a bound or a statement about sets and figures stands beside an expression or, the latter, an equation."""
    sides, signs = split_relation(text)
    if signs not in ([], ["="]) or not all(map(is_expression, sides)) or is_expression(statement):
        return False
    if not signs and (_HEDGE.match(statement.strip()) or _UNITES.search(statement)):
        return True
    return bool(_STATES_NO_VALUE.search(statement))


def _is_mathematics(text: str, depth: int = 2) -> bool:
    """Whether the text is an expression, a relation, or a list of these or of tuples, with nothing in words."""
    items = split_items(text) if depth else None
    if items and len(items.parts) > 1:
        return all(_is_mathematics(part, depth - 1) for part in items.parts)
    return all(map(is_expression, split_relation(text)[0]))
