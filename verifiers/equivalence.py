"""Whether an answer and a reference say the same: structure first, exact numbers next, symbols last.

Lists are matched part by part here, because the symbolic core sorts sets and may then pair unequal parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial

from verifiers.algebra import is_closed, is_expression, names_of, same_expression, same_relation, split_relation
from verifiers.conditions import conditions_contradict, same_cases_in_line
from verifiers.kinds import different_kinds
from verifiers.matrix import Matrix, read_matrix
from verifiers.notation import (
    Items,
    as_words,
    clean,
    drop_approximation,
    folded,
    integer_name,
    is_clearly_text,
    is_list,
    is_prose,
    last_link,
    split_assignment,
    split_condition,
    split_items,
    squeeze,
    unwrap,
    without_integer_tail,
)
from verifiers.numeral import Colons, Numeral, read_based, read_colons, read_number, same_colons, same_number
from verifiers.realset import read_real_set, same_real_set, states_a_set
from verifiers.symbolic import UnparsedError
from verifiers.wording import (
    choice_letters,
    digit_list,
    labelled_values,
    meaning,
    number_word,
    read_date,
    same_date,
    sign_in_words,
    statement_numbers,
)

Leaf = Callable[[str, str], bool]
"""``leaf(gold, answer)``: decides what structure and exact numbers do not."""

_DEEPEST = 4
_INTEGER = re.compile(r"-?[0-9]{1,40}")
_LETTER = re.compile(r"\(?([A-J])\)?\.?")
_LETTERED = re.compile(r"\(?([A-J])[).:]\s*(?![,;&]|and\b|or\b)(\S.*)", re.DOTALL)
_ANOTHER_LETTER = re.compile(r"(?<![A-Za-z])[A-J][).:]")
_LONGEST = 20_000
_HAS_CONTENT = re.compile(r"[^\W_]|\\[A-Za-z]{2}|[{}∅]")
_RESIDUE = re.compile(
    r"(?:[A-Za-z]\s*\\equiv\s*)?([^\\]{1,40}?)\s*\(?\s*(?:\\p?mod|\\bmod|(?<![A-Za-z])mod)\s*\{?\s*(\d{1,9})\s*\}?\s*\)?"
)
_SUBSCRIPT = re.compile(r"_\s*(?:\{[^{}]*\}|\\[A-Za-z]+|\w)")
_LABEL = re.compile(
    r"(?:[A-Za-z|:(){}'\s/]|\\(?:frac|overline|angle|triangle|vec|hat|bar|tilde|dot|text|mathrm|operatorname|lvert|rvert"
    r"|alpha|beta|gamma|theta|phi|omega|tau|lambda|mu|sigma|rho)(?![A-Za-z])|\^\s*\{?\s*(?:[A-Za-z]|\\prime)\s*\}?){1,60}"
)
_INEQUALITY = re.compile(r"[<>]|\\(?:le|ge|ne|cup|cap|in)(?![A-Za-z])|\\begin")
_EQUATION = re.compile(r"&\s*=|=\s*&")
_IF = re.compile(r"^\s*(?:if|for|when|where)\b|^\s*\\text\s*\{[^{}]*\}")
_DECIMAL_COMMA = re.compile(r"(-?)\s*(0,\d{1,20}|\d{1,20},(?!\d{3}(?!\d))\d{1,20})")
_DECIMAL_POINT = re.compile(r"-?\s*\d{1,20}\.\d{1,20}")
_TO = re.compile(r"\s*(?:\\text\s*\{\s*to\s*\}|(?<=\d)\s+to\s+(?=\d))\s*")
_INFINITY = re.compile(r"([-+]?)\\infty")
_LEAD = re.compile(
    r"\s*(?:\\(?:text|textbf|mathrm|mbox)\s*\{\s*)?(?:the\s+)?(?:final\s+)?answer\s*(?:is\b|:|=)\s*:?\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_OPTION = re.compile(
    r"\s*(?:\\(?:text|textbf|mathrm|mbox|mathbf|bf)\s*\{\s*)?\(\s*[A-J]\s*\)\s*\}?(?:\\[ ,;:]|[\s~.:])*"
    r"((?:\\?\$)?\s*(?:[\d.]|(?<=[\s~}.:])-\s*\d|\\(?!cdot|times|div|pm|in|cup|cap|le|ge)[A-Za-z]).*)",
    re.DOTALL,
)
_CALL = re.compile(r"\s*[A-Za-z]'{0,2}(?:_(?:\w|\{\w{1,9}\}))?\s*\([^()]*\)\s*")
_OF_ANGLE = re.compile(
    r"\s*\\?(?:sin|cos|tan|cot|sec|csc)\s*[({]?\s*(?:\\?angle\s*)?(?:[A-Z]{1,3}|\\(?:theta|alpha|beta|gamma|phi))\s*[)}]?\s*"
)
_INDEXED = re.compile(r"([A-Za-z])_\{?\d\}?")
_MOST_CASES = 20


def same_answer(gold: str, answer: str, leaf: Leaf) -> bool:
    """Whether ``answer`` states what ``gold`` states. Raises ``UnparsedError`` and what ``leaf`` raises."""
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return int(gold) == int(answer)
    if len(gold) > _LONGEST or len(answer) > _LONGEST:
        return leaf(gold[:_LONGEST], answer[:_LONGEST])
    gold, answer = clean(gold), _without_lead(clean(answer), gold)
    if squeeze(gold) == squeeze(answer) and _HAS_CONTENT.search(answer):
        return True
    (gold, condition), (answer, other) = split_condition(gold), split_condition(answer)
    condition, other = (
        tail + text[len(without_integer_tail(text)) :] for text, tail in ((gold, condition), (answer, other))
    )
    if conditions_contradict(condition, other, partial(_same, leaf=_not_known_to_differ, depth=_DEEPEST - 1)):
        return False
    gold, answer = _align_integers(drop_approximation(gold), drop_approximation(answer))
    if is_prose(answer) and not is_prose(gold):
        answer = _value_in(answer)
    if not _HAS_CONTENT.search(answer) and _HAS_CONTENT.search(gold):
        raise UnparsedError("answer")
    return _same(gold, answer, leaf, _DEEPEST)


def _not_known_to_differ(gold: str, answer: str) -> bool:
    return True


def _not_known_to_agree(gold: str, answer: str) -> bool:
    return False


def _without_lead(answer: str, gold: str) -> str:
    """The answer without "the answer is", and without an option's letter where the reference names none."""
    lead = _LEAD.fullmatch(answer)
    if lead and not _LEAD.fullmatch(gold):
        answer = lead[1].rstrip("} ") if lead[1].count("}") > lead[1].count("{") else lead[1]
        answer = answer.replace("}", "", 1) if answer.count("}") > answer.count("{") else answer
    option = _OPTION.fullmatch(answer)
    if option and not re.match(r"\W*(?:text\w*\W*)?[A-J]\b", gold) and not _ANOTHER_LETTER.search(option[1]):
        return option[1].strip()
    return answer.strip()


def _value_in(sentence: str) -> str:
    """``25`` of "the area is 25 square units"; other sentences as they are."""
    head, found, tail = sentence.rpartition(" is ")
    tail = re.sub(r"^[^{}]*\}\s*", "", tail) if head.count("{") > head.count("}") else tail  # \text{the area is } 25
    return tail.strip() if found and re.search(r"[\d\\]", tail) else sentence


def _align_integers(gold: str, answer: str) -> tuple[str, str]:
    r"""Without ``k \in \mathbb{Z}``; the answer's integer gets the reference's name."""
    name, other = integer_name(gold), integer_name(answer)
    if name is None and other is None:
        return gold, answer
    gold, answer = without_integer_tail(gold), without_integer_tail(answer)
    if name and other and name != other and not re.search(_letter(name), answer):
        answer = re.sub(_letter(other), name, answer)
    return gold, answer


def _letter(name: str) -> str:
    return rf"(?<![A-Za-z\\]){name}(?![A-Za-z])|(?<=\d){name}(?=\\|\W|$)"


def _same(gold: str, answer: str, leaf: Leaf, depth: int) -> bool:
    if not gold or not answer:
        return leaf(gold, answer)
    if squeeze(gold) == squeeze(answer):
        return True
    same = partial(_same, leaf=leaf, depth=depth - 1)
    for decide in (_same_choice, partial(_same_residues, same=same), partial(_same_real_sets, same=same)):
        verdict = decide(gold, answer) if depth > 0 else None
        if verdict is not None:
            return verdict
    gold, answer = _align_assignments(gold, answer)
    if not gold or not answer:
        return leaf(gold, answer)
    for decide in (
        partial(_same_labelled, same=same),
        partial(same_cases_in_line, same=partial(_same, leaf=_not_known_to_agree, depth=depth - 1)),
        _same_infinity,
        _same_words,
        _same_dates,
        _same_based,
        _same_colons,
        _same_numbers,
        partial(_same_matrices, same=same),
        partial(_same_items, leaf=leaf, depth=depth),
        different_kinds,
        same_relation,
        same_expression,
    ):
        verdict = decide(gold, answer)
        if verdict is not None:
            return verdict
    return leaf(gold, answer)


def _same_residues(gold: str, answer: str, same: Callable[[str, str], bool]) -> bool | None:
    r"""``3 \pmod 7``: an answer may leave the modulus out, or name another member of the class with it."""
    expected, given = _RESIDUE.fullmatch(gold), _RESIDUE.fullmatch(answer)
    if not expected and not given:
        return None
    residue = expected[1] if expected else gold
    other = given[1] if given else answer
    if expected and given:
        if expected[2] != given[2]:
            return False
        first, second = read_number(residue), read_number(other)
        if first and second and int(expected[2]) > 0:
            return (first.value - second.value) % int(expected[2]) == 0
    return same(residue, other)


def _same_real_sets(gold: str, answer: str, same: Callable[[str, str], bool]) -> bool | None:
    if not states_a_set(gold) and not states_a_set(answer):
        return None
    expected, given = read_real_set(gold), read_real_set(answer)
    if expected and given:
        return same_real_set(expected, given, same)
    if expected and states_a_set(gold) and (is_closed(answer) or (expected.is_wide and is_expression(answer))):
        return False
    for found, text in ((expected, answer), (given, gold)):
        items = split_items(text) if found and found.is_wide else None
        if items and items.open in ("", "{") and not _has_inequality(text) and all(map(is_closed, items.parts)):
            return False  # an interval and its two ends
    return False if given and states_a_set(answer) and is_closed(gold) else None


def _same_labelled(gold: str, answer: str, same: Callable[[str, str], bool]) -> bool | None:
    """``(1)(3)`` names statements; ``(a) 5 (b) 6`` gives one value after the other. Neither is a product."""
    numbers, others = statement_numbers(gold), statement_numbers(answer)
    if numbers or others:
        return (numbers or digit_list(gold)) == (others or digit_list(answer))
    values, given = labelled_values(unwrap(gold)), labelled_values(unwrap(answer))
    if not values and not given:
        return None
    parts, others_parts = (
        found or (items.parts if (items := split_items(text)) else (text,))
        for found, text in ((values, gold), (given, answer))
    )
    return len(parts) == len(others_parts) and all(map(same, parts, others_parts))


def _same_infinity(gold: str, answer: str) -> bool | None:
    expected, given = _INFINITY.fullmatch(squeeze(gold)), _INFINITY.fullmatch(squeeze(answer))
    if expected and given:
        return (expected[1] == "-") == (given[1] == "-")
    if expected or given:
        return False if is_expression(answer if expected else gold) else None
    return None


def _same_matrices(gold: str, answer: str, same: Callable[[str, str], bool]) -> bool | None:
    """Entry by entry; a single row or column may be written as a tuple."""
    expected, given = read_matrix(gold), read_matrix(answer)
    if expected is None and given is None:
        return None
    if "cases" in (expected.kind if expected else "", given.kind if given else ""):
        return _same_cases(expected, given, same) if expected and given else None
    if expected and given and "vector" not in (expected.kind, given.kind):
        if [len(row) for row in expected.rows] != [len(row) for row in given.rows]:
            return False
        return all(same(g, a) for gs, others in zip(expected.rows, given.rows) for g, a in zip(gs, others))
    entries, others = _entries(gold, expected), _entries(answer, given)
    if entries is None or others is None:
        single = answer if expected else gold
        matrix = expected or given
        return False if matrix and matrix.kind == "matrix" and (is_expression(single) or _items(single)) else None
    return len(entries) == len(others) and all(same(g, a) for g, a in zip(entries, others, strict=True))


def _same_cases(gold: Matrix, answer: Matrix, same: Callable[[str, str], bool]) -> bool | None:
    """Two functions given piece by piece, value and condition, in any order; None for systems of equations."""
    if any(len(row) != 2 for row in gold.rows + answer.rows) or len(gold.rows) != len(answer.rows):
        return None
    if len(gold.rows) > _MOST_CASES:
        return None
    left = [_piece(row) for row in answer.rows]
    for value, condition in (_piece(row) for row in gold.rows):
        match = next((p for p in left if same(value, p[0]) and same(condition, p[1])), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _piece(row: tuple[str, ...]) -> tuple[str, str]:
    return row[0].strip(" ,;"), _IF.sub("", unwrap(row[1])).strip(" ,;.")


def _entries(text: str, matrix: Matrix | None) -> tuple[str, ...] | None:
    if matrix:
        return matrix.vector
    items = split_items(text)
    return items.parts if items and items.open in ("(", "[") else None


def _align_assignments(gold: str, answer: str) -> tuple[str, str]:
    """Drop ``x =`` where the other side has no name or the same one; a different name is left to be compared."""
    gold, answer = gold.lstrip("= "), answer.lstrip("= ")  # a name that got lost
    g, a = split_assignment(gold), split_assignment(answer)
    if g.name and a.name:
        same_name = g.name == a.name or _is_y_of_x(g.name, a.name)
        return (g.value, a.value) if same_name else (gold, answer)
    if g.name and "=" not in answer:
        return g.value, answer
    if "=" not in gold and not any(c in gold for c in "<>"):
        return gold, a.value if a.name else _unchain(answer)
    if "=" not in answer:
        return _quantity(gold), answer
    return gold, answer


def _is_y_of_x(name: str, other: str) -> bool:
    """``y = ...`` and ``f(x) = ...``."""
    return {name[:1], other[:1]} <= {"y", "f"} and (name == "y" or other == "y") and "(" in name + other


def _unchain(answer: str) -> str:
    """The result of a calculation ``3 + 4 = 7`` or of a quantity's name (an equation in letters is none and stays)."""
    if is_list(answer):
        return answer
    result, head = last_link(answer), answer.partition("=")[0]
    if answer.count("=") == 1 and is_closed(head) and re.fullmatch(r"\s*[A-Za-z](?:_\w)?\s*", result):
        return head.strip()  # 3 = x
    if answer.count("=") > 1 or _is_label(head) or is_closed(head):
        return result
    number = read_number(result)
    # Where a number is asked for, "m + n = 17" and "f(3) = 8" state it; "x^2 - 4 = 0" states no 0, and "2x = 8" no 8.
    return result if number is not None and number.value != 0 and _is_quantity(head) else answer


def _is_quantity(head: str) -> bool:
    """Whether an equation about ``head`` tells its value, rather than asking for the one unknown in it."""
    return bool(_CALL.fullmatch(head) or _OF_ANGLE.fullmatch(head)) or len(names_of(head)) != 1


def _quantity(gold: str) -> str:
    r"""The value in ``|AB| = 5``, ``V_1 : V_2 = 11:21``, ``\angle ABC = 30``; an equation in unknowns stays."""
    head, _, value = gold.partition("=")
    if is_list(gold) or gold.count("=") != 1 or not _is_label(head):
        return gold
    letters = re.sub(r"\\[A-Za-z]+", "", _SUBSCRIPT.sub("", head))
    is_call = re.fullmatch(r"\s*\(\s*[a-z]\s*\)\s*", head)  # the name of f(x) got lost
    return value.strip() if letters.upper() == letters or ":" in head or is_call else gold


def _is_label(text: str) -> bool:
    """Whether the text names a quantity: letters and their decoration, nothing that is computed."""
    bare = _SUBSCRIPT.sub("", text)
    return bool(re.search("[A-Za-z]", bare)) and bool(_LABEL.fullmatch(bare))


def _same_choice(gold: str, answer: str) -> bool | None:
    """A lettered choice with its content, ``(C) Plane``, against the letter alone; several letters in any order."""
    several, others = choice_letters(unwrap(gold)), choice_letters(unwrap(answer))
    if several and others and (several[1] or others[1]):
        return sorted(several[0]) == sorted(others[0])
    for text, other in ((gold, answer), (answer, gold)):
        letter, choice = _LETTER.fullmatch(unwrap(text).strip()), _LETTERED.fullmatch(unwrap(other).strip())
        if letter and choice and not _ANOTHER_LETTER.search(choice[2]):
            return letter[1] == choice[1]
    return None


def _same_words(gold: str, answer: str) -> bool | None:
    expected, given = _in_words(gold), _in_words(answer)
    if expected is None or given is None:
        if expected is not None and is_clearly_text(gold) and _number(gold) is None and _has_mathematics(answer):
            return False
        return _same_prose(gold, answer)
    if expected == given and (_is_a_word(expected) or _LETTER.fullmatch(gold.strip("() ")) or is_clearly_text(gold)):
        return True
    if {expected, given} & _SHORT_WORDS or _is_anagram(expected, given):
        return False
    if is_clearly_text(gold) or (len(expected) == 1 and len(given) == 1 and expected != given):
        return False
    return None


_SHORT_WORDS = frozenset(["no", "ok", "on", "up", "in", "at"])


def _is_a_word(words: str) -> bool:
    """Whether capitals say nothing in it; in ``GM`` and ``Gm`` they do."""
    return len(words) > 2 or words in _SHORT_WORDS


def _is_anagram(words: str, other: str) -> bool:
    """Whether the letters of a name stand in another order; two letters may be a product or a line AB."""
    return len(words) == len(other) > 2 and words != other and sorted(words) == sorted(other)


def _has_mathematics(text: str) -> bool:
    return bool(re.search(r"[\d=<>^]|\\(?!text|mbox|mathrm|quad)[A-Za-z]", text)) and not is_prose(text)


def _same_prose(gold: str, answer: str) -> bool | None:
    """A sentence is compared by its letters; nothing here reads what it says, so no other one is known to be wrong."""
    if "\\begin" in gold + answer or not is_prose(gold) or is_expression(gold):  # 15 cubic feet per minute
        return None
    if folded(gold) == folded(answer):
        return True
    raise UnparsedError("gold")


def _in_words(text: str) -> str | None:
    words = sign_in_words(squeeze(text)) or as_words(text)
    return None if words is None else meaning(words)


def _same_dates(gold: str, answer: str) -> bool | None:
    expected, given = read_date(unwrap(gold)), read_date(unwrap(answer))
    return same_date(expected, given) if expected and given else None


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
    expected, given = _colons(gold), _colons(answer)
    if expected and given:
        return same_colons(expected, given)
    ratio, other = (expected, answer) if expected else (given, gold)
    if ratio is None or ratio.is_clock or len(ratio.parts) != 2:
        return None
    number = read_number(other)
    return None if number is None or ratio.parts[1] == 0 else number.value == Fraction(*ratio.parts)


def _colons(text: str) -> Colons | None:
    return read_colons(_TO.sub(":", text))


def _number(text: str) -> Numeral | None:
    """A number in digits or as a word."""
    number = read_number(text)
    if number is not None:
        return number
    word = number_word(unwrap(text)) if len(text) < 60 else None
    return None if word is None else Numeral(Fraction(word), None, 0, None)


def _same_numbers(gold: str, answer: str) -> bool | None:
    for text, other in ((gold, answer), (answer, gold)):
        comma = _DECIMAL_COMMA.fullmatch(text) if "," in text else None
        if comma and _DECIMAL_POINT.fullmatch(other):  # 1,22 beside 1.22; 1,220 would be a thousand
            return comma[1] + comma[2].replace(",", ".") == other.replace(" ", "")
    expected, given = _number(gold), _number(answer)
    if expected is None or given is None:
        return None
    if same_number(expected, given):
        return True
    return None if "," in gold + answer else False


def _same_items(gold: str, answer: str, leaf: Leaf, depth: int) -> bool | None:
    expected, given = _items(gold), _items(answer)
    if expected is None or given is None:
        return _number_against_items(gold, expected, answer, given)
    if depth == 0:
        return None
    if len(expected.parts) != len(given.parts) and ";" in gold + answer:
        expected, given = split_items(gold) or expected, split_items(answer) or given
    if _is_interval(expected, given) and (expected.open, expected.close) != (given.open, given.close):
        return False
    if _is_no_list(expected, given, has_set="\\{" in gold + answer or "\\lbrace" in gold + answer):
        return False
    if len(expected.parts) != len(given.parts) and not expected.ordered and not given.ordered:
        expected, given = expected.distinct(), given.distinct()
    if len(expected.parts) != len(given.parts):
        return None if _has_inequality(gold + answer) else False
    same = partial(_same, leaf=leaf, depth=depth - 1)
    ordered = expected.ordered or given.ordered or _is_sequence(expected)
    ordered = ordered or (_named(expected) != _named(given) and not _indexed(expected) and not _indexed(given))
    if ordered:
        return all(same(g, a) for g, a in zip(expected.parts, given.parts, strict=True))
    return _match_any_order(list(expected.parts), list(given.parts), same)


def _items(text: str) -> Items | None:
    """The parts of a list; those of a list of lists ``p=5, q=2; p=7, q=2`` are its lists; a system has its lines."""
    system = read_matrix(text) if "\\begin" in text else None
    if system:
        single = all(len(row) == 1 for row in system.rows)
        lines = tuple("".join(row).strip(" ,;") for row in system.rows)
        return Items("", "", lines) if system.kind == "cases" and (single or _EQUATION.search(text)) else None
    if ";" in text and "," in text:
        parts = tuple(part.strip() for part in text.split(";") if part.strip())
        if len(parts) > 1 and all(
            part.count("(") == part.count(")") and part.count("[") == part.count("]") for part in parts
        ):
            return Items("", "", parts)
    items = split_items(text)
    if items and items.open == "{" and len(items.parts) == 1 and items.parts[0][:1] in ("(", "[", "{"):
        return split_items(items.parts[0]) or items  # the set of one pair, as the pair
    return items


def _number_against_items(gold: str, expected: Items | None, answer: str, given: Items | None) -> bool | None:
    """A single number is no list (``{5}`` is 5, though), and two single numbers that got here differ."""
    if expected is None and given is None:
        both = read_number(gold) is not None and read_number(answer) is not None
        return False if both else None
    items, single = (expected, answer) if expected else (given, gold)
    if items is None or _has_inequality(gold + answer):
        sides, signs = split_relation(single)
        listed = gold if expected else answer
        if items is None or len(items.parts) < 2 or not signs or is_list(single) or _has_inequality(listed):
            return None
        return False if all(map(is_expression, sides)) else None  # points against an inequality
    if len(items.parts) == 1:
        only, number = read_number(items.parts[0]), read_number(single)
        return None if only is None or number is None else same_number(only, number)
    if sum(c in "([{" for c in gold) != sum(c in ")]}" for c in gold):
        return None
    sides, signs = split_relation(single)
    is_equation = signs == ["="] and (not is_list(single) or all(map(is_expression, sides)))
    return False if is_equation or is_expression(single) else None


def _is_interval(a: Items, b: Items) -> bool:
    """Whether brackets carry meaning: two bracketed pairs, at least one with a square bracket."""
    brackets = {a.open, a.close, b.open, b.close}
    return (
        len(a.parts) == len(b.parts) == 2 and bool(brackets & set("[]")) and "" not in brackets and "{" not in brackets
    )


def _is_no_list(a: Items, b: Items, has_set: bool) -> bool:
    """Whether one is an interval or a pair, and the other the set or (where half-open) the list of the same two."""
    brackets = {a.open + a.close, b.open + b.close}
    if len(brackets) < 2 or len(a.parts) != 2:
        return False
    return bool(brackets & {"[)", "(]"}) or (has_set and "{}" in brackets and bool(brackets & {"[]", "()"}))


def _is_sequence(items: Items) -> bool:
    """``T, F, T``: a letter that comes twice has its place."""
    return all(re.fullmatch("[A-Z]", unwrap(part)) for part in items.parts) and len(items.distinct().parts) < len(
        items.parts
    )


def _indexed(items: Items) -> bool:
    """Whether the parts are ``x_1 = ...`` and ``x_2 = ...``, the values of one unknown."""
    names = [_INDEXED.fullmatch(split_assignment(part).name) for part in items.parts]
    return all(names) and len({name[1] for name in names if name}) == 1


def _named(items: Items) -> bool:
    """Whether the parts are assignments to different names."""
    names = {split_assignment(part).name for part in items.parts}
    return "" not in names and len(names) == len(items.parts)


def _has_inequality(text: str) -> bool:
    return bool(_INEQUALITY.search(text))


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
