"""Frames on a stream socket: a small JSON head and a body of raw bytes."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, NamedTuple

_SIZES = struct.Struct("!II")
LARGEST_HEAD = 1 << 24
LARGEST_BODY = 1 << 30


class WireError(Exception):
    """The other side is gone or does not speak this protocol."""


class Frame(NamedTuple):
    """One message."""

    head: dict[str, Any]
    body: bytes


def send(channel: socket.socket, head: dict[str, Any], body: bytes = b"") -> None:
    """Write one frame; raises ``WireError`` where the other side is gone."""
    text = json.dumps(head).encode()
    try:
        channel.sendall(_SIZES.pack(len(text), len(body)) + text + body)
    except OSError as error:
        raise WireError(f"the other side is gone: {error}") from error


def receive(channel: socket.socket) -> Frame | None:
    """Read one frame; None at the end of the stream. Raises ``WireError`` on anything else, ``TimeoutError`` too."""
    sizes = _exactly(channel, _SIZES.size)
    if sizes is None:
        return None
    head_size, body_size = _SIZES.unpack(sizes)
    if head_size > LARGEST_HEAD or body_size > LARGEST_BODY:
        raise WireError("a frame larger than any of ours")
    text = _exactly(channel, head_size)
    body = _exactly(channel, body_size)
    if text is None or body is None:
        raise WireError("the stream ended within a frame")
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("a frame without a JSON head") from error
    if not isinstance(head, dict):
        raise WireError("a frame without a JSON head")
    return Frame(head, bytes(body))


def _exactly(channel: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        try:
            num = channel.recv_into(view[got:])
        except TimeoutError:
            raise
        except OSError as error:
            raise WireError(f"the other side is gone: {error}") from error
        if not num:
            if got:
                raise WireError("the stream ended within a frame")
            return None
        got += num
    return data
