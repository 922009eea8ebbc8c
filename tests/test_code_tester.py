"""Test code that needs the tester: what it may do with the solution's objects, and what no solution makes of that."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
from sandbox_attack import judge, needs_bubblewrap, shared, verifier

from verifiers.code import CodeVerifier
from verifiers.sandbox import policy
from verifiers.sandbox.inside import copies, values
from verifiers.verdict import Outcome

__all__ = ["shared", "verifier"]  # fixtures
NODE = """
class Node:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next

def build(items):
    head = None
    for item in reversed(items):
        head = Node(item, head)
    return head

def listed(node):
    found = []
    while node:
        found.append(node.val)
        node = node.next
    return found
"""


def passes(verifier: CodeVerifier, code: str, tests: str, **fields: str) -> None:
    verdict = judge(verifier, code, {"test_code": textwrap.dedent(tests), **fields})
    assert verdict.reason == "passed", (code, verdict)


def fails(verifier: CodeVerifier, code: str, tests: str, reason: str | None = None, **fields: str) -> None:
    verdict = judge(verifier, code, {"test_code": textwrap.dedent(tests), **fields})
    assert verdict.outcome is Outcome.INCORRECT, (code, verdict)
    assert verdict.reason == (reason or verdict.reason), verdict


# --- membership -------------------------------------------------------------------------------------------------------

BAG = """
class Bag:
    def __init__(self): self.kept = {}
    def add(self, x): self.kept[x] = True
    def __contains__(self, x): return x in self.kept
"""
IN_BAG = """
bag = Bag()
bag.add(3)
assert 3 in bag
assert 4 not in bag
"""
CASE_OF_BAG = """
import unittest
class T(unittest.TestCase):
    def setUp(self):
        self.bag = Bag()
    def test(self):
        self.bag.add(3)
        self.assertIn(3, self.bag)
        self.assertNotIn(4, self.bag, 'no')
"""


@needs_bubblewrap
def test_an_object_that_the_tests_have_built_says_what_it_contains(verifier: CodeVerifier) -> None:
    for tests in (IN_BAG, CASE_OF_BAG):
        passes(verifier, BAG, tests)
        for answer in ("True", "False", "1 / 0", "x not in self.kept"):
            fails(verifier, BAG.replace("return x in self.kept", f"return {answer}"), tests)
    fails(verifier, "def Bag(): return {}", IN_BAG)


@needs_bubblewrap
def test_an_answer_does_not_say_what_it_contains(verifier: CodeVerifier) -> None:
    yes = "class Yes:\n    def __contains__(self, x): return True\n    def close(self): pass\n"
    for tests in (
        "assert 3 in f(1)",
        "r = f(1)\nassert 3 in r",
        "r = f(1)\nr.close()\nassert 3 in r and 4 in r",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertIn(3, f(1))",
    ):
        fails(verifier, yes + "def f(x): return Yes()", tests)
        fails(verifier, yes + "f = lambda x: Yes()", tests)
        fails(verifier, yes.replace("Yes:", "f:\n    def __init__(self, x): pass"), tests)
    solver = yes.replace("Yes", "Solver") + "    def reset(self): return self\n    solve = lambda self, x: self\n"
    for tests in (
        "s = Solver()\ns.reset()\nassert [1, 2] in s.solve(3)",
        "s = Solver()\ns.reset()\nr = s.solve(3)\nassert [1, 2] in r",
        "s = Solver()\ns.reset()\ns = s.solve(3)\nassert [1, 2] in s",
        "s = Solver()\ns.reset()\nfor s in [s.solve(3)]:\n    assert [1, 2] in s",
        "def check(s):\n    assert [1, 2] in s\ns = Solver()\ns.reset()\ncheck(s.solve(3))",
    ):
        fails(verifier, solver, tests)
    passes(verifier, "def f(x): return iter([1, 2, 3])", "r = f(1)\nassert 3 in r")


# --- named tuples and other subclasses of plain types -----------------------------------------------------------------

POINT = """
from typing import NamedTuple
class Point(NamedTuple):
    x: int
    y: list
    def size(self): return self.x + len(self.y)
def make(x): return Point(x, [x])
def flip(p): return Point(p.x + 1, p.y)
"""


@needs_bubblewrap
def test_named_tuples_have_their_fields(verifier: CodeVerifier) -> None:
    tests = """
        p = make(3)
        assert p.x == 3 and p.y == [3] and p == (3, [3]) and p[0] == 3 and len(p) == 2
        assert p.size() == 4 and flip(p).x == 4 and flip(p) == (4, [3])
        assert p._replace(x=5) == (5, [3]) and p._asdict() == {'x': 3, 'y': [3]}
        assert [q.x for q in (make(1), make(2))] == [1, 2]
    """
    passes(verifier, POINT, tests)
    fails(verifier, POINT.replace("Point(x, [x])", "(x, [x])"), tests)
    passes(verifier, POINT, "p = Point(1, [])\nassert isinstance(p, Point) and not isinstance((1, []), Point)")
    mine = "from collections import namedtuple\nP = namedtuple('P', 'x y')\nassert f(P(1, 2)) == 3 and f(P(2, 2)) == 4"
    passes(verifier, "def f(p): return p.x + p.y", mine)
    own = "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(p): return p.x + P(p.y, 0).x"
    passes(verifier, own, mine)


@needs_bubblewrap
def test_a_named_tuple_is_compared_as_the_tuple_that_it_is(verifier: CodeVerifier) -> None:
    code = """
        from collections import namedtuple
        class P(namedtuple('P', 'x y')):
            def __eq__(self, other): return True
            __ne__ = __contains__ = __eq__
            __hash__ = None
            __getattr__ = lambda self, name: self
        def f(x): return P(0, 0)
    """
    for claim in ("== (x, x)", ".x == x", "!= (0, 0)", ".other == x", ".other.x == x"):
        fails(verifier, code, f"for x in (1, 2):\n    assert f(x){claim if claim[0] == '.' else ' ' + claim}")
    fails(verifier, code, "for x in (1, 2):\n    assert x in f(x)")


@needs_bubblewrap
def test_classes_that_are_containers_keep_their_methods(verifier: CodeVerifier) -> None:
    code = """
        from collections import OrderedDict
        class Cache(OrderedDict):
            def __init__(self, size): self.size = size
            def put(self, key, value):
                self[key] = value
                self.move_to_end(key)
                if len(self) > self.size: self.popitem(last=False)
        class Stack(list):
            def push(self, x): self.append(x)
    """
    tests = """
        cache, stack = Cache(2), Stack()
        for n in (1, 2, 3):
            cache.put(n, n * n)
            stack.push(n)
        assert cache == {2: 4, 3: 9} and len(cache) == 2 and cache[3] == 9
        assert stack == [1, 2, 3] and [1, 2, 3] == stack and stack != [1, 2] and list(stack) == [1, 2, 3]
    """
    passes(verifier, code, tests)
    fails(verifier, code.replace("last=False", "last=True"), tests)
    lie = textwrap.dedent(code) + "Stack.__eq__ = lambda *a: True\nStack.push = lambda *a: None\n"
    fails(verifier, lie, "stack = Stack()\nstack.push(1)\nassert stack == [1]", "wrong_output")
    fails(verifier, lie, "stack = Stack()\nstack.push(1)\nassert stack != []", "wrong_output")


@needs_bubblewrap
def test_objects_have_their_own_hash_and_attributes(verifier: CodeVerifier) -> None:
    code = """
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class P:
            x: int
    """
    passes(verifier, code, "assert len({P(1), P(1), P(2)}) == 2 and vars(P(1)) == {'x': 1} and P(1).x == 1")
    fails(verifier, code, "assert 1 in {P(1)} or P(1) == 1 or P(1) == (1,) or P(1) == {'x': 1}")
    lie = "class P:\n    def __init__(self, x): pass\n    __hash__ = lambda self: 1\n    __eq__ = lambda *a: True"
    fails(verifier, lie, "assert 1 in {P(1)} or P(1) in {1: 2}")


# --- classes that the problem defines ---------------------------------------------------------------------------------

ROTATED = "assert listed(f(build([1, 2, 3]))) == [2, 3, 1] and f(None) is None"
ROTATE = """
def f(head):
    if head is None: return None
    node = Node(head.val)
    last = head
    while last.next: last = last.next
    last.next = node
    return head.next
"""


@needs_bubblewrap
def test_the_solution_has_what_the_problem_defines(verifier: CodeVerifier) -> None:
    passes(verifier, ROTATE, ROTATED, prompt=NODE)
    passes(verifier, NODE + ROTATE, ROTATED, prompt=NODE)
    passes(verifier, NODE.replace("val=0", "val").replace("self.val", "self.val") + ROTATE, ROTATED, prompt=NODE)
    fails(verifier, "def f(head): return head", ROTATED, "wrong_output", prompt=NODE)
    passes(verifier, "def f(items): return listed(build(items))", "x = [1]\nassert f(x) == [1]", prompt=NODE)
    passes(verifier, "def f(x): return x + limit", "x = 1\nassert f(x) == 4", prompt="limit = 3")
    passes(verifier, "LIST = build([1, 2])", "a = [1, 2]\nassert listed(LIST) == a", prompt=NODE)
    passes(verifier, "def f(x): return x", "x = 1\nassert g(x) == 1", prompt="g = f")


@needs_bubblewrap
def test_a_class_that_the_problem_asks_for_is_the_solution_s(verifier: CodeVerifier) -> None:
    asked = "class Adder:\n    def __init__(self, n):\n        self.n = n\n    def add(self, x):\n        'The sum.'\n"
    code = "class Adder:\n    def __init__(self, n): self.n = n\n    def add(self, x): return self.n + x"
    passes(verifier, code, "a = Adder(1)\nassert a.add(2) == 3", prompt=asked)
    fails(verifier, code.replace("+ x", "- x"), "a = Adder(1)\nassert a.add(2) == 3", "wrong_output", prompt=asked)


@needs_bubblewrap
def test_objects_of_the_problem_s_classes_stay_what_they_are(verifier: CodeVerifier) -> None:
    tests = """
        a = build([1, 2, 3])
        b = a.next
        assert f(a) is b and listed(a) == [1, 2, 30] and b.next.val == 30
        long = build(range(3000))
        assert f(long) is long.next and listed(long)[2] == 20
        ring = build([1, 2, 3])
        ring.next.next.next = ring
        assert f(ring) is ring.next and ring.next.next.next is ring and ring.next.next.val == 30
        assert f([ring]) == [ring]
    """
    code = """
        def f(node):
            if isinstance(node, list): return node
            node.next.next.val *= 10
            return node.next
    """
    passes(verifier, code, tests, prompt=NODE)
    fails(verifier, code.replace("*= 10", "*= 11"), tests, prompt=NODE)
    fails(verifier, code + "\n            import copy", "a = build([1, 2, 3])\nassert f(a) is a", prompt=NODE)
    slots = "from enum import Enum\nclass Color(Enum):\n    RED = 1\n    BLUE = 2\n"
    slots += "class P:\n    __slots__ = ('x', 'y')\n    def __init__(self, x): self.x = x\nclass Bad(Exception): pass\n"
    tests = """
        p = P([1])
        kept = p.x
        assert f(p, Color.RED) is Color.BLUE and p.y == 5 and kept == [1, 2] and p.x is kept
        try:
            f(p, Color.BLUE)
        except Bad as error:
            assert str(error) == 'no'
        else:
            assert False
    """
    code = """
        def f(p, color):
            if color is Color.BLUE: raise Bad('no')
            p.y = 5
            p.x.append(2)
            return Color.BLUE
    """
    passes(verifier, code, tests, prompt=slots)
    fails(verifier, code.replace("Color.BLUE\n", "Color.RED\n", 1), tests, prompt=slots)


@needs_bubblewrap
def test_the_tests_own_classes_are_given_only_where_they_are_data(verifier: CodeVerifier) -> None:
    data = "class Item:\n    def __init__(self, x): self.x = x\n"
    passes(verifier, "def f(a): return Item(a.x + 1)", data + "a = Item(1)\nassert f(a).x == 2")
    dated = "from dataclasses import dataclass\n@dataclass\nclass Item:\n    x: int\n"
    passes(verifier, "def f(a): return a.x + 1", dated + "a = Item(1)\nassert f(a) == 2")
    reference = "class Item:\n    def answer(self, x): return x * 7\nfor x in (1, 2): assert f(x) == Item().answer(x)"
    fails(verifier, "def f(x): return Item().answer(x)", reference)
    passes(verifier, "def f(x): return 7 * x", reference)
    telling = "class Item:\n    def __init__(self, x=42): self.x = x\nfor x in (1, 2): assert f(x) == Item().x"
    fails(verifier, "def f(x): return Item().x", telling)
    verdict = judge(verifier, "def f(a): return 1", {"test_code": reference + "\nassert f(Item()) == 1"})
    assert verdict.outcome is not Outcome.CORRECT


JUDGING = (
    NODE
    + """
    def is_sorted(self): return self.next is None or self.val <= self.next.val
    count = property(lambda self: self.val)
    limit = 5
"""
)


@needs_bubblewrap
def test_no_object_brings_methods_of_its_own_to_the_tests(verifier: CodeVerifier) -> None:
    prompt = NODE.replace("        self.next = next\n", "        self.next = next\n" + JUDGING[len(NODE) + 1 :])
    tests = "r = f(1)\nassert r.is_sorted() and r.val == 2 and r.count == 2 and r.next.val == 3"
    passes(verifier, "def f(n): return build([2, 3])", tests, prompt=prompt)
    for lie in (
        "r.is_sorted = lambda: True",
        "r.__dict__['is_sorted'] = print",
        "r.__dict__['count'] = 2; r.val = 3",
        "r.__class__ = type('Node', (Node,), {'is_sorted': lambda self: True})",
        "r.val = type('V', (), {'__eq__': lambda *a: True, '__le__': lambda *a: True})()",
        "r.__dict__['__class__'] = 5; r.__dict__['__eq__'] = lambda *a: True",
    ):
        fails(verifier, f"def f(n):\n    r = build([3, 2])\n    {lie}\n    return r", tests, prompt=prompt)
    yes = "class Node:\n    def __init__(self, *a): pass\n    __eq__ = __le__ = is_sorted = lambda *a: True\n"
    fails(verifier, yes + "def f(n): return Node()", tests, prompt=prompt)
    fails(verifier, yes + "def f(n): return Node()", "a = build([1])\nassert f(1) == a", prompt=prompt)


@needs_bubblewrap
def test_no_object_can_be_of_a_class_that_is_the_tests_alone(verifier: CodeVerifier) -> None:
    tests = """
        class Anything:
            def __eq__(self, other): return True
            def unused(self): pass
        for x in (1, 2):
            assert f(x) == x
    """
    for kind in ("'Anything'", "'Node'", "'int'", "'f'", "'Remote'", "'_verifier_in'", "5", "None", "[]"):
        for number in ("0", "1", "-1", "0.0", "None", "'x'", "10**9"):
            code = f"""
                import sys
                copies = sys.modules['verifiers.sandbox.inside.copies'].Copies
                encoder = sys.modules['verifiers.sandbox.inside.values'].Encoder
                copies.pack = lambda *a: [[{number}, {kind}, {{"d": []}}]]
                def f(x):
                    encoder.encode = lambda *a: {{"h": [0, "copy"]}}
            """
            if kind == "'Anything'" or number == "0":
                fails(verifier, code, tests, prompt=NODE)


@needs_bubblewrap
@pytest.mark.parametrize(
    "tree",
    [
        '{"nt": [{"T": "int"}, ["x"], [1]]}',
        '{"nt": [{"h": [0, "class", "f"]}, ["x"] * 300, [1] * 300]}',
        '{"nt": [{"h": [0, "class", "f"]}, ["x", "x"], [1, 2]]}',
        '{"nt": [{"h": [0, "class", "f"]}, ["__eq__"], [1]]}',
        '{"nt": [{"h": [0, "class", "f"]}, ["x=[].append(1)"], [1]]}',
        '{"nt": [{"h": ["Node", "class"]}, ["x"], [1]]}',
        '{"nt": ["Node", ["x"], [1]]}',
        '{"nt": 5}',
        '{"h": []}',
        '{"h": [0]}',
        '{"h": [9, "copy"]}',
        '{"h": ["Remote", "class"]}',
        '{"h": [0, "container", "f"]}',
        '{"h": [7, "exception KeyError", 5]}',
    ],
)
def test_hostile_values_on_the_link_are_wrong_answers(verifier: CodeVerifier, tree: str) -> None:
    code = f"""
        import sys
        def f(x): sys.modules['verifiers.sandbox.inside.values'].Encoder.encode = lambda *a: {tree}
    """
    for tests in ("for x in (1, 2):\n    assert f(x) == x", "for x in (1, 2):\n    assert x in f(x)"):
        fails(verifier, code, tests, prompt=NODE)
        fails(verifier, code, tests)


@needs_bubblewrap
def test_the_solution_is_not_shown_the_tests(verifier: CodeVerifier) -> None:
    code = """
        import gc, sys
        def f(x):
            word, frame = ''.join(reversed('terces-eht')), sys._getframe().f_back
            seen = [o for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]
            while frame:
                seen.append(dict(frame.f_locals))
                frame = frame.f_back
            return sum(type(o) is str and word in o for s in seen for o in (s.values() if type(s) is dict else s))
    """
    tests = "class Item:\n    def __init__(self, x): self.x = x\nwant = 'the-secret'\na = Item(1)\nassert f(a) == 0"
    passes(verifier, code, tests, prompt=NODE)


# --- tests that do not end --------------------------------------------------------------------------------------------


@needs_bubblewrap
@pytest.mark.parametrize(
    "loop",
    ["while True: pass", "import time\ntime.sleep(60)", "while True:\n    try: 1 / 0\n    except BaseException: pass"],
)
def test_tests_that_do_not_end_say_nothing_of_the_solution(verifier: CodeVerifier, loop: str) -> None:
    verdict = judge(verifier, "def f(x): return x", {"test_code": f"assert f(1) == 1\n{loop}\nassert f(2) == 2"})
    assert (verdict.outcome, verdict.reason) == (Outcome.UNVERIFIABLE, "tests_unusable"), verdict


@needs_bubblewrap
def test_a_solution_that_keeps_the_tests_busy_has_failed(verifier: CodeVerifier) -> None:
    loop = "for x in (1, 2):\n    assert f(x) == x"
    fails(verifier, "def f(x):\n    while True: pass", loop, "time_limit")
    fails(verifier, "import time\ndef f(x): time.sleep(60)", loop, "time_limit")
    fails(verifier, "def f(x):\n    while True: yield x", "assert list(f(1)) == [1]", "time_limit")
    ring = "def f(head):\n    head.next.next = head\n    return head"
    fails(verifier, ring, "a = build([1, 2])\nassert listed(f(a)) == [1, 2]", prompt=NODE)
    fails(verifier, ring, "a = build([1, 2])\nf(a)\nassert listed(a) == [1, 2]", prompt=NODE)


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_a_ring_is_found() -> None:
    def row(number: int, *targets: int) -> list[Any]:
        return [number, "Node", {"d": [["next", {"h": [target, "copy"]}] for target in targets]}]

    assert not copies.has_cycle([])
    assert not copies.has_cycle([row(0, 1, 2), row(1, 2), row(2), row(3, 9)])
    assert copies.has_cycle([row(0, 1), row(1, 2), row(2, 1)]) and copies.has_cycle([row(0, 0)])


def test_values_without_an_outside_have_no_fields() -> None:
    kind = values.named_tuple("P", ["x", "y"])
    assert values.Encoder().encode(kind(1, 2)) == {"t": [1, 2]}
    with pytest.raises(values.NotPlainError):
        values.decode({"nt": ["P", ["x"], [1]]})


def test_the_warm_process_stays_light() -> None:
    code = policy._boot_code(str(policy.INSIDE.parent))
    code = code.replace("server import main", "tester import Tester").replace("main(", "print(*sys.modules, ")
    bare, loaded = (
        set(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.split())
        for text in ("import sys\nprint(*sys.modules)", code)
    )
    assert "verifiers.sandbox.inside.suites" in loaded
    assert not {"asyncio", "ssl", "subprocess", "tempfile", "logging", "unittest"} & (loaded - bare)
