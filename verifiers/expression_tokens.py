r"""Take one mathematical expression, LaTeX or plain text, apart into tokens."""

from __future__ import annotations

import re
from typing import NamedTuple

from verifiers.expression_names import FUNCTIONS, OF_SEVERAL, SAME_COMMAND, WORD, known_command

_MOST_TOKENS = 500
_LONGEST_NUMBER = 200
_LONGEST_WORD = 3
_NAMED = FUNCTIONS | OF_SEVERAL


class UnreadableError(Exception):
    """The text is no expression of the kinds known here."""


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+)"
    r"|(?P<subscript>_\s*\{[^{}]{1,40}\})|(?P<command>\\(?:[A-Za-z]+|[|]))|(?P<word>[A-Za-z]+)|(?P<power>\*\*|\^)|(?P<sign>[-+*/_!'(),\[\]{}|]))"
)
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*d\s*(\\?[A-Za-z]+)\s*\}\s*\{\s*d\s*(\\?[A-Za-z]+)\s*\}")
_ANGLE = re.compile(r"\\angle\s*\{?\s*([A-Z]{1,3})(?![A-Za-z])\s*\}?")
_SCIENTIFIC = re.compile(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})(?![\d.A-Za-z])")
_NAMED_TEXT = re.compile(r"\\(?:mathrm|mathit|mathsf|operatorname|rm)\s*\{\s*([A-Za-z]{1,12})\s*\}")
_WRAPPED_SUBSCRIPT = re.compile(r"_\s*\{?\s*\\(?:text|mathrm|mathit|mbox|textrm)\s*\{([A-Za-z0-9 ,]{1,30})\}\s*\}?")
_COMMAND_SUBSCRIPT = re.compile(r"_\s*\{\s*\\(max|min|odot|oplus|ast|star|perp|parallel|infty|pm)\s*\}")
_BARE_OF_SEVERAL = re.compile(r"(?<![A-Za-z\\])(min|max|gcd|lcm)\s*(?=\(|\\\{)")
_OF_A_SET = re.compile(r"\\(?:min|max|gcd|lcm)\s*\\\{")


def prepare(text: str) -> str:
    """Rewrite what has several spellings, so that the tokens say it in one."""
    text = _DERIVATIVE.sub(lambda m: rf"\Delta_{{{m[1].strip(chr(92))}over{m[2].strip(chr(92))}}}", text)
    text = _ANGLE.sub(r"\\Theta_{angle\1}", text)
    text = _WRAPPED_SUBSCRIPT.sub(lambda m: f"_{{{re.sub('[ ,]', '', m[1])}}}", text)
    text = _COMMAND_SUBSCRIPT.sub(r"_{\1}", text)
    text = _NAMED_TEXT.sub(lambda m: f" {m[1]} " if len(m[1]) == 1 or m[1] in _NAMED else m[0], text)
    text = _BARE_OF_SEVERAL.sub(r"\\\1", text)
    if "\\{" in text and len(_OF_A_SET.findall(text)) == text.count("\\{") == text.count("\\}"):
        text = text.replace("\\{", "(").replace("\\}", ")")  # \max\{a, b\}
    return _SCIENTIFIC.sub(r"(\1*10^{\2})", text.replace("°", "\\degree "))


class Token(NamedTuple):
    """One sign, number, letter or command."""

    kind: str
    text: str


def tokens_of(text: str) -> list[Token]:
    """The tokens of all of the text. Raises ``UnreadableError``."""
    tokens: list[Token] = []
    position, text = 0, text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match or match.lastgroup is None or len(tokens) > _MOST_TOKENS:
            raise UnreadableError
        tokens += _split_token(match.lastgroup, match[match.lastgroup], bool(tokens) and tokens[-1].text == "_")
        position = match.end()
    return tokens


def _split_token(kind: str, text: str, is_subscript: bool) -> list[Token]:
    if kind == "command":
        return _split_command(text)
    if kind == "word":
        return [Token("word", text)] if is_subscript else _split_word(text)
    if kind == "subscript":
        return [Token(kind, re.sub(r"[_\s{}]", "", text))]
    if kind == "sign":
        return [Token(text, text)]
    if len(text) > _LONGEST_NUMBER:
        raise UnreadableError
    return [Token(kind, text)]


def _split_command(text: str) -> list[Token]:
    r"""A command, or what is left of one whose space was lost: ``\omegat``, ``\cost``."""
    name = known_command(text[1:])
    if name is None:
        raise UnreadableError
    rest = text[1 + len(name) :]
    name = SAME_COMMAND.get(name, name)
    first = Token(name, name) if name in ("|", "^", "*", "/") else Token("command", name)
    return [first, *(_split_word(rest) if rest else [])]


def _split_word(text: str) -> list[Token]:
    """Letters as functions, constants and single names; a longer run of letters is prose."""
    tokens: list[Token] = []
    run = position = 0
    while position < len(text):
        match = WORD.match(text, position)
        if match:
            tokens.append(Token("command", SAME_COMMAND.get(match[0], match[0])))
            position, run = match.end(), 0
            continue
        tokens.append(Token("word", text[position]))
        position, run = position + 1, run + 1
        if run > _LONGEST_WORD:
            raise UnreadableError
    return tokens
