"""Whether an answer and a reference say the same: structure first, exact numbers next, symbols last.

Lists are matched part by part here, because the symbolic core sorts sets and may then pair unequal parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from verifiers.notation import (
    Items,
    as_words,
    clean,
    drop_approximation,
    is_clearly_text,
    last_link,
    split_assignment,
    split_items,
    squeeze,
    unwrap,
)
from verifiers.numeral import read_based, read_colons, read_number, same_colons, same_number

Leaf = Callable[[str, str], bool]
"""``leaf(gold, answer)``: decides what structure and exact numbers do not."""

_DEEPEST = 4
_LETTER = re.compile(r"\(?([A-J])\)?\.?")
_LETTERED = re.compile(r"\(?([A-J])[).:]\s*(?![,;&]|and\b|or\b)(\S.*)", re.DOTALL)
_ANOTHER_LETTER = re.compile(r"(?<![A-Za-z])[A-J][).:]")
_LONGEST = 20_000


def same_answer(gold: str, answer: str, leaf: Leaf) -> bool:
    """Whether ``answer`` states what ``gold`` states. Raises what ``leaf`` raises."""
    if len(gold) > _LONGEST or len(answer) > _LONGEST:
        return leaf(gold[:_LONGEST], answer[:_LONGEST])
    return _same(drop_approximation(clean(gold)), drop_approximation(clean(answer)), leaf, _DEEPEST)


def _same(gold: str, answer: str, leaf: Leaf, depth: int) -> bool:
    if not gold or not answer:
        return leaf(gold, answer)
    if squeeze(gold) == squeeze(answer):
        return True
    choice = _same_choice(gold, answer)
    if choice is not None:
        return choice
    gold, answer = _align_assignments(gold, answer)
    for decide in (
        _same_words,
        _same_based,
        _same_colons,
        _same_numbers,
        partial(_same_items, leaf=leaf, depth=depth),
    ):
        verdict = decide(gold, answer)
        if verdict is not None:
            return verdict
    return leaf(gold, answer)


def _align_assignments(gold: str, answer: str) -> tuple[str, str]:
    """Drop ``x =`` where the other side has no name or the same one; a different name is left to be compared."""
    g, a = split_assignment(gold), split_assignment(answer)
    if g.name and a.name:
        return (g.value, a.value) if g.name == a.name else (gold, answer)
    if g.name and "=" not in answer:
        return g.value, answer
    if "=" not in gold and not any(c in gold for c in "<>"):
        return gold, a.value if a.name else _unchain(answer)
    return gold, answer


def _unchain(answer: str) -> str:
    """The result of a calculation ``3 + 4 = 7`` (an equation in letters is none and stays)."""
    if "," in answer or ";" in answer:
        return answer
    result = last_link(answer)
    return result if read_number(result) or answer.count("=") > 1 else answer


def _same_choice(gold: str, answer: str) -> bool | None:
    """A lettered choice with its content, ``(C) Plane``, against the letter alone."""
    letter, choice = _LETTER.fullmatch(unwrap(gold).strip()), _LETTERED.fullmatch(unwrap(answer).strip())
    return letter[1] == choice[1] if letter and choice and not _ANOTHER_LETTER.search(choice[2]) else None


def _same_words(gold: str, answer: str) -> bool | None:
    expected, given = as_words(gold), as_words(answer)
    if expected is None or given is None:
        if expected is not None and is_clearly_text(gold) and read_number(answer) is not None:
            return False
        return None
    if expected == given and (len(expected) > 1 or gold.strip("() ").isupper() or is_clearly_text(gold)):
        return True
    if is_clearly_text(gold) or (len(expected) == 1 and len(given) == 1 and expected != given):
        return False
    return None


def _same_based(gold: str, answer: str) -> bool | None:
    """Numerals with a base. An answer may leave the base out, but not state another one."""
    expected, given = read_based(gold), read_based(answer)
    if expected and given:
        return expected == given
    based, other = (expected, answer) if expected else (given, gold)
    if based is None:
        return None
    return squeeze(other).strip("()").lstrip("0") == based.digits


def _same_colons(gold: str, answer: str) -> bool | None:
    expected, given = read_colons(gold), read_colons(answer)
    return same_colons(expected, given) if expected and given else None


def _same_numbers(gold: str, answer: str) -> bool | None:
    expected, given = read_number(gold), read_number(answer)
    if expected is None or given is None:
        return None
    if same_number(expected, given):
        return True
    return None if "," in gold + answer else False


def _same_items(gold: str, answer: str, leaf: Leaf, depth: int) -> bool | None:
    expected, given = split_items(gold), split_items(answer)
    if expected is None or given is None:
        return _number_against_items(gold, expected, answer, given)
    if depth == 0:
        return None
    if _is_interval(expected, given) and (expected.open, expected.close) != (given.open, given.close):
        return False
    if len(expected.parts) != len(given.parts) and not expected.ordered and not given.ordered:
        expected, given = expected.distinct(), given.distinct()
    if len(expected.parts) != len(given.parts):
        return None if _has_relation(gold) or _has_relation(answer) else False
    same = partial(_same, leaf=leaf, depth=depth - 1)
    ordered = expected.ordered or given.ordered or _named(expected) != _named(given)
    if ordered:
        return all(same(g, a) for g, a in zip(expected.parts, given.parts, strict=True))
    return _match_any_order(list(expected.parts), list(given.parts), same)


def _number_against_items(gold: str, expected: Items | None, answer: str, given: Items | None) -> bool | None:
    """A single number is no list (``{5}`` is 5, though), and two single numbers that got here differ."""
    if expected is None and given is None:
        both = read_number(gold) is not None and read_number(answer) is not None
        return False if both else None
    items, number = (expected, read_number(answer)) if expected else (given, read_number(gold))
    if items is None or number is None or _has_relation(gold + answer):
        return None
    if len(items.parts) == 1:
        only = read_number(items.parts[0])
        return None if only is None else same_number(only, number)
    return False


def _is_interval(a: Items, b: Items) -> bool:
    """Whether brackets carry meaning: two bracketed pairs, at least one with a square bracket."""
    brackets = {a.open, a.close, b.open, b.close}
    return (
        len(a.parts) == len(b.parts) == 2 and bool(brackets & set("[]")) and "" not in brackets and "{" not in brackets
    )


def _named(items: Items) -> bool:
    """Whether the parts are assignments to different names."""
    names = {split_assignment(part).name for part in items.parts}
    return "" not in names and len(names) == len(items.parts)


def _has_relation(text: str) -> bool:
    return any(sign in text for sign in ("=", "<", ">", "\\le", "\\ge", "\\cup", "\\cap", "\\in", "\\begin", "\\ne"))


def _match_any_order(gold: list[str], answer: list[str], same: Callable[[str, str], bool]) -> bool:
    left = list(answer)
    for part in gold:
        index = next((i for i, other in enumerate(left) if squeeze(other) == squeeze(part)), None)
        if index is None:
            index = next((i for i, other in enumerate(left) if same(part, other)), None)
        if index is None:
            return False
        left.pop(index)
    return True
