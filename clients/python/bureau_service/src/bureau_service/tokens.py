"""
Service tokens: CBOR and a 64-byte Ed25519 signature of it. Order of the checks: signature, content, expiry, audience,
revocation; the sentences are those of every Bureau service.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable

from .ed25519 import verify
from .wire import WireError, decode

_SIGNATURE_BYTES = 64
_TOKEN_BYTES_MAX = 64 * 1024
_REVOKED_MAX = 100_000


class Unauthorized(Exception):
    """The caller cannot be told."""


@dataclass(frozen=True)
class Token:
    subject: str
    machine: str
    audience: str
    grants: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    id: str
    expires_at: int

    def permits(self, action: str, target: str | None = None) -> bool:
        """May the bearer do it, to the principal with the localpart `target` when there is one?"""
        return any(
            any(matches(pattern, action) for pattern in actions)
            and (target is None or any(matches(pattern, target) for pattern in targets))
            for actions, targets in self.grants
        )


def matches(pattern: str, value: str) -> bool:
    """`*` and `?` never cross a slash; `**` stands for any number of segments, at most once. Malformed: no match."""
    if pattern == "**":
        return value != ""
    parts = pattern.split("**")
    if len(parts) == 1:
        return _segments_match(pattern, value)
    segments = value.split("/")
    if len(parts) > 2 or "" in segments:
        return False
    before, after = parts
    if not (before == "" or before.endswith("/")) or not (after == "" or after.startswith("/")):
        return False
    head = [part for part in before.split("/") if part]
    tail = [part for part in after.split("/") if part]
    # Only `p/**/s` needs a segment in between for nothing: it matches `p/s` too.
    return len(segments) >= len(head) + len(tail) and (
        _segments_match("/".join(head), "/".join(segments[: len(head)]))
        and _segments_match("/".join(tail), "/".join(segments[len(segments) - len(tail) :]))
    )


def _segments_match(pattern: str, value: str) -> bool:
    # Character classes and escapes are malformed here: a pattern that is not understood must not permit anything.
    if any(char in pattern for char in "[]\\"):
        return False
    expression = re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.fullmatch(re.sub(r"(\[\^/\]\*)+", "[^/]*", expression), value) is not None


class TokenGate:
    """Checks tokens with the machine's key. `read_key` asks for the published key; it may have changed."""

    def __init__(self, role: str, machine: str, read_key: Callable[[], bytes]) -> None:
        self._role = role
        self._machine = machine
        self._read_key = read_key
        self._key = read_key()
        self._key_read_at = time.monotonic()
        self._revoked: dict[str, int] = {}
        self._lock = threading.Lock()

    def check(self, data: Any) -> Token:
        """Raises Unauthorized with the sentence for the caller."""
        if data is None:
            raise Unauthorized("authentication required: missing token field")
        payload = self._open(data)
        try:
            token = _parse(decode(payload))
        except (WireError, KeyError, TypeError, ValueError) as error:
            raise Unauthorized("authentication failed") from error
        if int(time.time()) >= token.expires_at:
            raise Unauthorized("authentication failed: token expired")
        if token.audience != self._role or token.machine != self._machine:
            raise Unauthorized("authentication failed")
        if token.id in self._revoked:
            raise Unauthorized("authentication failed: token revoked")
        return token

    def revoke(self, data: Any) -> None:
        """Raises Unauthorized unless the machine's daemon signed it."""
        try:
            entries = decode(self._open(data))[1]
            revoked = {str(entry[1]): int(entry[2]) for entry in entries}
        except (WireError, KeyError, TypeError, ValueError, IndexError) as error:
            raise Unauthorized("authentication failed") from error
        now = int(time.time())
        with self._lock:
            kept = {id_: end for id_, end in self._revoked.items() if end > now}
            if len(kept) + len(revoked) > _REVOKED_MAX:
                raise Unauthorized(f"cannot revoke more than {_REVOKED_MAX} tokens at a time")
            self._revoked = {**kept, **revoked}

    def _open(self, data: Any) -> bytes:
        if not isinstance(data, bytes) or not _SIGNATURE_BYTES < len(data) <= _TOKEN_BYTES_MAX:
            raise Unauthorized("authentication failed")
        payload, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
        if verify(self._key, payload, signature):
            return payload
        # The machine may have another key; forged tokens must not cause a request each.
        if time.monotonic() - self._key_read_at > 5:
            self._key, self._key_read_at = self._read_key(), time.monotonic()
            if verify(self._key, payload, signature):
                return payload
        raise Unauthorized("authentication failed")


def _parse(content: Any) -> Token:
    grants = tuple(
        (tuple(str(a) for a in grant[1]), tuple(str(t) for t in grant.get(2) or ())) for grant in content.get(4) or ()
    )
    for key, kind in ((1, str), (2, str), (3, str), (7, int)):
        if not isinstance(content[key], kind):
            raise TypeError(f"field {key} of a token")
    return Token(content[1], content[2], content[3], grants, str(content.get(5, "")), content[7])
