"""Calls an action of a service that the sandbox's template requires."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

from .wire import WireError, encode, read_message

SERVICES = Path("/run/bureau/service")
_DIAL_S = 5.0
_ANSWER_S = 45.0
_ROLE = re.compile(r"[a-z0-9_=-][a-z0-9._=-]{0,63}")


class ServiceError(Exception):
    """A service refused a call, or did not answer. `code` is for programs, `hint` is the next step."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def call(role: str, action: str, /, *, folder: Path = SERVICES, **fields: Any) -> Any:
    """Returns the data of the answer. Raises ServiceError; its code is `forbidden` without the grant."""
    if not _ROLE.fullmatch(role):
        raise ValueError(f"invalid service role {role!r}")
    try:
        return _call_once(role, action, folder, fields)
    except ServiceError as error:
        # The daemon replaced the token between our look at it and the service's.
        if error.code != "unauthorized":
            raise
        return _call_once(role, action, folder, fields)


def _call_once(role: str, action: str, folder: Path, fields: dict[str, Any]) -> Any:
    path = folder / f"{role}.sock"
    hint = "the template of this principal must name it in required_services"
    try:
        token = (folder / "token" / f"{role}.token").read_bytes()
    except OSError as error:
        raise ServiceError("not-found", f"Cannot read the token of {role!r}: {error.strerror}", hint) from error
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_DIAL_S)
            connection.connect(str(path))
            connection.settimeout(_ANSWER_S)
            connection.sendall(encode({**fields, "action": action, "token": token}))
            answer = read_message(connection)
    except (OSError, WireError) as error:
        raise ServiceError("unavailable", f"Cannot reach the service {role!r} at {path}: {error}", hint) from error
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise ServiceError("unavailable", f"The service {role!r} did not answer with a response")
    if answer["ok"]:
        return answer.get("data")
    raise ServiceError(
        str(answer.get("code", "failed")), str(answer.get("error", "refused")), str(answer.get("hint", ""))
    )
