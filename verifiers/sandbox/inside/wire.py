"""What processes say to one another: frames on a stream socket, or short messages that carry descriptors."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, NamedTuple

_SIZES = struct.Struct("!II")
LARGEST_HEAD = 1 << 24
LARGEST_BODY = 1 << 30
_LONGEST_MESSAGE = 1 << 14
_MOST_DESCRIPTORS = 8


class WireError(Exception):
    """The other side is gone or does not speak this protocol."""


class Message(NamedTuple):
    """A JSON object and open descriptors, on a socket that keeps message borders (``SOCK_SEQPACKET``)."""

    head: dict[str, Any]
    descriptors: list[int]


def tell(channel: socket.socket, head: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send one message; raises ``WireError`` where the other side is gone."""
    try:
        socket.send_fds(channel, [json.dumps(head).encode()], descriptors or [])
    except OSError as error:
        raise WireError(f"the other side is gone: {error}") from error


def hear(channel: socket.socket) -> Message | None:
    """The next message; None where the other side is gone. Raises ``WireError`` on anything else, ``TimeoutError``."""
    try:
        text, descriptors, _, _ = socket.recv_fds(channel, _LONGEST_MESSAGE, _MOST_DESCRIPTORS)
    except TimeoutError:
        raise
    except OSError as error:
        raise WireError(f"the other side is gone: {error}") from error
    return Message(_object(text), descriptors) if text else None


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
    return Frame(_object(text), bytes(body))


def _object(text: bytes | bytearray) -> dict[str, Any]:
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("no JSON object") from error
    if not isinstance(head, dict):
        raise WireError("no JSON object")
    return head


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
