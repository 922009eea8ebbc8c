"""What a process inside reads and writes, at the host's end: sealed memory files in, pipes with a limit out."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Protocol

from verifiers.sandbox.inside import kernel, program

_READ = 1 << 16
_READS_AT_ONCE = 16
_LONGEST_ERROR = 4000


class _Readable(Protocol):
    def fileno(self) -> int: ...


class Sink:
    """What a process writes to a pipe: kept up to ``limit`` bytes, or (``rolling``) the last of them only."""

    def __init__(self, limit: int, rolling: bool = False) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        os.fchmod(self.write_end, 0o622)  # so that a process of another user's can open it by name (/dev/stdout)
        self.data = bytearray()
        self.overflow = False
        self._limit = limit
        self._rolling = rolling

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_write_end()
        os.close(self.read_end)

    def close_write_end(self) -> None:
        """Once another process has it."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def fileno(self) -> int:
        """For ``select``."""
        return self.read_end

    def drain(self) -> bool:
        """Take what is there; False at the end of the stream."""
        for _ in range(_READS_AT_ONCE):  # bounded: a fast writer must not keep the reader from its clock
            try:
                chunk = os.read(self.read_end, _READ)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self.data += chunk
            if len(self.data) > self._limit:
                if self._rolling:
                    del self.data[: -self._limit]
                else:
                    self.overflow = True
                    del self.data[self._limit :]
        return True


def readable(items: Sequence[_Readable], limit_s: float) -> list[_Readable]:
    """Those with something to read, or at their end, within ``limit_s`` seconds. Any number and size of descriptors."""
    poller = select.poll()
    for item in items:
        poller.register(item, select.POLLIN)
    ready = {descriptor for descriptor, _ in poller.poll(limit_s * 1000)}
    return [item for item in items if item.fileno() in ready]


def sealed(data: bytes) -> int:
    """A descriptor of a file in memory with this content, which no one can change; at its beginning."""
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    kernel.seal(descriptor)
    return descriptor


class Program:
    """A program's text, and the place where the first process that compiles it leaves the result for the others."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.descriptors: list[int] = []
        """Of the text and of what became of it."""

    def __enter__(self) -> Program:
        self.descriptors.append(sealed(self._text))
        self.descriptors.append(os.memfd_create("compiled", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        return self

    def __exit__(self, *_: object) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())

    def syntax_error(self) -> str | None:
        """Why it does not compile; None where it does, or where nobody has got so far."""
        said = os.pread(self.descriptors[1], _LONGEST_ERROR, 0)
        return said[1:].decode("utf-8", "replace") if said[:1] == program.SYNTAX else None
