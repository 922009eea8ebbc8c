r"""Units, currencies and percent signs around a number: ``$18``, ``18\text{ cm}^2``, ``5 am``, ``45^\circ``."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

_UNIT_WORDS = {
    "%": "% percent pct percentage",
    "degree": "degree degrees deg",
    "am": "am a.m. a.m",
    "pm": "pm p.m. p.m",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres",
    "inch": "inch inches",
    "foot": "foot feet ft",
    "yard": "yard yards yd",
    "mile": "mile miles mi",
    "mg": "mg milligram milligrams",
    "g": "g gram grams",
    "kg": "kg kilogram kilograms",
    "pound": "pound pounds lb lbs",
    "ounce": "ounce ounces oz",
    "second": "s sec second seconds",
    "minute": "min minute minutes mins",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "l": "l liter liters litre litres",
    "gallon": "gallon gallons",
    "dollar": "dollar dollars usd $",
    "cent": "cent cents ¢",
    "euro": "euro euros eur €",
    "yen": "yen ¥",
    "rupee": "rupee rupees rs ₹",
    "sterling": "£ gbp",
    "mph": "mph",
    "radian": "radian radians rad",
    "joule": "joule joules",
    "kilojoule": "kj kilojoule kilojoules",
    "newton": "newton newtons",
    "watt": "watt watts",
    "kilowatt": "kw kilowatt kilowatts",
    "volt": "volt volts",
    "pascal": "pa pascal pascals",
    "hertz": "hz hertz",
    "kelvin": "kelvin kelvins",
    "mole": "mol mole moles",
    "ohm": "ohm ohms",
    "nanometer": "nm nanometer nanometers",
    "electronvolt": "ev electronvolt electronvolts",
    "millisecond": "ms millisecond milliseconds",
    "ton": "ton tons tonne tonnes",
    "rpm": "rpm",
    "km/h": "km/h kph kmh",
}
_SCALES = ("celsius", "fahrenheit")
_CANONICAL = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}
_SPECIAL = {word: unit for word, unit in _CANONICAL.items() if unit in ("%", "am", "pm", "degree")}
_SPECIAL |= {f"{start}{name}": f"degree {name[0]}" for start in ("degrees ", "degree ", "") for name in _SCALES}
_METRE, _SECOND, _GRAM = {"m": 1}, {"s": 1}, {"g": 1}
_JOULE = {"g": 1, "m": 2, "s": -2}
_UNITS: dict[str, tuple[Fraction, dict[str, int]]] = {
    unit: (Fraction(scale), dimensions)
    for dimensions, sizes in (
        (_METRE, {"nanometer": "1e-9", "mm": "1/1000", "cm": "1/100", "m": "1", "km": "1000", "inch": "0.0254"}),
        (_METRE, {"foot": "0.3048", "yard": "0.9144", "mile": "1609.344"}),
        (_GRAM, {"mg": "1/1000", "g": "1", "kg": "1000", "pound": "453.59237", "ounce": "28.349523125", "ton": "1e6"}),
        (_SECOND, {"millisecond": "1/1000", "second": "1", "minute": "60", "hour": "3600", "day": "86400"}),
        (_SECOND, {"week": "604800", "month": "2629746", "year": "31556952"}),
        ({"m": 3}, {"ml": "1e-6", "l": "1e-3", "gallon": "0.003785411784"}),
        ({"m": 1, "s": -1}, {"mph": "1397/3125", "km/h": "5/18"}),
        (_JOULE, {"joule": "1000", "kilojoule": "1e6", "electronvolt": "1.602176634e-16"}),
        ({"g": 1, "m": 1, "s": -2}, {"newton": "1000"}),
        ({"g": 1, "m": 2, "s": -3}, {"watt": "1000", "kilowatt": "1e6"}),
        ({"g": 1, "m": 2, "s": -3, "A": -1}, {"volt": "1000"}),
        ({"g": 1, "m": 2, "s": -3, "A": -2}, {"ohm": "1000"}),
        ({"g": 1, "m": -1, "s": -2}, {"pascal": "1000"}),
        ({"s": -1}, {"hertz": "1"}),
        ({"A": 1}, {"ampere": "1"}),
        ({"A": 1, "s": 1}, {"coulomb": "1"}),
        ({"g": 1, "s": -2, "A": -1}, {"tesla": "1000"}),
    )
    for unit, scale in sizes.items()
} | {
    unit: (Fraction(1), {unit: 1})
    for unit in ("dollar", "cent", "euro", "yen", "rupee", "sterling", "radian", "kelvin", "mole", "rpm", "parsec")
    + ("calorie", "farad", "byte")
}
_CANONICAL |= {"ampere": "ampere", "amperes": "ampere", "amps": "ampere", "calories": "calorie"}
_SYMBOLS = {"m": "m", "g": "g", "s": "second", "J": "joule", "N": "newton", "W": "watt", "V": "volt", "A": "ampere"}
_SYMBOLS |= {"Pa": "pascal", "Hz": "hertz", "eV": "electronvolt", "mol": "mole", "L": "l", "l": "l", "K": "kelvin"}
_SYMBOLS |= {"C": "coulomb", "F": "farad", "T": "tesla", "Ω": "ohm", "ohm": "ohm", "pc": "parsec", "cal": "calorie"}
_SYMBOLS |= {"B": "byte", "gram": "g", "meter": "m", "metre": "m", "watt": "watt", "hertz": "hertz"}
_PREFIXES = {
    letter: Fraction(10) ** power
    for letter, power in zip("TGMkcdmµunpf", (12, 9, 6, 3, -2, -1, -3, -6, -6, -9, -12, -15), strict=True)
}
_NOT_UNITS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "pi", "sqrt", "or", "and", "mod"]
    + ["i", "e", "x", "y", "z", "n", "k", "t"]
)
_CHANGING = (
    "hundred hundreds thousand thousands million millions billion billions trillion trillions dozen dozens mil mln mn "
    "bn bln lakh crore factorial halves thirds fourths fifths sixths sevenths eighths ninths tenths hundredths "
    "thousandths below above minus plus permille infinity inf choose than alpha beta gamma delta epsilon zeta eta "
    "theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega"
)
_CHANGES = frozenset(_CHANGING.split())
"""Words that make another number of the one before them, and names of unknowns: no units."""
_MOST_PARTS = 12
_POWERS = {"squared": 2, "square": 2, "sq": 2, "cubic": 3, "cubed": 3}

_CURRENCY = re.compile(r"(?:\\\$|[$€£¥₹]|(?:USD|EUR|GBP|Rs\.?)(?=\s|\d))\s*(?=[-+]?[\d.\\(])")
_PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*\\?%\s*\}|(?i:\bpercent(?:age)?)|\bpct)\.?$")
_DEGREE = re.compile(
    r"\s*(?:\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree|°)\s*([CFKcfk]?|\\(?:text|mathrm)\{\s*[CFK]\s*\})$"
)
_WRAPPED = re.compile(
    r"\s*\\(?:text|mathrm|mbox|textbf|textrm|textit|textnormal|operatorname|rm)\s*\{([^{}]{0,80})\}"
    r"((?:\s*(?:\^\s*\{?\s*[-+]?\d\s*\}?|/|\\cdot))?)\.?$"
)
_PLAIN = re.compile(r"(?<=[\d)}.¢])(\s*)([A-Za-zµμΩ$€£¥¢₹][A-Za-zµμΩ./ -]{0,60}?)((?:\s*\^\s*(?:\{\s*-?\d\s*\}|\d))?)$")
_UNIT_TEXT = re.compile(
    r"(?<=[\d})])\s*\\(?:text|mbox|mathrm|textbf|textnormal)\s*\{([^{}]*)\}(?:\s*\^\s*\{?\d\}?)?\s*$"
)
# A unit that lost its spaces: 15,000kcalm^{-2}yr^{-1}. Short runs of letters may be variables.
_GLUED = re.compile(
    r"(?<=[\d}])(?<!\^\d)(?:[A-Za-z]{4,12}|[A-Za-z]{1,12}(?=\^\{?-\d\}?[A-Za-z]{2}))(?:\^\{?-\d\}?[A-Za-z]{0,12})+$"
)
_TRAILING_SIGN = re.compile(r"\s*(\\\$|[$€£¥¢₹])$")


_NUMERIC_COMMAND = re.compile(r"\\(?:sqrt|frac|pi|cdot|times|div)(?![A-Za-z])")


class WithUnit(NamedTuple):
    """A text split from its unit."""

    core: str
    unit: str | None


def split_unit(text: str) -> WithUnit:
    """Take one unit off the text; ``unit`` is canonical when known, ``?`` when it is some other word."""
    if _CURRENCY.match(text.lstrip("-+ ")):
        sign = text[: len(text) - len(text.lstrip("-+ "))]
        match = _CURRENCY.match(text, len(sign))
        if match:
            symbol = match[0].strip().strip("\\")
            rest = _split_end(sign + text[match.end() :])
            return WithUnit(rest.core, _canonical(symbol))
    return _split_end(text)


def _split_end(text: str) -> WithUnit:
    percent = _PERCENT.search(text)
    if percent and percent.start() > 0:
        return WithUnit(text[: percent.start()].strip(), "%")
    degree = _DEGREE.search(text)
    if degree:
        scale = re.sub(r"\\text|\\mathrm|[^A-Za-z]", "", degree[1]).lower()
        return WithUnit(text[: degree.start()].strip(), f"degree {scale}".strip())
    return _split_words(text)


def _split_words(text: str) -> WithUnit:
    wrapped = _WRAPPED.search(text)
    if wrapped and wrapped.start() > 0:
        if is_no_unit(wrapped[1]):
            return WithUnit(text, None)
        core, written = text[: wrapped.start()].strip(), wrapped[1] + wrapped[2]
        while (wrapped := _WRAPPED.search(core)) and wrapped.start() > 0:  # a compound such as kcal m^{-2} yr^{-1}
            core, written = core[: wrapped.start()].strip(), f"{wrapped[1]}{wrapped[2]} {written}"
        return WithUnit(core, _canonical(written))
    sign = _TRAILING_SIGN.search(text)
    if sign:
        return WithUnit(text[: sign.start()].strip(), _canonical(sign[1].strip("\\")))
    glued = _GLUED.search(text)
    if glued:
        return WithUnit(text[: glued.start()].strip(), "?")
    plain = _PLAIN.search(text)
    if plain and _is_unit(plain[2], spaced=bool(plain[1])):
        return WithUnit(text[: plain.start()].strip(), _canonical(plain[2] + plain[3]))
    return WithUnit(text, None)


def is_no_unit(words: str) -> bool:
    """Whether words after a number change the number (million, below zero, factorial) or are the name of one."""
    return any(part in _CHANGES for part in re.findall(r"(?<![\\a-z])[a-z]+", words.lower())) or bool(
        re.match(r"\s*(?:squared|cubed)\b", words.lower())
    )


@lru_cache(maxsize=1024)
def without_unit_text(text: str) -> str:
    r"""The text without a trailing ``\text{...}``, unless that is more than a unit."""
    match = _UNIT_TEXT.search(text)
    return text if match is None or is_no_unit(match[1]) else text[: match.start()]


def _is_unit(words: str, spaced: bool) -> bool:
    """Whether letters after a number are a unit and not a product such as ``5m`` or ``2 sin x``."""
    parts = words.lower().split()
    if any(p in _NOT_UNITS for p in parts) or is_no_unit(words):
        return False
    if len(parts) == 1 and parts[0] in _CANONICAL:
        return len(parts[0]) > 1 or spaced  # "5m" may be five times m
    return spaced and (len(parts[0]) > 2 or (len(words) > 1 and _canonical(words) != "?"))


def _canonical(written: str) -> str:
    """One spelling for all units of the same size: ``1/100 m`` for ``cm``; ``?`` where a part is not known."""
    if len(written) > 80:
        return "?"
    plain = written.strip().strip(".").strip()
    if plain.lower() in _SPECIAL:
        return _SPECIAL[plain.lower()]
    found = _read(_spelled(plain))
    if found is None:
        return "?"
    scale, dimensions = found
    return " ".join([str(scale), *(f"{name}^{power}" for name, power in sorted(dimensions.items()) if power)])


def _spelled(text: str) -> str:
    """The unit with spaces around its parts, and one spelling of products, quotients and powers."""
    text = re.sub(r"\\mu\s*", "µ", text).replace("μ", "µ").replace("\\Omega", "Ω")
    text = re.sub(r"\\(?:cdot|times)(?![A-Za-z])|[·*]|(?<=[a-z])-(?=[a-z])|\.(?!\d)", " ", text)
    text = re.sub(r"\s*\^\s*\{?\s*([-+]?\d{1,2})\s*\}?", r"^\1", text)
    return re.sub(r"\bper\b", "/", text).replace("/", " / ")


def _read(text: str) -> tuple[Fraction, dict[str, int]] | None:
    scale, dimensions = Fraction(1), dict[str, int]()
    sign, coming, num_below = 1, 1, 0
    last: tuple[Fraction, dict[str, int], int] | None = None
    parts = text.split()
    for part in parts if len(parts) <= _MOST_PARTS else ():
        lower = part.lower()
        if part == "/":
            sign, num_below = -1, 0
            continue
        if lower in ("squared", "cubed") and last:  # the power of the unit before it
            extra = last[2] * (_POWERS[lower] - 1)
            scale *= last[0] ** extra
            _add(dimensions, last[1], extra)
            continue
        if lower in _POWERS:
            coming = _POWERS[lower]
            continue
        name, _, power = part.partition("^")
        unit = _one_unit(name) if re.fullmatch(r"[-+]?\d|", power) else None
        num_below += sign < 0
        if unit is None or num_below > 1:  # J/kg K: is K above or below?
            return None
        exponent = sign * coming * int(power or 1)
        coming, last = 1, (*unit, exponent)
        scale *= unit[0] ** exponent
        _add(dimensions, unit[1], exponent)
    return (scale, dimensions) if last else None


def _add(dimensions: dict[str, int], more: dict[str, int], times: int) -> None:
    for name, power in more.items():
        dimensions[name] = dimensions.get(name, 0) + power * times


def _one_unit(name: str) -> tuple[Fraction, dict[str, int]] | None:
    """Size and dimensions of one unit; prefixes count only before symbols in their own case (``MeV``, ``mA``)."""
    known = _UNITS.get(_CANONICAL.get(name, ""))
    if known is None and name[:1] in _PREFIXES and name[1:] in _SYMBOLS:
        scale, dimensions = _UNITS[_SYMBOLS[name[1:]]]
        return scale * _PREFIXES[name[0]], dimensions
    if known is None and len(name) > 1 or name in ("J", "N", "W", "V", "A", "K", "L", "Ω"):
        known = _UNITS.get(_SYMBOLS.get(name) or _CANONICAL.get(name.lower(), ""))
    return known


@lru_cache(maxsize=1024)
def numeric_core(text: str) -> WithUnit:
    """The text without its unit where the rest holds no letters: ``2\\sqrt{3}`` of ``2\\sqrt{3} cm``."""
    core, unit = split_unit(text)
    if unit is None or not core or re.search("[A-Za-z]", _NUMERIC_COMMAND.sub(" ", core)):
        return WithUnit(text, None)
    return WithUnit(core, unit)


def units_contradict(unit: str | None, other: str | None) -> bool:
    """Whether both are known and differ. A missing or unknown unit contradicts nothing; percent is no unit here."""
    known = {u for u in (unit, other) if u not in (None, "?", "%")}
    if "degree" in known and any(str(u).startswith("degree ") for u in known):
        return False  # the scale of a temperature may be left out
    return len(known) > 1
