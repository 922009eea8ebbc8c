r"""Answers in words: synonyms, number words, dates, letters of several choices."""

from __future__ import annotations

import re

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_ONES += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {word: value for value, word in enumerate(_ONES)} | {word: 10 * (i + 2) for i, word in enumerate(_TENS)}
_NUMBERS |= {
    f"{ten}{joint}{one}": 10 * (i + 2) + j + 1
    for i, ten in enumerate(_TENS)
    for j, one in enumerate(_ONES[1:10])
    for joint in "- "
}
_SYNONYMS = (
    {"no solution", "no solutions", "no real solution", "no real solutions", "no such solution", "empty set", "none"}
    | {"there is no solution", "there are no solutions", "there are no real solutions", "the empty set", "no root"}
    | {"no roots", "no real roots", "no real root", "has no solution", "has no solutions"},
    {"dne", "does not exist", "do not exist", "nonexistent", "it does not exist", "the limit does not exist"},
    {"infinitely many", "infinitely many solutions", "infinite solutions", "infinite", "infinite number of solutions"}
    | {"there are infinitely many solutions", "an infinite number of solutions", "infinite many"},
    {"all real numbers", "all reals", "all real", "the set of all real numbers", "real numbers", "all real values"}
    | {"the real numbers"},
    {"infinity", "positive infinity", "plus infinity"},
    {"negative infinity", "minus infinity"},
    {"undefined", "not defined", "is undefined"},
    {"a tie", "tie", "draw", "a draw"},
)
_MEANING = {phrase: sorted(group)[0] for group in _SYNONYMS for phrase in group}
_SIGNS = {"\\emptyset": "empty set", "\\infty": "infinity", "+\\infty": "infinity", "-\\infty": "negative infinity"}
_SIGNS |= {"\\mathbb{R}": "all reals", "(-\\infty,\\infty)": "all reals", "{}": "empty set", "\\{\\}": "empty set"}
_ARTICLE = re.compile(r"^(?:the|a|an)\s+(?=\w)|^(?:it|this|that|they)\s+(?:is|are)\s+")
_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october"]
_MONTHS += ["november", "december"]
_MONTH = {name[:length]: i + 1 for i, name in enumerate(_MONTHS) for length in (3, len(name))} | {"sept": 9}
_MONTH_WORD = "|".join(sorted(_MONTH, key=len, reverse=True))
_DATES = (
    re.compile(
        rf"(?:\w+day,?\s+)?(?P<month>{_MONTH_WORD})\.?\s+(?P<day>\d{{1,2}})(?:\s*,?\s+(?P<year>\d{{4}}))?", re.I
    ),
    re.compile(
        rf"(?:\w+day,?\s+)?(?P<day>\d{{1,2}})\s+(?:of\s+)?(?P<month>{_MONTH_WORD})\.?(?:\s*,?\s+(?P<year>\d{{4}}))?",
        re.I,
    ),
    re.compile(r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})"),
)
_LETTERS = re.compile(r"\(?[A-J]\)?(?:(?:\s*(?:,|;|&|\band\b)\s*|\s*)\(?[A-J]\)?){1,9}")

_LABEL_RUN = re.compile(r"(?:\(\s*[1-9]\s*\)\s*(?:[,;]|and(?![A-Za-z]))?\s*){2,9}")
_DIGIT_LIST = re.compile(r"[\[({\\]*\s*[1-9]\s*(?:(?:[,;]|,?\s*and)\s*[1-9]\s*){0,8}[\\\])}]*")
_LABEL = re.compile(r"\(\s*([a-h]|[1-9]|i{1,3}|iv|vi{0,3})\s*\)")
_LABEL_ROWS = (list("abcdefgh"), list("123456789"), ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii"])
_NO_VALUE_START = re.compile(r"[*/^_!=)]|\\(?:cdot|times|div)(?![A-Za-z])|[-+]\s|[-+]?$")
_NO_VALUE_END = re.compile(r"(?:[-+*/^=(]|\\(?:cdot|times|div|pm))\s*$")
_LONGEST_LABELLED = 1000

Date = tuple[int, int, int | None]


def meaning(words: str) -> str:
    """One phrase for all that say the same; other words without their article."""
    words = words.casefold().strip(" .")
    return _MEANING.get(words) or _ARTICLE.sub("", words)


def sign_in_words(squeezed: str) -> str | None:
    r"""What a sign such as ``\emptyset`` says, in words."""
    return _SIGNS.get(squeezed)


def number_word(words: str) -> int | None:
    """The number that a word up to "ninety-nine" names."""
    return _NUMBERS.get(words.casefold().strip(" ."))


def read_date(text: str) -> Date | None:
    """(month, day, year or None) of a date with the month's name, or of ``2020-03-05``."""
    if len(text) > 60:
        return None
    for pattern in _DATES:
        match = pattern.fullmatch(text.strip(" ."))
        if match:
            month = match["month"].casefold()
            number = int(month) if month.isdigit() else _MONTH[month]
            return number, int(match["day"]), int(match["year"]) if match["year"] else None
    return None


def same_date(gold: Date, answer: Date) -> bool:
    """Whether both are the same day; a year may be missing on one side."""
    return gold[:2] == answer[:2] and (None in (gold[2], answer[2]) or gold[2] == answer[2])


def choice_letters(text: str) -> tuple[str, bool] | None:
    """The letters of several choices, ``A, C`` or ``AC``, and whether they stand apart from each other."""
    if len(text) > 60 or not _LETTERS.fullmatch(text.strip()):
        return None
    letters = "".join(re.findall("[A-J]", text))
    return letters, letters != text.strip()


def statement_numbers(text: str) -> list[str] | None:
    """The numbers of the statements that ``(1)(3)`` names, in order; None for everything else."""
    return sorted(re.findall(r"[1-9]", text)) if _LABEL_RUN.fullmatch(text.strip()) else None


def digit_list(text: str) -> list[str] | None:
    """The same of ``1, 3``, as an answer may write it."""
    return sorted(re.findall(r"[1-9]", text)) if _DIGIT_LIST.fullmatch(text.strip()) else None


def labelled_values(text: str) -> tuple[str, ...] | None:
    """5 and 6 of ``(a) 5 (b) 6``; None for everything else, products of brackets among them."""
    if len(text) > _LONGEST_LABELLED or not text.lstrip().startswith("("):
        return None
    marks = list(_LABEL.finditer(text))
    row = next((row for row in _LABEL_ROWS if marks and row[0] == marks[0][1]), None)
    if row is None or len(marks) < 2 or text[: marks[0].start()].strip():
        return None
    if [mark[1] for mark in marks] != row[: len(marks)]:
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    values = [text[mark.end() : end].strip().rstrip(",;. ") for mark, end in zip(marks, ends, strict=True)]
    if any(_NO_VALUE_START.match(v) or _NO_VALUE_END.search(v) or v.count("(") != v.count(")") for v in values):
        return None
    return tuple(values)
