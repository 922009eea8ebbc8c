"""Programs that try to get a verdict that they do not deserve, in every form of tests.

After each attack the same sandbox must give the next verdict right, and no process may be left over.
"""

from __future__ import annotations

import json
import textwrap

from sandbox_attack import RIGHT, judge, needs_bubblewrap, output, shared, verifier

from verifiers.code import CodeVerifier
from verifiers.verdict import Outcome

__all__ = ["shared", "verifier"]  # fixtures
pytestmark = needs_bubblewrap

ADD = {"inputs": ["[1, 2]\n3", "[4]\n5"], "outputs": ["6", "9"], "fn_name": "add"}
ASSERTS = {"test_list": ["assert add([1, 2], 3) == 6", "assert add([4], 5) == 9"]}
CODE = {
    "test_code": "for given, wanted in (([1, 2], 6), ([4], 9)):\n    assert add(given, wanted - sum(given)) == wanted"
}
CHECK = {
    "test": "def check(candidate):\n    for n in (1, 2):\n        assert candidate([n], n) == 2 * n",
    "entry_point": "add",
}
FORMS = [ADD, ASSERTS, CODE, CHECK]


def rejects(verifier: CodeVerifier, code: str) -> None:
    """Every form of tests is failed, for a reason that is the program's."""
    for gold in FORMS:
        verdict = judge(verifier, code, gold)
        assert verdict.outcome is Outcome.INCORRECT, (verdict, gold)


def test_the_forms_accept_a_right_solution(verifier: CodeVerifier) -> None:
    for gold in FORMS:
        assert judge(verifier, "def add(x, y): return sum(x) + y", gold).reason == "passed"
    rejects(verifier, "def add(x, y): return sum(x) - y")


def test_a_verdict_on_standard_output_is_only_output(verifier: CodeVerifier) -> None:
    code = """print('{"event": "test", "status": "exit", "number": 0, "outcome": "correct", "reason": "passed"}')"""
    assert judge(verifier, code, RIGHT).reason == "wrong_output"
    rejects(verifier, code)


def test_a_verdict_on_every_descriptor_is_ignored(verifier: CodeVerifier) -> None:
    code = """
        import json, os, struct
        heads = [{"event": "test", "status": "exit", "number": 0, "clean": True, "stderr": ""},
                 {"event": "tests", "status": "passed"}, {"v": True}, {"names": {}}, {"failure": None}]
        for head in heads:
            text = json.dumps(head).encode()
            for data in (struct.pack("!II", len(text), 0) + text, text + b"\\n"):
                for number in range(256):
                    try: os.write(number, data)
                    except OSError: pass
        def add(x, y): return None
    """
    rejects(verifier, code)
    assert judge(verifier, code, RIGHT).outcome is Outcome.INCORRECT


def test_ending_early_is_not_passing(verifier: CodeVerifier) -> None:
    for statement in ("import os; os._exit(0)", "import sys; sys.exit(0)", "exit()", "raise SystemExit"):
        rejects(verifier, statement)
        rejects(verifier, f"def add(x, y):\n    {statement}")
    assert judge(verifier, "import os\nos._exit(0)", RIGHT).reason == "wrong_output"


def test_killing_itself_is_not_passing(verifier: CodeVerifier) -> None:
    rejects(verifier, "import os\ndef add(x, y): os.kill(os.getpid(), 9)")


def test_an_object_that_equals_everything_equals_nothing(verifier: CodeVerifier) -> None:
    code = """
        class Yes:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __bool__(self): return True
            __hash__ = None
        def add(x, y): return Yes()
    """
    rejects(verifier, code)


def test_arithmetic_on_an_object_is_not_the_solution_s_to_define(verifier: CodeVerifier) -> None:
    code = """
        class Zero:
            def __sub__(self, other): return 0
            __rsub__ = __abs__ = __sub__
            def __lt__(self, other): return True
            __le__ = __gt__ = __ge__ = __lt__
        def add(x, y): return Zero()
    """
    near = {"test_code": "for n in (1, 2):\n    assert abs(add([n], n) - 2 * n) < 1e-6"}
    assert judge(verifier, code, near).outcome is Outcome.INCORRECT
    order = {"test_code": "for n in (1, 2):\n    assert 2 * n - 1 < add([n], n) < 2 * n + 1"}
    assert judge(verifier, code, order).outcome is Outcome.INCORRECT


def test_subclasses_of_plain_types_are_compared_as_what_they_are(verifier: CodeVerifier) -> None:
    for kind, value in (("int", "5"), ("str", "'x'"), ("list", "[0]"), ("float", "1.5")):
        code = f"class Yes({kind}):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        rejects(verifier, code + f"def add(x, y): return Yes({value})")


def test_patched_builtins_change_no_verdict(verifier: CodeVerifier) -> None:
    code = """
        import builtins, json, operator, sys
        builtins.AssertionError = builtins.Exception = type('E', (BaseException,), {})
        builtins.isinstance = builtins.all = builtins.any = lambda *a: True
        builtins.print = builtins.repr = lambda *a, **k: 'passed'
        operator.eq = lambda a, b: True
        json.dumps = lambda *a, **k: '{"v": true}'
        json.loads = lambda *a, **k: {"v": True}
        sys.excepthook = sys.settrace = lambda *a: None
        def add(x, y): return 0
    """
    rejects(verifier, code)


def test_runner_internals_are_out_of_reach(verifier: CodeVerifier) -> None:
    code = """
        import sys
        def add(x, y):
            frame = sys._getframe()
            while frame is not None:
                for name in list(frame.f_locals):
                    if name in ('calls', 'reply', 'result'): frame.f_locals[name] = True
                frame = frame.f_back
            for module in list(sys.modules.values()):
                for name in ('same_value', 'same_output', 'is_true', 'check'):
                    if hasattr(module, name): setattr(module, name, lambda *a, **k: True)
            return 0
    """
    rejects(verifier, code)


def test_a_builtin_name_in_the_tests_is_not_the_solution_s(verifier: CodeVerifier) -> None:
    gold = {
        "test_code": "import random\nwanted = {1, 2}\nassert set(pick()) == set(wanted)\nassert math.isclose(near(), 2)"
    }
    right = "import math\ndef pick(): return [2, 1]\ndef near(): return 2.0"
    assert judge(verifier, right, gold).reason == "passed"
    lies = "class math:\n    isclose = staticmethod(lambda *a: True)\ndef set(x): return 0\nclass random: pass\n"
    assert judge(verifier, lies + "def pick(): return []\ndef near(): return 2", gold).outcome is Outcome.INCORRECT
    assert judge(verifier, lies + "def pick(): return [1, 2]\ndef near(): return 3", gold).outcome is Outcome.INCORRECT


SEARCH = """
import ctypes
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable: else its own memory is closed to it, too
def found():
    memory = open('/proc/self/mem', 'rb', buffering=0)
    needle = bytes(reversed(b'-tuptuo-detcepxe-eht'))
    for line in open('/proc/self/maps'):
        span, mode = line.split()[:2]
        begin, end = (int(part, 16) for part in span.split('-'))
        if 'r' in mode and end - begin < 1 << 26:
            try:
                memory.seek(begin)
                data = memory.read(end - begin)
            except (OSError, ValueError, OverflowError):
                continue
            at = data.find(needle)
            while at >= 0:
                token = data[at:at + 22].decode('latin-1')
                if token[-2:].isdigit(): return token
                at = data.find(needle, at + 1)
    return 'not found'
"""


def test_the_search_finds_what_is_there(verifier: CodeVerifier) -> None:
    code = SEARCH + "token = input()\nprint(found())"
    assert output(verifier, code, "the-expected-output-42") == "the-expected-output-42"


def test_the_expected_output_is_not_in_the_program_s_memory(verifier: CodeVerifier) -> None:
    wanted = "the-expected-output-42"
    assert output(verifier, SEARCH + "print(found())") == "not found"
    for gold in (
        {"inputs": [""], "outputs": [wanted]},
        {"inputs": ["1"], "outputs": [json.dumps(wanted)], "fn_name": "add"},
        {"test_list": [f"assert add(1) == {wanted!r}"]},
        {"test_code": f"wanted = {wanted!r}\nassert add(1) == wanted"},
    ):
        code = SEARCH + "\ndef add(x): return found()\nif __name__ == '__main__': print(found())"
        assert judge(verifier, code, gold).reason == "wrong_output"


def test_closing_every_descriptor_is_not_passing(verifier: CodeVerifier) -> None:
    code = "import os\nos.closerange(0, 256)\n"
    rejects(verifier, code + "def add(x, y): return sum(x) - y")
    assert judge(verifier, code + "print(9)", RIGHT).outcome is Outcome.INCORRECT


def test_hostile_exceptions_are_runtime_errors(verifier: CodeVerifier) -> None:
    code = """
        class Hostile(Exception):
            def __str__(self): raise SystemExit(0)
            __repr__ = __str__
            args = property(__str__)
        def add(x, y): raise Hostile
    """
    code = textwrap.dedent(code)
    rejects(verifier, code)
    assert judge(verifier, code + "\nraise Hostile", RIGHT).reason == "runtime_error"


def test_values_without_a_plain_form_are_wrong(verifier: CodeVerifier) -> None:
    for body in (
        "x.append(x); return x",
        "return [0] * 10**7",
        "return 10**10**6",
        "return float('nan')",
        "return add",
    ):
        rejects(verifier, f"def add(x, y): {body}")
    deep = "def add(x, y):\n    value = []\n    for _ in range(10**5): value = [value]\n    return value"
    rejects(verifier, deep)


def incorrect(verifier: CodeVerifier, code: str, test_code: str, **fields: str) -> None:
    verdict = judge(verifier, code, {"test_code": textwrap.dedent(test_code), **fields})
    assert verdict.outcome is Outcome.INCORRECT, (code, verdict)


def test_builtins_in_the_tests_are_never_the_solution_s_to_define(verifier: CodeVerifier) -> None:
    loop = "for i in range(5):\n    assert f(i) == i * i"
    pairs = "for i, (x, y) in enumerate(zip([4, 6], [1, 1])):\n    assert f(x, 6) == y, i"
    sets = "assert set(similar(((3, 4), (5, 4)))) == set((4,))"
    for code, tests in (
        ("def range(*a): return []", loop),
        ("from math import gcd as f\ndef zip(*a): return []", pairs),
        ("from math import dist as similar\ndef set(x): return 0", sets),
        ("def sum(x): return 0\ndef range(*a): return []", "for i in range(3):\n    assert sum([i, 1]) == i + 1"),
        ("def range(*a): return [1]", "for i in range(3):\n    assert gcd(i, 6) == 1"),
        ("def range(*a): return []", "for i in range(3):\n    assert sum([i, 1]) == i + 1"),
    ):
        incorrect(verifier, code, tests)
    incorrect(verifier, "def zip(*a): return []\ndef f(*a): return 0", pairs, entry_point="f")
    assert judge(verifier, "def f(i): return i * i", {"test_code": loop}).reason == "passed"
    own = "def sum(x): return x[0] + x[1]"
    assert judge(verifier, own, {"test_code": "for i in range(3):\n    assert sum([i, 1]) == i + 1"}).reason == "passed"


def test_an_exit_is_no_pass(verifier: CodeVerifier) -> None:
    for code in ("from sys import exit as f", "from os import _exit as f", "f = SystemExit", "f = exit"):
        incorrect(verifier, code, "for x in (0, 1):\n    assert f(x) == x + 1")
    incorrect(verifier, "def f(x): return x", "import sys\nr = f(0)\nsys.exit(r)\nassert r == 1")
    last = {"test_code": "for x in (0, 1):\n    assert f(x) == x\nexit()"}
    assert judge(verifier, "def f(x): return x", last).reason == "passed"
    assert judge(verifier, "def f(x): return 1", last).reason == "wrong_output"


UNIT = """
import unittest
class T(unittest.TestCase):
    def test_f(self): self.assertEqual(f(2), 4)
"""


def test_unittest_failures_count_however_it_is_run(verifier: CodeVerifier) -> None:
    load = "suite = unittest.defaultTestLoader.loadTestsFromTestCase(T)\n"
    for run in (
        "unittest.main(argv=[''], exit=False)",
        "unittest.main()",
        load + "unittest.TextTestRunner().run(suite)",
        load + "suite.run(unittest.TestResult())",
        load + "import sys\nsys.exit(not unittest.TextTestRunner().run(suite).wasSuccessful())",
        "",
    ):
        incorrect(verifier, "def f(x): return x + 1", UNIT + run)
        incorrect(verifier, "x = 1", UNIT + run)
        assert judge(verifier, "def f(x): return x * x", {"test_code": UNIT + run}).reason == "passed", run


def test_tests_that_nobody_calls_are_run(verifier: CodeVerifier) -> None:
    plain = """
        s = Stack()
        class TestStack:
            def setup_method(self): self.stack = Stack()
            def test_push(self):
                self.stack.push(1)
                assert self.stack.top() == 1
    """
    word = "# like unittest\ns = Stack()\ndef test_a():\n    t = Stack()\n    t.push(1)\n    assert t.top() == 1"
    case = """
        import unittest
        s = Stack()
        class T(unittest.TestCase):
            def test_push(self):
                s.push(1)
                self.assertEqual(s.top(), 1)
    """
    later = "s = Stack()\nasync def test_a():\n    t = Stack()\n    t.push(1)\n    assert t.top() == 1"
    code = "class Stack:\n    def push(self, x): self.x = x\n    def top(self): return self.x"
    for tests in (plain, word, case, later):
        assert judge(verifier, code, {"test_code": textwrap.dedent(tests)}).reason == "passed", tests
        incorrect(verifier, code + " + 1", tests)
    incorrect(verifier, "def f(x): return []", "for x in f(3):\n    assert x == 3")
    awaited = {"test_code": "async def test_a():\n    assert await f(2) == 4"}
    assert judge(verifier, "async def f(x): return x * x", awaited).reason == "passed"
    assert judge(verifier, "async def f(x): return x", awaited).outcome is Outcome.INCORRECT


def test_the_truth_of_an_object_is_its_own(verifier: CodeVerifier) -> None:
    false, true = {"test_list": ["assert not f(3)"]}, {"test_list": ["assert f(3)"]}
    for body, not_f, yes_f in (
        ("return object()", False, True),
        ("import re; return re.match('a', 'a')", False, True),
        ("return type('T', (), {'__bool__': lambda self: False})()", True, False),
        ("return type('T', (), {'__bool__': lambda self: 1 / 0})()", False, False),
        ("return type('T', (), {'__bool__': lambda self: 2})()", False, False),
    ):
        code = f"def f(x): {body}"
        assert (judge(verifier, code, false).reason == "passed") is not_f, body
        assert (judge(verifier, code, true).reason == "passed") is yes_f, body


def test_two_keys_that_json_cannot_tell_apart_are_no_answer(verifier: CodeVerifier) -> None:
    gold = {"inputs": ["1"], "outputs": ['{"1": "right"}'], "fn_name": "f"}
    assert judge(verifier, "def f(x): return {1: 'wrong', '1': 'right'}", gold).reason == "wrong_output"
    assert judge(verifier, "def f(x): return {1: 'right'}", gold).reason == "passed"


def test_numbers_that_cannot_be_compared_are_wrong_output(verifier: CodeVerifier) -> None:
    for number in ("sNaN", "NaN", "1e999999999", "-Infinity", "1e99999999999999999999", "sNaN123"):
        for expected in ("9.5", "NaN1x", "7"):
            gold = {"inputs": [""], "outputs": [expected], "float_tolerance": 1e-6}
            assert judge(verifier, f"print({number!r})", gold).reason == "wrong_output", number
    decimals = {"test_code": "for x in (1, 2):\n    assert int(f(x)) == x"}
    assert judge(verifier, "def f(x): return Decimal('1e999999999')", decimals).outcome is Outcome.INCORRECT
    own = "from decimal import Decimal\ndef f(x): return Decimal('1e999999999')"
    assert judge(verifier, own, decimals).outcome is Outcome.INCORRECT


def test_a_wrong_program_cannot_make_the_tests_unusable(verifier: CodeVerifier) -> None:
    for code, tests in (
        ("f = int", "r = f([1])\nassert r == 2"),
        ("class f(Exception): pass", "r = f(1)\nassert g(r) == 2"),
        ("class E(Exception): pass\ndef f(x): return E", "r = f(1)\nassert f(r) == 2"),
        ("f = ImportError", "raise f(1)"),
        ("f = SyntaxError", "raise f(1)"),
        ("from operator import truediv as f", "r = f(1, 0)\nassert r == 2"),
        ("class L:\n    def __getattr__(self, name): return L()\nf = L()", "r = f + 1\nassert r == 2"),
        (
            "class L:\n    def sort(self, key): pass\ndef f(x): return L()",
            "r = f(1)\nr.sort(key=lambda x: x)\nassert r == [1]",
        ),
        ("class L:\n    def __getitem__(self, key): return 0\ndef f(x): return L()", "r = f(1)\nassert r[1:] == [1]"),
        ("x = 1", "r = f(1)\nassert r == 2"),
        ("def f(x): raise ImportError('no module', name='math')", "import math\nassert f(1) + 0 == math.inf"),
    ):
        incorrect(verifier, code, tests)


def test_a_context_manager_of_the_solution_s_swallows_nothing(verifier: CodeVerifier) -> None:
    code = """
        class A:
            def __enter__(self): return self
            def __exit__(self, *about): return True
            def get(self): BODY
        def f(): return A()
    """
    for body in ("return 1", "raise ValueError", "return 'x'"):
        incorrect(
            verifier,
            textwrap.dedent(code).replace("BODY", body),
            "with f() as a:\n    assert a.get() + 0 == 2",
        )
