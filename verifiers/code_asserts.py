"""Assert statements that are no more than ``f(literals) == literal``.

Their calls can be made by one process and judged by another one that runs no code. Most published tests have this form;
all others go to the sandbox's tester.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from verifiers import code_compare
from verifiers.code_tests import parsed
from verifiers.sandbox.inside import values

_Judge = Callable[[Any], bool]
_CONSTANTS = (True, False, None)
_LONGEST, _LARGEST, _LARGEST_POWER = 100_000, 10**40, 100
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


class Check(NamedTuple):
    """One assert: the call's arguments as a tree, and what is asked of its value (a tree)."""

    arguments: Any
    """``[positional, keywords]``."""
    is_met: _Judge
    node: ast.Assert
    expected: str
    test: int
    """Index of the test that holds it."""


class Plan(NamedTuple):
    """All asserts of some tests, in order."""

    target: str
    checks: list[Check]


class _NotSimpleError(Exception):
    """Only the tester can run this."""


def plan(tests: list[str], setup: str, entry_point: str | None, is_check: bool) -> Plan | None:
    """The tests as calls of one function with literal arguments; None where they are more than that.

    ``is_check``: HumanEval's form, in which the setup defines ``check(candidate)`` and the test is to call it.
    """
    if entry_point is not None and not entry_point.isidentifier():
        return None
    try:
        prologue = _statements(setup)
        if is_check:
            parameter, asserts = _check_function(prologue)
            reader = _Reader(parameter, entry_point)
            found = [reader.check(node, 0) for node in asserts]
        elif prologue:
            return None
        else:
            reader = _Reader(None, entry_point)
            found = [reader.check(node, i) for i, test in enumerate(tests) for node in _statements(test)]
    except (_NotSimpleError, SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    checks = [check for check in found if check is not None]
    if reader.target is None or {check.test for check in checks} != set(range(len(tests))):
        return None
    return Plan(reader.target, checks)


def _statements(source: str) -> list[ast.stmt]:
    return [node for node in parsed(source).body if not _is_idle(node)]


def _is_idle(node: ast.stmt) -> bool:
    """Docstrings, imports (no name of theirs occurs in what we read), and HumanEval's METADATA."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id == "METADATA"
    if isinstance(node, ast.Pass | ast.Import | ast.ImportFrom):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _check_function(setup: list[ast.stmt]) -> tuple[str, list[ast.Assert]]:
    if len(setup) != 1 or not isinstance(setup[0], ast.FunctionDef) or setup[0].name != "check":
        raise _NotSimpleError
    function = setup[0]
    parameters = function.args
    if len(parameters.args) != 1 or parameters.defaults or parameters.vararg or parameters.kwonlyargs:
        raise _NotSimpleError
    body = [node for node in function.body if not _is_idle(node)]
    asserts = [node for node in body if isinstance(node, ast.Assert)]
    if len(asserts) != len(body) or function.decorator_list:
        raise _NotSimpleError
    return parameters.args[0].arg, asserts


class _Reader:
    """Turns assert statements into checks of one function."""

    def __init__(self, parameter: str | None, entry_point: str | None) -> None:
        self._parameter = parameter
        self._entry_point = entry_point
        self.target: str | None = None

    def check(self, node: ast.stmt, test: int) -> Check | None:
        if not isinstance(node, ast.Assert):
            raise _NotSimpleError
        if isinstance(node.test, ast.Constant) and node.test.value:
            return None  # always true
        call, is_met, expected = self._condition(node.test)
        return Check(self._arguments(call), is_met, node, expected, test)

    def _condition(self, test: ast.expr) -> tuple[ast.Call, _Judge, str]:
        if isinstance(test, ast.Call):
            return test, code_compare.is_true, "a true value"
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and isinstance(test.operand, ast.Call):
            return test.operand, lambda tree: not code_compare.is_true(tree), "a false value"
        if not isinstance(test, ast.Compare) or len(test.ops) != 1:
            raise _NotSimpleError
        left, relation, right = test.left, test.ops[0], test.comparators[0]
        if isinstance(relation, ast.Lt | ast.LtE) and isinstance(left, ast.Call):
            return self._near(left, relation, right)
        call, literal = (left, right) if isinstance(left, ast.Call) else (right, left)
        if not isinstance(call, ast.Call):
            raise _NotSimpleError
        value = _literal(literal)
        tree = values.Encoder().encode(value)
        if isinstance(relation, ast.Eq):
            return call, lambda got: code_compare.same_value(got, tree), repr(value)
        if isinstance(relation, ast.NotEq):
            return call, lambda got: not code_compare.same_value(got, tree), f"anything but {value!r}"
        if isinstance(relation, ast.Is) and any(value is constant for constant in _CONSTANTS):
            return call, lambda got: got is value, repr(value)
        raise _NotSimpleError

    def _near(self, left: ast.Call, relation: ast.cmpop, right: ast.expr) -> tuple[ast.Call, _Judge, str]:
        """``abs(f(x) - literal) < literal``."""
        if not isinstance(left.func, ast.Name) or left.func.id != "abs" or len(left.args) != 1 or left.keywords:
            raise _NotSimpleError
        difference, limit = left.args[0], _literal(right)
        if not isinstance(difference, ast.BinOp) or not isinstance(difference.op, ast.Sub):
            raise _NotSimpleError
        sides = [difference.left, difference.right]
        calls = [side for side in sides if isinstance(side, ast.Call)]
        if len(calls) != 1:
            raise _NotSimpleError
        target = _literal(sides[1] if calls[0] is sides[0] else sides[0])
        if not isinstance(target, int | float) or not isinstance(limit, int | float):
            raise _NotSimpleError
        strict = isinstance(relation, ast.Lt)

        def is_met(tree: Any) -> bool:
            try:
                number = values.decode(tree) if isinstance(tree, dict) and ("i" in tree or "f" in tree) else tree
                if not isinstance(number, int | float):
                    return False
                distance = abs(number - target)
            except (values.NotPlainError, OverflowError):
                return False
            return distance < limit if strict else distance <= limit

        return calls[0], is_met, f"{target!r} within {limit!r}"

    def _arguments(self, call: ast.Call) -> Any:
        if not isinstance(call.func, ast.Name):
            raise _NotSimpleError
        name = call.func.id
        if self._parameter is not None:
            if name != self._parameter or self._entry_point is None:
                raise _NotSimpleError
            name = self._entry_point
        if (
            name != (self._entry_point or name)
            or self.target not in (None, name)
            or any(keyword.arg is None for keyword in call.keywords)
        ):
            raise _NotSimpleError
        self.target = name
        positional = [_literal(argument) for argument in call.args]
        keywords = {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
        return values.Encoder().encode([positional, keywords])


def _literal(node: ast.expr) -> Any:
    """The value of a literal, or of arithmetic on literals within bounds. Raises ``ValueError`` on anything else."""
    if isinstance(node, ast.BinOp):
        return _arithmetic(node.op, _literal(node.left), _literal(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        if isinstance(value, int | float | complex):
            return -value
        raise ValueError
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values) if key is not None}
    return ast.literal_eval(node)


def _arithmetic(sign: ast.operator, left: Any, right: Any) -> Any:
    function = _OPERATORS.get(type(sign))
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    repeated = isinstance(sign, ast.Mult) and isinstance(left, str | list) and isinstance(right, int)
    joined = isinstance(sign, ast.Add) and isinstance(left, str | list) and type(left) is type(right)
    if function is None or not (numbers or repeated or joined):
        raise ValueError
    if repeated and len(left) * right > _LONGEST:
        raise ValueError
    if numbers and max(abs(left), abs(right)) > _LARGEST:
        raise ValueError
    if isinstance(sign, ast.Pow) and abs(right) > _LARGEST_POWER:
        raise ValueError
    try:
        return function(left, right)
    except ArithmeticError:
        raise ValueError from None
