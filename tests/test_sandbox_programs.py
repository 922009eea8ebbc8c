"""In the sandbox a program does what it does under a fresh interpreter: both are run here, side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_attack import judge, needs_bubblewrap, output

from verifiers.code import CodeVerifier
from verifiers.config import CodeConfig

pytestmark = needs_bubblewrap

PROGRAMS = {
    "closes its output": "import sys\nprint('x')\nsys.stdout.close()",
    "puts another output in place, writes to the first": """
        import io, sys
        first, sys.stdout = sys.stdout, io.StringIO()
        print('lost')
        first.write('kept')
    """,
    "wraps its output": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint('x')",
    "opens its output again": "f = open(1, 'w', closefd=False)\nf.write('x')",
    "has a class for its output": """
        import os, sys
        from io import BytesIO, IOBase
        class Out(IOBase):
            def __init__(self, file):
                self.number, self.buffer = file.fileno(), BytesIO()
            def write(self, text):
                return self.buffer.write(text.encode())
            def flush(self):
                os.write(self.number, self.buffer.getvalue())
                self.buffer.seek(0), self.buffer.truncate(0)
        sys.stdout = Out(sys.stdout)
        print('x')
    """,
    "prints from a finalizer": "class A:\n    def __del__(self): print('x')\na = A()",
    "prints from an exit handler": "import atexit\natexit.register(print, 'x')",
    "prints from a thread": """
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.05), print('x'))).start()
    """,
    "prints from a pool": """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)
        pool.submit(print, 'x')
    """,
    "ends with a number": "import sys\nprint('x')\nsys.exit(97)",
    "ends with a text": "import sys\nprint('x')\nsys.exit('no')",
    "ends with nothing": "import sys\nprint('x')\nsys.exit()",
    "fails in an exit handler": "import atexit\natexit.register(lambda: 1 / 0)\nprint('x')",
    "asks for the size of its input": "import os\nprint(os.read(0, os.fstat(0).st_size).decode())",
    "maps its input": "import mmap\nprint(mmap.mmap(0, 0, prot=mmap.PROT_READ)[:2])",
    "reads its input twice": "import sys\nprint(sys.stdin.read())\nsys.stdin.seek(0)\nprint(sys.stdin.read())",
    "reads lines, then the rest": "import sys\nprint(input(), sys.stdin.readline(), open(0).read())",
    "reads bytes, then text": "import sys\nprint(sys.stdin.buffer.readline(), input())",
    "reads past the end": "while True: print(input())",
    "runs a child on its input": "import os, sys\nif os.fork() == 0:\n    print(input())\nelse:\n    os.wait()",
    "maps in processes": """
        from multiprocessing import Pool
        if __name__ == '__main__':
            with Pool(2) as pool:
                print(pool.map(abs, [-1, 2]))
    """,
    "awaits": "import asyncio\nasync def main(): print(await asyncio.sleep(0, 'x'))\nasyncio.run(main())",
    "talks over a pair of sockets": "import socket\na, b = socket.socketpair()\na.send(b'x')\nprint(b.recv(1))",
}
STDIN = "ab\ncd\nef\n"


@pytest.fixture(scope="module")
def verifier() -> Iterator[CodeVerifier]:
    made = CodeVerifier(CodeConfig(time_limit_s=10, memory_mb=256))
    yield made
    made.close()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_ends_and_prints_as_under_a_fresh_interpreter(
    verifier: CodeVerifier, name: str, tmp_path: Path
) -> None:
    code = textwrap.dedent(PROGRAMS[name])
    (tmp_path / "solution.py").write_text(code)
    (tmp_path / "stdin").write_text(STDIN)
    with (tmp_path / "stdin").open() as stdin:
        command = [sys.executable, str(tmp_path / "solution.py")]
        plain = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=60, check=False)
    verdict = judge(verifier, code, {"inputs": [STDIN], "outputs": [plain.stdout]})
    assert verdict.reason == ("passed" if plain.returncode == 0 else "runtime_error"), verdict.detail
    if plain.returncode:
        assert json.loads(verdict.detail or "")["first_failure"]["got"] == plain.stdout


def test_compiling_is_bound_by_the_limits_on_memory_and_time(verifier: CodeVerifier) -> None:
    hungry = f"x = [{'[1,2],' * 3_000_000}]"
    start = time.monotonic()
    assert judge(verifier, hungry, {"inputs": [""], "outputs": ["x"]}).reason in ("memory_limit", "syntax_error")
    assert time.monotonic() - start < 30


def test_a_program_is_compiled_once_for_all_its_tests(verifier: CodeVerifier) -> None:
    code = f"x = [{'1,' * 300_000}]\nprint(len(x))"
    start = time.monotonic()
    output(verifier, code)
    once = time.monotonic() - start
    start = time.monotonic()
    assert judge(verifier, code, {"inputs": [""] * 12, "outputs": ["300000"] * 12}).reason == "passed"
    assert time.monotonic() - start < 8 * once


def test_a_program_cannot_change_its_input_or_what_it_was_compiled_to(verifier: CodeVerifier) -> None:
    code = """
        import os
        def change(number):
            try:
                os.write(os.open(f'/proc/self/fd/{number}', os.O_RDWR), b'7')
                return 'changed'
            except OSError as error:
                return type(error).__name__
        print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], change(0), open(0).read())
    """
    assert output(verifier, code, "1") == "[0, 1, 2] PermissionError 1"


def test_a_traceback_shows_the_program_only(verifier: CodeVerifier) -> None:
    verdict = judge(verifier, "def f(): return 1 / 0\nf()", {"inputs": [""], "outputs": ["x"]})
    error = json.loads(verdict.detail or "")["first_failure"]["error"]
    assert error.count("File ") == error.count('File "<solution>"') == 2


def test_one_cell_serves_many_solutions_and_a_dirty_one_none(verifier: CodeVerifier) -> None:
    tell = "import os\nprint(os.getpid())"
    first, second = int(output(verifier, tell)), int(output(verifier, tell))
    assert second == first + 1
    output(verifier, "open('/tmp/x', 'w').close()\nprint(1)")
    assert int(output(verifier, tell)) < second
