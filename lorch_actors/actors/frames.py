"""Frames between a process actor's front and its worker.

A frame is a length (4 bytes, big-endian) and that many bytes of MessagePack: an array of kind, number and body
(``worker.Frame``). Bodies are plain values; their integers have 64 bits at most. Promise: nothing over
``FRAME_MAX_BYTES`` is written or accepted; damage is an error, never a value.
"""

import struct
from typing import Final

import msgspec

from lorch_actors.actors.worker import Frame
from lorch_actors.errors import InterruptedRun

FRAME_MAX_BYTES: Final = 64 * 1024 * 1024
"""Largest frame without its length."""

_LENGTH: Final = struct.Struct(">I")
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Frame)


class FrameError(InterruptedRun):
    """A frame is too large or is none."""


def encode_frame(frame: Frame) -> bytes:
    """Return the frame as it goes over the socket. Raises ``FrameError`` when it is too large."""
    body = _ENCODER.encode(frame)
    if len(body) > FRAME_MAX_BYTES:
        raise FrameError(f"a message of {len(body)} bytes exceeds the {FRAME_MAX_BYTES} that a worker may be sent")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Puts frames together from what a socket delivers."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes. Raises ``FrameError`` on damage; then the stream is lost."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        position = 0
        while len(buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, position)
            if length > FRAME_MAX_BYTES:
                raise FrameError(f"a frame claims {length} bytes")
            end = position + _LENGTH.size + length
            if len(buffer) < end:
                break
            frames.append(_decode(bytes(buffer[position + _LENGTH.size : end])))
            position = end
        if position:
            del buffer[:position]
        return frames


def _decode(body: bytes) -> Frame:
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError(f"a frame cannot be read: {error}") from error
