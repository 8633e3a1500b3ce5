"""
The life of a service: it listens, announces itself, answers until SIGTERM, and withdraws. An action that names a grant is
only run for a caller whose token carries it.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable

from .proxy import Proxy, ProxyError
from .tokens import Token, TokenGate, Unauthorized
from .wire import MESSAGE_BYTES_MAX, WireError, encode, read_message

_REQUEST_S = 30.0
_ANSWER_S = 10.0
_CONNECTIONS_MAX = 128
_WITHDRAW_S = 5.0

log = logging.getLogger("bureau_service")


class Refused(Exception):
    """What an action raises to answer with an error of its own; `code` is one of Bureau's, such as `conflict`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Caller:
    user: str
    token: Token

    def require(self, action: str, target: str | None = None) -> None:
        """Raises Refused unless the caller has the grant, on the localpart `target` when there is one."""
        if not self.token.permits(action, target):
            on = "" if target is None else f' on "{target}"'
            raise Refused("forbidden", f"access denied: no grant for {action}{on}")


@dataclass(frozen=True)
class _Action:
    run: Callable[..., Any]
    needs: str | None
    signature: inspect.Signature


class Service:
    def __init__(self, role: str, *, description: str, capabilities: tuple[str, ...] = ()) -> None:
        self._role = role
        self._description = description
        self._capabilities = capabilities
        self._actions: dict[str, _Action] = {}
        self._gate: TokenGate | None = None

    def action(self, name: str, *, needs: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Registers a function. With `needs`, its first argument is the Caller; the others are the fields of a request."""

        def register(run: Callable[..., Any]) -> Callable[..., Any]:
            self._actions[name] = _Action(run, needs, inspect.signature(run))
            return run

        return register

    def run(self) -> None:
        """Returns after SIGTERM."""
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.signal(signal.SIGINT, lambda *_: stopped.set())
        server, fleet = _env("BUREAU_SERVER_NAME"), _env("BUREAU_FLEET")
        machine = f"@{_env('BUREAU_MACHINE_NAME')}:{server}"
        proxy = Proxy(_env("BUREAU_PROXY_SOCKET"))
        user = str(_patiently(lambda: proxy.get("whoami"))["user_id"])
        room = _room(proxy, f"#{fleet}/service:{server}")
        system = _room(proxy, f"#{fleet.split('/')[0]}/system:{server}")
        self._gate = _patiently(lambda: TokenGate(self._role, machine, lambda: _signing_key(proxy, system, machine)))
        with _listen(_env("BUREAU_SERVICE_SOCKET")) as listener:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            entry = {
                "principal": user,
                "machine": machine,
                "capabilities": list(self._capabilities),
                "endpoints": {"cbor": "service.sock"},
                "description": self._description,
            }
            _patiently(lambda: _announce(proxy, room, user, entry))
            log.info("service started")
            stopped.wait()
            empty = {"principal": "", "machine": "", "endpoints": {}}
            withdrawal = threading.Thread(target=_announce, args=(proxy, room, user, empty), daemon=True)
            withdrawal.start()
            withdrawal.join(_WITHDRAW_S)

    def answer(self, request: Any) -> dict[str, Any]:
        """The response to one request. Raises nothing."""
        try:
            data = self._dispatch(request)
            return {"ok": True} if data is None else {"ok": True, "data": data}
        except Unauthorized as error:
            return {"ok": False, "error": str(error), "code": "unauthorized"}
        except Refused as error:
            return {"ok": False, "error": str(error), "code": error.code}
        except Exception:
            log.exception("action failed")
            return {"ok": False, "error": "the action failed; the log of the service has the reason", "code": "failed"}

    def _dispatch(self, request: Any) -> Any:
        gate = self._gate
        assert gate is not None
        if not isinstance(request, dict) or not isinstance(request.get("action"), str):
            raise Refused("invalid-input", "missing required field: action")
        fields = dict(request)
        name = fields.pop("action")
        if name == "health":
            return {"healthy": True}
        if name == "revoke-tokens":
            gate.revoke(fields.get("revocation"))
            return None
        action = self._actions.get(name)
        if action is None:
            raise Refused("invalid-input", f'unknown action "{name}"')
        token = fields.pop("token", None)
        given: tuple[Any, ...] = ()
        if action.needs is not None:
            checked = gate.check(token)
            caller = Caller(checked.subject, checked)
            caller.require(action.needs)
            given = (caller,)
        try:
            bound = action.signature.bind(*given, **{str(key): value for key, value in fields.items()})
        except TypeError as error:
            raise Refused("invalid-input", f"invalid request: {error}") from error
        return action.run(*bound.args, **bound.kwargs)

    def _accept(self, listener: socket.socket) -> None:
        slots = threading.BoundedSemaphore(_CONNECTIONS_MAX)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if not slots.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection, slots), daemon=True).start()

    def _serve(self, connection: socket.socket, slots: threading.BoundedSemaphore) -> None:
        try:
            with connection:
                connection.settimeout(_REQUEST_S)
                try:
                    response = self.answer(read_message(connection))
                except WireError as error:
                    response = {"ok": False, "error": f"invalid request: {error}", "code": "invalid-input"}
                data = encode(response)
                if len(data) > MESSAGE_BYTES_MAX:
                    data = encode({"ok": False, "error": "the response is too large", "code": "too-large"})
                connection.settimeout(_ANSWER_S)
                connection.sendall(data)
        except OSError:
            pass  # The client is gone, or too slow.
        finally:
            slots.release()


def _env(name: str) -> str:
    value = os.environ.get(name, "")
    if value == "":
        raise SystemExit(f"Cannot start: the environment has no {name}; a service runs in the sandbox of a service principal")
    return value


def _listen(path: str) -> socket.socket:
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o770)
    listener.listen(_CONNECTIONS_MAX)
    return listener


def _patiently(act: Callable[[], Any]) -> Any:
    """Repeats an act until the homeserver answers it. A refusal ends the program; the daemon starts it again."""
    wait_s = 1.0
    while True:
        try:
            return act()
        except (OSError, ProxyError) as error:
            if isinstance(error, ProxyError) and error.status < 500 and error.status != 429:
                raise
            log.warning("waiting for the homeserver: %s", error)
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, 30.0)


def _room(proxy: Proxy, alias: str) -> str:
    return str(_patiently(lambda: proxy.get("resolve", alias=alias))["room_id"])


def _announce(proxy: Proxy, room: str, user: str, content: dict[str, Any]) -> None:
    proxy.post("state", {"room": room, "event_type": "m.bureau.service", "state_key": user[1:], "content": content})


def _signing_key(proxy: Proxy, system: str, machine: str) -> bytes:
    """Only the machine's own event counts: others may write to the room."""
    for event in proxy.get("room-state", room=system):
        if event.get("type") != "m.bureau.token_signing_key" or event.get("state_key") != machine[1:]:
            continue
        content = event.get("content", {})
        if event.get("sender") == machine and content.get("machine") == machine:
            return bytes.fromhex(content["public_key"])
    raise ProxyError(503, f"{machine} has published no key that signs service tokens")
