"""Programs that try to get out of the sandbox, to break it, or to get a verdict that they do not deserve.

After each attack the same sandbox must give the next verdict right, and no process may be left over.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sandbox_attack import (
    CONFIG,
    MOST_PROCESSES,
    RIGHT,
    SQUARE,
    call,
    descendants,
    judge,
    needs_bubblewrap,
    output,
    refusal,
    shared,
    verifier,
    x86_only,
)

from verifiers.code import CodeVerifier
from verifiers.verdict import Outcome

__all__ = ["shared", "verifier"]  # fixtures
pytestmark = needs_bubblewrap

# --- exhausting the machine -------------------------------------------------------------------------------------------


def test_a_fork_bomb_meets_a_limit_on_processes(verifier: CodeVerifier) -> None:
    code = """
        import os, time
        num = 0
        try:
            while num < 1000:
                if os.fork() == 0:
                    time.sleep(30)
                num += 1
        except OSError as error:
            print(type(error).__name__, num)
    """
    name, num = output(verifier, code).split()
    assert name == "BlockingIOError" and 8 <= int(num) <= 64


def test_a_fork_bomb_that_goes_on_is_ended(verifier: CodeVerifier) -> None:
    code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert judge(verifier, code, RIGHT).outcome is Outcome.INCORRECT


def test_threads_count_as_processes(verifier: CodeVerifier) -> None:
    code = """
        import threading, time, os
        num = 0
        try:
            for num in range(1000): threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        except RuntimeError:
            print(num); sys.stdout.flush(); os._exit(0)
    """
    assert 4 <= int(output(verifier, code)) <= 64


def test_a_memory_bomb_is_a_memory_limit(verifier: CodeVerifier) -> None:
    assert judge(verifier, "x = bytearray(64 << 30)", RIGHT).reason == "memory_limit"
    code = "x = []\nwhile True: x.append(bytearray(b'x') * (4 << 20))"
    assert judge(verifier, code, RIGHT).reason == "memory_limit"


def test_memory_counts_over_all_processes(verifier: CodeVerifier) -> None:
    code = """
        import os, time
        for _ in range(12):
            if os.fork() == 0:
                x = bytearray(b'x') * (40 << 20)
                time.sleep(30)
        time.sleep(30)
    """
    assert judge(verifier, code, RIGHT).reason == "memory_limit"


def test_memory_that_no_limit_counts_is_refused(verifier: CodeVerifier) -> None:
    assert refusal(verifier, "os.memfd_create('x')") == "PermissionError"


@x86_only
def test_system_v_shared_memory_and_queues_are_refused(verifier: CodeVerifier) -> None:
    assert refusal(verifier, call(29, 0, 4096, 0o1600)) == "PermissionError"
    assert refusal(verifier, call(68, 0, 0o1600)) == "PermissionError"


def test_open_files_are_limited(verifier: CodeVerifier) -> None:
    code = "import os\nn = 0\ntry:\n    while True: os.dup(0); n += 1\nexcept OSError: print(n)"
    assert int(output(verifier, code)) <= 128


def test_the_disk_cannot_be_filled(verifier: CodeVerifier) -> None:
    code = """
        import os
        total = 0
        try:
            for i in range(1000):
                with open(f'/tmp/{i}', 'wb', buffering=0) as file:
                    for _ in range(20): total += file.write(bytes(1 << 20))
        except OSError as error:
            print(error.errno, total >> 20)
    """
    number, mib = map(int, output(verifier, code).split())
    assert number == 28 and mib <= 32


def test_shared_memory_files_are_limited(verifier: CodeVerifier) -> None:
    code = """
        total = 0
        try:
            for i in range(1000):
                with open(f'/dev/shm/{i}', 'wb', buffering=0) as file:
                    for _ in range(20): total += file.write(bytes(1 << 20))
        except OSError as error:
            print(total >> 20)
    """
    assert int(output(verifier, code)) <= 32


def test_one_file_is_limited(verifier: CodeVerifier) -> None:
    assert refusal(verifier, "os.truncate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 1 << 40)") == "OSError"


def test_the_number_of_files_is_limited(verifier: CodeVerifier) -> None:
    code = "n = 0\ntry:\n    while True: open(f'/tmp/{n}', 'w').close(); n += 1\nexcept OSError: print(n)"
    assert int(output(verifier, code)) <= 4096


def test_endless_output_is_an_output_limit(verifier: CodeVerifier) -> None:
    assert judge(verifier, "while True: print('x' * 1000)", RIGHT).reason == "output_limit"


def test_endless_standard_error_is_dropped(verifier: CodeVerifier) -> None:
    verdict = judge(verifier, "import sys\nwhile True: sys.stderr.write('x' * 1000)", RIGHT)
    assert verdict.reason == "time_limit" and len(verdict.detail or "") < 10_000


def test_huge_standard_input_arrives_whole(verifier: CodeVerifier) -> None:
    gold = {"inputs": ["7" * 20_000_000], "outputs": ["20000000"]}
    assert judge(verifier, "import sys\nprint(len(sys.stdin.read()))", gold).reason == "passed"
    assert judge(verifier, "print(20000000)", gold).reason == "passed"  # no one reads it


def test_deep_recursion_ends_the_program_only(verifier: CodeVerifier) -> None:
    code = "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return max(f(n + 1), n)\nprint(f(0))"
    assert judge(verifier, code, RIGHT).reason in ("runtime_error", "memory_limit", "time_limit")
    code = "@lru_cache(None)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(20000))"
    assert judge(verifier, code, {"inputs": [""], "outputs": ["20000"]}).reason == "passed"


# --- getting out ------------------------------------------------------------------------------------------------------


def test_there_is_no_way_to_another_machine(verifier: CodeVerifier) -> None:
    assert refusal(verifier, "socket.create_connection(('1.1.1.1', 53), timeout=0.5)") == "OSError"
    assert refusal(verifier, "socket.getaddrinfo('example.org', 80)") == "gaierror"


def test_a_server_on_the_host_is_out_of_reach(verifier: CodeVerifier) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        statement = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=0.5)"
        assert refusal(verifier, statement) == "OSError"
        with pytest.raises(TimeoutError):
            server.accept()


def test_there_is_no_loopback_device_over_which_tcp_could_fill_memory(verifier: CodeVerifier) -> None:
    statement = "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); socket.create_connection(s.getsockname())"
    assert refusal(verifier, statement) == "OSError"
    assert refusal(verifier, "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)") == "done"


def test_an_abstract_socket_of_the_host_is_out_of_reach(verifier: CodeVerifier) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0sandbox-attack")
        server.listen()
        statement = "socket.socket(socket.AF_UNIX).connect('\\0sandbox-attack')"
        assert refusal(verifier, statement) == "ConnectionRefusedError"


def test_sockets_that_leave_the_network_namespace_are_refused(verifier: CodeVerifier) -> None:
    for family in ("AF_VSOCK", "AF_NETLINK", "AF_PACKET", "AF_ALG"):
        assert refusal(verifier, f"socket.socket(socket.{family}, socket.SOCK_DGRAM)") == "OSError"


def test_files_of_the_host_are_not_there(verifier: CodeVerifier, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    wanted = ["/etc/shadow", "/etc/passwd", str(tmp_path / "secret"), __file__, "/proc/1/root/etc/shadow"]
    wanted += [str(Path.home() / ".bashrc"), str(Path(__file__).parents[1] / "README.md"), "/var/log", "/sys/kernel"]
    code = f"import os\nfor path in {wanted!r}: print(os.access(path, os.R_OK))"
    assert set(output(verifier, code).split()) == {"False"}


def test_processes_of_the_host_are_not_there(verifier: CodeVerifier) -> None:
    code = "import os\nprint(*[name for name in os.listdir('/proc') if name.isdigit()])"
    assert len(output(verifier, code).split()) == 2  # its supervisor and itself
    assert os.getpid() > 2


def test_the_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_ATTACK_TOKEN", "secret-value")
    verifier = CodeVerifier(CONFIG)
    try:
        text = output(verifier, "import os\nprint(dict(os.environ))")
        assert "secret-value" not in text and "PATH" in text
        assert refusal(verifier, "open('/proc/1/environ').read()") == "PermissionError"
    finally:
        verifier.close()


def test_the_supervisor_survives_signals(verifier: CodeVerifier) -> None:
    code = """
        import os, signal
        for number in range(1, 65):
            try: os.kill(1, number)
            except OSError: pass
        print('still here')
    """
    assert output(verifier, code) == "still here"


def test_killing_everything_kills_nothing_else(verifier: CodeVerifier) -> None:
    before = descendants()
    judge(verifier, "import os\nos.kill(-1, 9)\nos.kill(0, 9)", RIGHT)
    assert min(before) in descendants()


def test_the_supervisor_cannot_be_traced(verifier: CodeVerifier) -> None:
    statement = """
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(16, 1, 0, 0) < 0: raise OSError(ctypes.get_errno(), 'refused')
    """
    assert refusal(verifier, statement) == "PermissionError"
    assert refusal(verifier, "open('/proc/1/mem', 'rb')") == "PermissionError"
    assert refusal(verifier, "open('/proc/1/mem', 'r+b')") == "OSError"  # nothing there can be written
    assert refusal(verifier, "os.listdir('/proc/1/fd')") == "PermissionError"


@x86_only
def test_another_process_s_memory_cannot_be_read(verifier: CodeVerifier) -> None:
    assert refusal(verifier, call(310, 1, 0, 0, 0, 0, 0)) == "PermissionError"  # process_vm_readv
    assert refusal(verifier, call(438, 3, 0, 0)) == "PermissionError"  # pidfd_getfd


def test_the_supervisor_s_limits_cannot_be_changed(verifier: CodeVerifier) -> None:
    import_ = "import resource\n"
    assert refusal(verifier, import_ + "resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))") == "PermissionError"
    assert refusal(verifier, "os.sched_setaffinity(1, {0})") == "PermissionError"
    assert refusal(verifier, "os.setpriority(os.PRIO_PROCESS, 1, 19)") == "PermissionError"


def test_its_own_limits_cannot_be_raised(verifier: CodeVerifier) -> None:
    statement = "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6))"
    assert refusal(verifier, statement) == "ValueError"


@x86_only
def test_no_further_namespaces_and_mounts(verifier: CodeVerifier) -> None:
    for number, first in ((272, 0x10000000), (272, 0x20000), (56, 0x10000011), (308, 0), (161, 0), (165, 0), (435, 0)):
        assert refusal(verifier, call(number, first, 0, 0, 0, 0)) in ("PermissionError", "OSError")
    assert refusal(verifier, "subprocess.run(['unshare', '-Ur', 'true'], check=True)") == "CalledProcessError"


@x86_only
def test_large_parts_of_the_kernel_are_closed(verifier: CodeVerifier) -> None:
    for number in (
        321,
        323,
        425,
        298,
        250,
        248,
        135,
        304,
    ):  # bpf, userfaultfd, io_uring, perf, keys, personality, handles
        assert refusal(verifier, call(number, 0, 0, 0, 0, 0)) == "PermissionError"


def test_no_privilege_is_left(verifier: CodeVerifier) -> None:
    code = "print(*[l for l in open('/proc/self/status') if l[:3] == 'Cap' or l[:8] in ('NoNewPri', 'Seccomp:')])"
    fields = dict(line.split(":") for line in output(verifier, code).split("\n") if line.strip())
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    assert fields.pop("NoNewPrivs") == "1" and fields.pop("Seccomp") == "2"
    assert len(fields) == 5 and {int(value, 16) for value in fields.values()} == {0}


def test_setuid_programs_give_nothing(verifier: CodeVerifier) -> None:
    code = """
        import glob, os, shutil, stat, subprocess
        shutil.copy('/usr/bin/id', '/tmp/id')
        os.chmod('/tmp/id', 0o6755)
        own = subprocess.run(['/tmp/id', '-u'], capture_output=True, text=True).stdout.strip()
        found = [p for p in glob.glob('/usr/bin/*') if os.path.isfile(p) and os.stat(p).st_mode & stat.S_ISUID]
        for path in found:
            subprocess.run([path, '-c', 'id -u > /tmp/uid'], capture_output=True, stdin=subprocess.DEVNULL, timeout=5)
        print(own == str(os.getuid()), os.path.exists('/tmp/uid') and open('/tmp/uid').read() == '0')
        try: os.setuid(0 if os.getuid() else 1)
        except OSError: print('refused')
    """
    assert output(verifier, code).split() == ["True", "False", "refused"]


def test_nothing_outside_of_tmp_can_be_written(verifier: CodeVerifier) -> None:
    folders = ["/", "/usr", "/usr/bin", "/etc", "/dev", "/run", "/run/verifier/inside", sys.prefix, sys.base_prefix]
    folders += [str(Path(json.__file__).parent)]
    code = f"""
        import os
        for folder in {folders!r}:
            try: open(folder + '/attack', 'w'); print('written', folder)
            except OSError: pass
        try: os.chmod({sys.prefix!r}, 0o777); print('changed')
        except OSError: pass
        print('end')
    """
    assert output(verifier, code) == "end"
    assert not Path(sys.prefix, "attack").exists()


def test_devices_are_not_there(verifier: CodeVerifier) -> None:
    code = "import os\nprint(*sorted(os.listdir('/dev')))"
    expected = {"console", "core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    assert set(output(verifier, code).split()) <= expected | {"tty", "urandom", "zero"}
    assert refusal(verifier, "os.mknod('/tmp/mem', 0o20666, os.makedev(1, 1))") == "PermissionError"


def test_links_do_not_lead_out(verifier: CodeVerifier) -> None:
    code = """
        import os
        os.symlink('/etc/shadow', '/tmp/link'); os.symlink('../../../../..', '/tmp/up')
        print(os.path.exists('/tmp/link'), os.path.exists('/tmp/up/home'))
        try: os.link('/usr/bin/env', '/tmp/env'); print('linked')
        except OSError: print('refused')
    """
    assert output(verifier, code).split() == ["False", "False", "refused"]
    assert not Path("/tmp/link").is_symlink()


# --- staying alive ----------------------------------------------------------------------------------------------------


def test_a_daemon_does_not_survive(verifier: CodeVerifier) -> None:
    code = """
        import os, signal, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, 32):
                    if number not in (9, 19): signal.signal(number, signal.SIG_IGN)
                time.sleep(60)
            os._exit(0)
        print(9)
    """
    assert judge(verifier, code, {"inputs": ["3"], "outputs": ["9"]}).reason == "passed"
    assert len(descendants()) <= MOST_PROCESSES


def test_an_orphan_that_holds_the_output_open_does_not_delay_the_verdict(verifier: CodeVerifier) -> None:
    start = time.monotonic()
    code = "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nelse:\n    print(9, flush=True)\n    os._exit(0)"
    assert judge(verifier, code, {"inputs": ["3"], "outputs": ["9"]}).reason == "passed"
    assert time.monotonic() - start < 5


def test_a_stopped_program_is_a_time_limit(verifier: CodeVerifier) -> None:
    assert judge(verifier, "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", RIGHT).reason == "time_limit"


def test_ignored_signals_do_not_help(verifier: CodeVerifier) -> None:
    code = """
        import signal, time
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True:
            try: time.sleep(60)
            except BaseException: pass
    """
    assert judge(verifier, code, RIGHT).reason == "time_limit"


def test_files_do_not_reach_the_next_test(verifier: CodeVerifier) -> None:
    code = """
        import builtins, os
        print(sorted(set(os.listdir('/tmp') + os.listdir('/dev/shm')) & {'left', 'here'}), hasattr(builtins, 'left'))
        builtins.left = True
        for folder in ('/tmp/left', '/dev/shm/here'): os.mkdir(folder); os.chmod(folder, 0)
    """
    gold = {"inputs": ["", "", ""], "outputs": ["[] False"] * 3}
    assert judge(verifier, code, gold).reason == "passed"
    assert judge(verifier, code, gold).reason == "passed"


def test_a_changed_mode_does_not_reach_the_next_test(verifier: CodeVerifier) -> None:
    code = "import os\nopen('/tmp/x', 'w').close()\nos.remove('/tmp/x')\nos.chmod('/tmp', 0)\nprint(1)"
    assert judge(verifier, code, {"inputs": ["", ""], "outputs": ["1", "1"]}).reason == "passed"


def test_imports_cannot_be_poisoned(verifier: CodeVerifier) -> None:
    code = """
        for name in ('heapq', 'json', 'bisect', 'sitecustomize', 'usercustomize'):
            open(f'/tmp/{name}.py', 'w').write('print("poison")')
        import heapq, sys
        heapq.heappop = lambda heap: 'poison'
        sys.modules['bisect'] = None
    """
    judge(verifier, code, RIGHT)
    code = "import heapq, bisect, json\nprint(heapq.heappop([1]), bisect.bisect([1], 1), json.dumps([]))"
    assert output(verifier, code) == "1 1 []"


def test_the_sandbox_ends_with_its_owner(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        "from verifiers.code import CodeVerifier\nfrom verifiers.base import VerifyTask\nimport json, threading, time\n"
        "v = CodeVerifier()\ngold = json.dumps({'inputs': [''], 'outputs': ['']})\n"
        "v.verify(VerifyTask('a', '```python\\nprint()\\n```', gold))\nprint('up', flush=True)\n"
        "v.verify(VerifyTask('b', '```python\\nimport time\\ntime.sleep(60)\\n```', gold))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=env)
    assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
    time.sleep(0.3)
    below = {pid for pid in descendants() if pid != owner.pid and _is_below(pid, owner.pid)}
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    assert len(below) >= 3
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and _state(pid) != "Z" for pid in below):
        assert time.monotonic() < end
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return "Z"


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            return False
    return False


def test_a_sandbox_killed_from_outside_costs_no_verdict() -> None:
    verifier = CodeVerifier(CONFIG)
    try:
        assert judge(verifier, SQUARE, RIGHT).reason == "passed"
        for pid in descendants():  # those of the other sandboxes of this process, too
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert judge(verifier, SQUARE, RIGHT).reason == "passed"
    finally:
        verifier.close()


# --- odd ends and values ----------------------------------------------------------------------------------------------


def test_a_crash_in_c_code_is_a_runtime_error(verifier: CodeVerifier) -> None:
    verdict = judge(verifier, "import ctypes\nctypes.string_at(0)", RIGHT)
    assert verdict.reason == "runtime_error" and "SIGSEGV" in (verdict.detail or "")


def test_input_at_its_end_is_a_runtime_error(verifier: CodeVerifier) -> None:
    verdict = judge(verifier, "while True: input()", RIGHT)
    assert verdict.reason == "runtime_error" and "EOFError" in (verdict.detail or "")


def test_threads_may_print_after_the_main_program_ends(verifier: CodeVerifier) -> None:
    code = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print(9))).start()"
    assert judge(verifier, code, {"inputs": [""], "outputs": ["9"]}).reason == "passed"


def test_many_threads_share_one_sandbox(verifier: CodeVerifier) -> None:
    wrong = []

    def run(n: int) -> None:
        for i in range(5):
            right = (n + i) % 2 == 0
            verdict = judge(verifier, SQUARE if right else "import os\nos.kill(-1, 9)", RIGHT)
            if (verdict.reason == "passed") is not right:
                wrong.append(verdict)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


UNCOUNTED = {
    "shared anonymous memory": "import mmap\nmmap.mmap(-1, 1 << 20)",
    "large socket buffers": """
        import socket
        socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 23)
    """,
    "another's priority": "import os\nos.setpriority(os.PRIO_PGRP, 0, 19)",
    "a user's priority": "import os\nos.setpriority(os.PRIO_USER, os.getuid(), 19)",
}


@pytest.mark.parametrize("code", UNCOUNTED.values(), ids=UNCOUNTED)
def test_what_no_limit_counts_is_refused(verifier: CodeVerifier, code: str) -> None:
    assert "PermissionError" in failure(verifier, code)


def failure(verifier: CodeVerifier, code: str) -> str:
    detail = json.loads(judge(verifier, code, RIGHT).detail or "{}")
    return str(detail.get("first_failure", {}).get("error"))


def test_the_endless_device_is_empty(verifier: CodeVerifier) -> None:
    assert output(verifier, "print(open('/dev/zero', 'rb').read(1 << 20))") == "b''"


def test_nothing_of_an_earlier_solution_is_left_in_memory(verifier: CodeVerifier) -> None:
    secret = "earlier" + "_solution" * 3
    assert output(verifier, f"def {secret}():\n    return 1\nprint({secret}())") == "1"
    thief = """
        import ctypes, re
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable again: else it may not read itself
        word, found = ('earlier' + '_solu' + 'tion' * 1).encode(), 0
        with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb', 0) as memory:
            for line in maps:
                start, end = (int(part, 16) for part in line.split()[0].split('-'))
                if 'rw' in line and end - start < 1 << 28:
                    memory.seek(start)
                    try:
                        found += len(re.findall(word + b'(?:_solution){2}', memory.read(end - start)))
                    except OSError:
                        pass
        print(found)
    """
    assert output(verifier, thief) == "0"


def test_ordinary_ways_of_a_program_work(verifier: CodeVerifier) -> None:
    code = """
        import asyncio, gc, resource
        async def wait():
            await asyncio.sleep(0)
        asyncio.run(wait())
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 26, resource.RLIM_INFINITY))
        print(gc.isenabled(), len(str(10**9999)), __file__)
    """
    assert output(verifier, code) == "True 10000 solution.py"
