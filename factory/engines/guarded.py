"""A child process that never outlives us, whatever kills us.

Run by path, this file is the guard: a small process between us and the child. It leads a process group of its own, so
that Ctrl-C in the terminal reaches us alone, starts the child in that group, and kills the whole group when the child
ends or when we are gone. Why a guard: the kernel's death signal (``PR_SET_PDEATHSIG``) reaches a child only, not its
children, and comes when the *thread* that started the child ends; the guard has one thread and looks who its parent is.
What leaves the group by itself (a daemon with ``setsid``) is not reached. Only the standard library is imported.

A library that starts processes of its own and does not end them when we are killed gets a ``Watch`` instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

_LOOK_S = 0.2
_PR_SET_PDEATHSIG = 1


class GuardedProcess:
    """A running command with its output in a file.

    Args:
        command: what to run.
        log: file that gets its output, appended.
        env: whole environment of the command; default: ours.
    """

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        with open(log, "ab") as out:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", __file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=env,
            )

    @property
    def pid(self) -> int:
        """The guard's process id, which is the process group's as well."""
        return self._guard.pid

    def status(self) -> int | None:
        """The command's exit status, negative for a signal; None while it runs."""
        if self._guard.returncode is None and _has_ended(self._guard):
            _kill_group(self._guard.pid)  # before it is reaped: then its number could be another's
            self._guard.wait()
        code = self._guard.returncode
        return code if code is None or code < 128 else 128 - code

    def stop(self, grace_s: float = 10.0) -> None:
        """Ask the command to end, wait ``grace_s``, then kill its process group. Safe to call twice."""
        give_up = time.monotonic() + grace_s
        if self.status() is None:
            self._guard.terminate()
        while self.status() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        if self.status() is None:
            _kill_group(self._guard.pid)
            self._guard.wait()


class Watch:
    """Ends processes that a library starts in our name, should we be killed: those that begin while it is collecting.

    They are looked for in /proc, so without one nothing is watched.
    """

    def __init__(self) -> None:
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", __file__, "--watch", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._watcher.stdout is not None
        self._watcher.stdout.readline()  # it knows what was there before

    def collected(self) -> None:
        """All have begun: later ones are none of the library's."""
        self._say(b".")

    def stop(self, *, kill: bool = False) -> None:
        """Watch no more, and with ``kill`` end what was collected and is still there. Safe to call twice."""
        if kill:
            self._say(b"k")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._watcher.wait(10)
        self._watcher.kill()
        self._watcher.wait()
        for pipe in (self._watcher.stdin, self._watcher.stdout):
            if pipe is not None:
                pipe.close()

    def _say(self, what: bytes) -> None:
        if self._watcher.stdin is not None and not self._watcher.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._watcher.stdin.write(what)
                self._watcher.stdin.flush()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(group: int) -> None:
    """Kill a process group, but for this process and for Python's resource trackers.

    A tracker ends by itself once those it works for are gone, and first removes the shared memory that they left.
    """
    members = list(_members(group))
    if not members:  # no /proc
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for pid in members:
        if pid != os.getpid() and not _is_tracker(pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _members(group: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(entry.name)) == group:
                yield int(entry.name)


def _guard(parent: int, command: Sequence[str]) -> int:
    """Run the command until it ends or ``parent`` is gone; its exit status as a shell gives it."""
    child = subprocess.Popen(command, preexec_fn=_die_with_the_guard if sys.platform == "linux" else None)  # noqa: PLW1509

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    while child.poll() is None:
        if os.getppid() != parent:
            _kill_group(os.getpgrp())
            break
        time.sleep(_LOOK_S)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _die_with_the_guard() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _main() -> None:
    try:
        code = _guard(int(sys.argv[1]), sys.argv[2:])
    except OSError as error:
        print(f"{sys.argv[2]}: {error.strerror}", flush=True)
        code = 127
    sys.stdout.flush()
    # Workers of a command that died: nobody else ends them. This process is last, so that its status is known.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _kill_group(os.getpgrp())
    os._exit(code)


def _watch(parent: int) -> None:
    """Remember what begins below ``parent`` until a byte arrives; kill it when ``parent`` is gone, or on a ``k``."""
    before = _below(parent)
    seen: set[tuple[int, str]] = set()
    print(flush=True)
    collecting, said = True, b" "
    while os.getppid() == parent and said != b"k":
        if collecting:
            seen |= _below(parent) - before
        if not said:  # the other end of the pipe is closed
            time.sleep(_LOOK_S)
        elif select.select([0], [], [], _LOOK_S)[0]:
            said = os.read(0, 1)
            if collecting and said:
                seen |= _below(parent) - before
            collecting = False
    for pid, began in seen:
        if _began(pid) == began:  # and not another process that has its number by now
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> set[tuple[int, str]]:
    """Children, their children and so on, each with the time at which it began; without this process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = [child for child in children.get(todo.pop(), []) if child != os.getpid()]
        found += below
        todo += below
    return {(child, _began(child)) for child in found if not _is_tracker(child)}


def _is_tracker(pid: int) -> bool:
    """Python's own helper, which ends by itself, and which other parts of the program may be using."""
    with contextlib.suppress(OSError):
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _began(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields else ""


def _stat(pid: int) -> list[str]:
    """What /proc says about a process, from its state on."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


if __name__ == "__main__":
    if sys.argv[1] == "--watch":
        _watch(int(sys.argv[2]))
    else:
        _main()
