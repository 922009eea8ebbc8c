"""The warm parent: imports once, then forks a cell per solution and a tester per assert-style test set.

As first process of the sandbox it reads commands from the host on one socket, each with the descriptors of the new
process's own channel. It speaks to no one else and never runs code from outside.

``main`` says how it is started.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
import types
from collections.abc import Callable
from typing import Any

from verifiers.sandbox.inside import kernel, program, supervisor, tester, wire

_UNPRIVILEGED = 65534  # as policy.UNPRIVILEGED
_TMP_NODES = 4096
# Its own network has no interface up: over a loopback device TCP could take memory that no one counts.
_CELL_FLAGS = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET


def main(arguments: list[str]) -> None:
    """``MODE FD SETTINGS [booted]``.

    ``probe`` does nothing, successfully. ``zygote`` serves any number of solutions in namespaces of their own; ``cell``
    and ``tester`` serve one solution in this very process. Where it is confined, a process starts twice: first it gives
    up root.
    """
    mode, descriptor, settings = arguments[0], int(arguments[1]), json.loads(arguments[2])
    if settings["confined"] and len(arguments) == 3:
        _boot(arguments, settings["userns"])
    if mode == "probe":
        return
    kernel.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the first process of a namespace is open to signals that it handles
    kernel.set_dumpable(False)
    kernel.no_new_privileges()
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    program.prepare_streams()
    kernel.use_ordinary_thread_stacks()
    prepared = program.prepare_module()
    if settings["confined"]:
        kernel.refuse_dangerous_calls()
    _become_forkable()
    if mode == "zygote":
        Zygote(control, settings, prepared).run()
    else:
        links = [socket.socket(fileno=number) for number in settings.get("links", [])]
        _serve_alone(mode, control, links[0] if links else None, settings, prepared)


def _boot(arguments: list[str], userns: bool) -> None:
    """Become an ordinary user for good where we are really root: limits on processes do not bind root."""
    if os.getuid() == 0 and not userns:
        with contextlib.suppress(OSError):  # over bubblewrap's, of which some parts are covered: cells need a whole one
            kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        os.setgroups([])
        os.setresgid(_UNPRIVILEGED, _UNPRIVILEGED, _UNPRIVILEGED)
        os.setresuid(_UNPRIVILEGED, _UNPRIVILEGED, _UNPRIVILEGED)
    kernel.forbid_capabilities()
    with contextlib.suppress(OSError):
        kernel.drop_capabilities()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))  # the caller's own limit is not for a long-lived server
    supervisor.prepare_stack()  # counts from the next exec on
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "booted"])


def _become_forkable() -> None:
    """Pages that a collection would write to are pages that every child copies. Exit handlers are our modules'."""
    atexit._clear()
    gc.collect()
    gc.freeze()
    gc.disable()


def _serve_alone(
    mode: str, control: socket.socket, link: socket.socket | None, settings: dict[str, Any], prepared: types.ModuleType
) -> None:
    confined = bool(settings.get("confined"))
    if confined:
        kernel.refuse_namespaces()
    if mode == "tester":
        assert link is not None
        _limit_tester(settings)
        tester.Tester(control, link).run()
    else:
        folders = _writable(settings) if confined else []
        supervisor.Supervisor(control, prepared, confined, folders).run()


class Zygote:
    """Forks what the host asks for; at ``end`` kills and reaps all of it."""

    def __init__(self, control: socket.socket, settings: dict[str, Any], prepared: types.ModuleType) -> None:
        self._control = control
        self._settings = {**settings, "user": os.getuid(), "group": os.getgid()}
        self._prepared = prepared
        self._testers: list[int] = []

    def run(self) -> None:
        """Until the host hangs up (all processes of the sandbox end with this one)."""
        self._reply({"ready": True, "cells": self._can_nest()})
        while (message := wire.hear(self._control)) is not None:
            if message.head["op"] == "end":
                self._reply({"testers": self._end()})
            else:
                self._start(message.head["op"], [socket.socket(fileno=number) for number in message.descriptors])

    def _reply(self, head: dict[str, Any]) -> None:
        wire.tell(self._control, head)

    def _end(self) -> list[int]:
        """Kill and reap all processes of the job that is over; wait statuses of its testers."""
        statuses: list[int] = []
        while True:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                self._testers.clear()
                return statuses
            if pid in self._testers:
                statuses.append(status)

    def _can_nest(self) -> bool:
        try:
            pid = kernel.fork(_CELL_FLAGS)
        except OSError:
            return False
        if pid == 0:
            program.guarded(lambda: _enter_cell(self._settings, lambda: None))
        return os.waitpid(pid, 0)[1] == 0

    def _start(self, kind: str, channels: list[socket.socket]) -> None:
        pid = kernel.fork(0 if kind == "tester" else _CELL_FLAGS)
        if pid == 0:
            self._control.close()
            if kind == "tester":
                program.guarded(lambda: self._test(*channels))
            program.guarded(lambda: _enter_cell(self._settings, lambda: self._supervise(*channels)))
        if kind == "tester":
            self._testers.append(pid)
        for channel in channels:
            channel.close()

    def _supervise(self, channel: socket.socket) -> None:
        supervisor.Supervisor(channel, self._prepared, True, _writable(self._settings)).run()

    def _test(self, channel: socket.socket, link: socket.socket) -> None:
        _limit_tester(self._settings)
        kernel.refuse_namespaces()
        tester.Tester(channel, link).run()


def _writable(settings: dict[str, Any]) -> list[str]:
    """The private folders, and those made in them on the way to an interpreter that lives below /tmp."""
    above = {os.path.dirname(path) for path in settings.get("keep", [])}  # noqa: PTH120
    for folder in list(above):
        while folder != "/tmp":
            above.add(folder)
            folder = os.path.dirname(folder)  # noqa: PTH120
    return sorted({"/tmp", "/dev/shm", *above})


def _limit_tester(settings: dict[str, Any]) -> None:
    memory = int(settings.get("tester_bytes", 2**30))
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        program.clamp(kind, value, value)


def _enter_cell(settings: dict[str, Any], body: Callable[[], None]) -> None:
    """In the first process of fresh namespaces: private folders, no privileges, then ``body``."""
    user, group = settings["user"], settings["group"]
    kernel.set_dumpable(True)  # else our files in /proc belong to root
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)
    kernel.set_dumpable(False)
    private = kernel.MS_NOSUID | kernel.MS_NODEV
    kept = [(path, os.open(path, os.O_PATH)) for path in settings.get("keep", [])]
    # Read-only: what is written there (a scheduling group's weight, say) would outlive the process that wrote it.
    kernel.mount("proc", "/proc", "proc", private | kernel.MS_NOEXEC | kernel.MS_RDONLY)
    half = int(settings["tmp_bytes"]) // 2
    for folder in ("/tmp", "/dev/shm"):
        kernel.mount("tmpfs", folder, "tmpfs", private, f"size={half},nr_inodes={_TMP_NODES},mode=1777")
    for path, descriptor in kept:  # an interpreter that lives below /tmp
        os.makedirs(path)  # noqa: PTH103
        kernel.mount(f"/proc/self/fd/{descriptor}", path, "", kernel.MS_BIND | kernel.MS_REC)
        os.close(descriptor)
    os.chdir("/tmp")
    os.setsid()
    kernel.forbid_capabilities()
    kernel.drop_capabilities()
    kernel.refuse_namespaces()
    body()


if __name__ == "__main__":
    main(sys.argv[1:])
