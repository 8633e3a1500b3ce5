"""The principal's own Matrix session, through the proxy of its sandbox. No token is in the sandbox."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlencode

_TIMEOUT_S = 60.0


class ProxyError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Proxy:
    def __init__(self, path: str) -> None:
        self._path = path

    def get(self, endpoint: str, **query: str) -> Any:
        return self._request("GET", f"/v1/matrix/{endpoint}?{urlencode(query)}" if query else f"/v1/matrix/{endpoint}")

    def post(self, endpoint: str, body: Any) -> Any:
        return self._request("POST", f"/v1/matrix/{endpoint}", body)

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        connection = _UnixConnection(self._path)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ProxyError(response.status, f"{method} {path}: {response.status} {text[:500]!r}")
        return json.loads(text)
