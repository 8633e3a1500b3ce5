"""The envelope of service sockets: one CBOR map each way, one request a connection, at most 1 MiB."""

from __future__ import annotations

import io
import socket
from typing import Any

import cbor2

MESSAGE_BYTES_MAX = 1024 * 1024
_DEPTH_MAX = 64
_CHUNK = 64 * 1024


class WireError(Exception):
    """Bytes that are no message."""


class _Scanner:
    """Finds where one CBOR value ends while its bytes arrive, in time linear in their number."""

    def __init__(self) -> None:
        self._open = [1]
        self._header = bytearray()
        self._skip = 0
        self.length = 0

    def push(self, chunk: bytes) -> bool:
        """Returns whether the value is complete."""
        at = 0
        while at < len(chunk) and self._open:
            if self._skip > 0:
                step = min(self._skip, len(chunk) - at)
                self._skip -= step
                at += step
                if self._skip == 0:
                    self._close()
                continue
            self._header.append(chunk[at])
            at += 1
            self._read_header()
        self.length += at
        return not self._open

    def _read_header(self) -> None:
        major, info = self._header[0] >> 5, self._header[0] & 0x1F
        if info >= 28:
            raise WireError("indefinite or reserved length")
        extra = 0 if info < 24 else 1 << (info - 24)
        if len(self._header) < 1 + extra:
            return
        argument = int.from_bytes(self._header[1:], "big") if extra else info
        self._header.clear()
        if major in (2, 3):
            self._skip = argument
            if argument == 0:
                self._close()
        elif major in (4, 5, 6):
            items = argument * (2 if major == 5 else 1) if major != 6 else 1
            if len(self._open) >= _DEPTH_MAX:
                raise WireError("nested too deep")
            if items == 0:
                self._close()
            else:
                self._open.append(items)
        else:
            self._close()

    def _close(self) -> None:
        while self._open:
            self._open[-1] -= 1
            if self._open[-1] > 0:
                return
            self._open.pop()


def read_message(connection: socket.socket) -> Any:
    """Raises WireError for bytes that are no message, TimeoutError when they do not arrive in time."""
    scanner = _Scanner()
    received = bytearray()
    while True:
        chunk = connection.recv(_CHUNK)
        if not chunk:
            raise WireError("the connection ended within a message")
        received += chunk
        complete = scanner.push(chunk)
        if scanner.length > MESSAGE_BYTES_MAX:
            raise WireError(f"more than {MESSAGE_BYTES_MAX} bytes")
        if complete:
            return decode(bytes(received[: scanner.length]))


def decode(data: bytes) -> Any:
    try:
        return cbor2.load(io.BytesIO(data))
    except Exception as error:  # cbor2 raises many kinds, all of them about these bytes
        raise WireError(f"cannot decode CBOR: {error}") from error


def encode(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)
