r"""Conditions behind an answer ("for even n", ``k \in \mathbb{Z}``) and functions given case by case in one line."""

from __future__ import annotations

import re
from collections.abc import Callable

from verifiers.algebra import split_relation
from verifiers.notation import split_cases, unwrap

_OPPOSITES = (("even", "odd"), ("positive", "negative"), ("rational", "irrational"), ("prime", "composite"))
_DOMAIN = re.compile(r"\\mathbb\s*\{?\s*([NZQRC])\s*\}?(\s*(?:\^\s*\{?\s*[+*]|_\s*\{?\s*(?:[+>]|\\ge)))?")
_DOMAIN_WORDS = re.compile(r"\b(?:(positive|natural|non-?negative)\s+)?(integer|number)s?\b|\b(real)s?\b")
_WHOLE = re.compile(r"\s*([i-nNp-q])\s*([<>])\s*(-?\d{1,9})\s*")
_FILLING = frozenset(
    ["for", "if", "when", "where", "with", "as", "is", "are", "all", "any", "every", "each", "an", "a", "the"]
)

Same = Callable[[str, str], bool]


def conditions_contradict(gold: str, answer: str, same: Same) -> bool:
    """Whether two conditions speak of different cases. What is not understood, or is missing, contradicts nothing."""
    gold, answer = unwrap(gold), unwrap(answer)
    if not gold.strip() or not answer.strip():
        return False
    for pair in _OPPOSITES:
        words = [{w for w in pair if re.search(rf"\b{w}\b", text)} for text in (gold, answer)]
        if all(len(found) == 1 for found in words) and words[0] != words[1]:
            return True
    domain, other_domain = _domain(gold), _domain(answer)
    if domain and other_domain and domain != other_domain:
        return True
    relation, other = _relation(gold), _relation(answer)
    return bool(relation and other) and not same(relation, other)


def _domain(text: str) -> str:
    """The set that a name runs through; the naturals count as the positive integers, as nothing says otherwise."""
    match = _DOMAIN.search(text)
    if match:
        return "N" if match[1] == "Z" and match[2] else match[1]
    words = _DOMAIN_WORDS.search(text.lower())
    if not words:
        return ""
    if words[3]:
        return "R"
    if words[2] == "number":
        return "N" if words[1] == "natural" else ""
    return "N" if words[1] else "Z"


def _relation(text: str) -> str:
    """The one relation in a condition, ``k > 0`` as ``k \\ge 1``."""
    text = re.sub(r"^[\s,;(]*(?:[a-z]+\s+)*?(?=\S+\s*(?:[<>=]|\\[lgn]e))|[\s,;.)]+$", "", text.strip())
    signs = split_relation(text)[1]
    if not signs or re.search(r"[A-Za-z]{3,}", re.sub(r"\\[A-Za-z]+", "", text)):
        return ""
    whole = _WHOLE.fullmatch(text)
    if whole:
        sign, bound = whole[2], int(whole[3])
        return f"{whole[1]} \\ge {bound + 1}" if sign == ">" else f"{whole[1]} \\le {bound - 1}"
    return text


def same_cases_in_line(gold: str, answer: str, same: Same) -> bool | None:
    """Two functions given as "a if n is even, b if n is odd", in any order; None where neither is one."""
    expected, given = split_cases(gold), split_cases(answer)
    if not expected and not given:
        return None
    if not expected or not given:
        return None if "\\begin" in gold + answer else False
    if len(expected) != len(given):
        return False
    left = list(given)
    for value, condition in expected:
        match = next((p for p in left if _same_case(condition, p[1], same) and same(value, p[0])), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_case(gold: str, answer: str, same: Same) -> bool:
    """Whether two conditions are the same; "otherwise" is whatever is left."""
    if "otherwise" in (gold, answer) or _words(gold) == _words(answer):
        return True
    relation, other = _relation(gold), _relation(answer)
    return bool(relation and other) and same(relation, other)


def _words(text: str) -> list[str]:
    return sorted(w for w in re.findall(r"\\?[A-Za-z]+|\d+|[^\w\s]", text) if w not in _FILLING and w not in "$,.;")
