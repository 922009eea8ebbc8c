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
