"""A W&B server on loopback that the real client talks to, and that can be made to fail."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wandb_state import GraphQLError, State

KEY = "0123456789" * 4  # of the right length, and as good as any


@dataclass
class Fault:
    """What the server does wrong.

    where    part of the path or name of the GraphQL operation
    status   HTTP status that it answers; None: it breaks the connection off
    times    requests that it happens to; after that all is well
    seconds  before it answers
    """

    where: str
    status: int | None = 500
    times: int = 10**9
    seconds: float = 0.0


class WandbServer:
    """Runs from entering to leaving; keeps its state and its port over `stop` and `start`."""

    def __init__(self) -> None:
        self.state = State()
        self.faults: list[Fault] = []
        self.requests: list[str] = []  # path, and the GraphQL operation
        self.keys = {KEY}
        self._port = 0
        self._http: _Http | None = None

    def __enter__(self) -> WandbServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find it; without a proxy in between."""
        return {
            "WANDB_BASE_URL": self.address,
            "WANDB_API_KEY": KEY,
            "WANDB_MODE": "online",
            "no_proxy": "127.0.0.1",
            "WANDB_ERROR_REPORTING": "false",
        }

    def start(self) -> None:
        """Listen, on the port of before if there was one."""
        self._http = _Http(("127.0.0.1", self._port), self)
        self._port = self._http.server_address[1]
        self.state.base = self.address
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Die: nothing listens, and open connections are cut."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.cut()
            self._http = None

    def fail(self, where: str, **options: Any) -> None:
        """Do something wrong from now on, see `Fault`."""
        self.faults.append(Fault(where, **options))

    def fault_at(self, where: str) -> Fault | None:
        for fault in self.faults:
            if fault.where in where and fault.times > 0:
                fault.times -= 1
                return fault
        return None


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], owner: WandbServer) -> None:
        super().__init__(address, _Handler)
        self.owner = owner
        self.lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def cut(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that disconnects is not an error of the server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_POST(self) -> None:
        body = self._body()
        path = self.path
        request = json.loads(body) if path == "/graphql" else {}
        operation = request.get("query", "").split("(")[0].split("{")[0].split()[-1:] if request else []
        where = " ".join([path, *operation])
        self.server.owner.requests.append(where)
        if self._fault(where):
            return
        if path == "/graphql":
            self._graphql(request)
        elif path.endswith("/file_stream"):
            with self.server.lock:
                self.server.owner.state.stream(path.split("/")[4], json.loads(body))
            self._send(200, {"exitcode": None, "limits": {}})
        elif path.startswith("/sdk/otel/"):
            self._send(200, {})
        else:
            self.server.owner.state.unknown.append(path)
            self._send(404, {"error": f"this server does not know {path}"})

    def do_PUT(self) -> None:
        body = self._body()
        self.server.owner.requests.append(self.path)
        if self._fault(self.path):
            return
        with self.server.lock:
            self.server.owner.state.store(self.path.removeprefix("/storage/"), body)
        self._send(200, {})

    def do_GET(self) -> None:
        self._body()
        self.server.owner.requests.append(self.path)
        if self.path == "/die":
            threading.Thread(target=self.server.owner.stop).start()
        elif self.path == "/" and not self._fault(self.path):
            self._send(200, {})
        elif not self._fault(self.path):
            self.server.owner.state.unknown.append(self.path)
            self._send(404, {"error": f"this server does not know {self.path}"})

    def _graphql(self, request: dict[str, Any]) -> None:
        if not self._is_known():
            self._send(401, {"errors": [{"message": "API key is not known"}]})
            return
        try:
            with self.server.lock:
                answer = self.server.owner.state.answer(request)
        except GraphQLError as error:
            # as the real one does: HTTP says 404 where something is not found
            status = 404 if "not found" in str(error) else 200
            self._send(status, {"errors": [{"message": str(error)}], "data": None})
        else:
            self._send(200, {"data": answer})

    def _is_known(self) -> bool:
        given = self.headers.get("Authorization", "")
        kind, _, secret = given.partition(" ")
        key = base64.b64decode(secret).decode().partition(":")[2] if kind == "Basic" else secret
        return key in self.server.owner.keys

    def _fault(self, where: str) -> bool:
        fault = self.server.owner.fault_at(where)
        if fault is None:
            return False
        time.sleep(fault.seconds)
        if fault.status is None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.status == 200:
            return False
        else:
            self._send(fault.status, {"error": f"the server was told to answer {fault.status}"})
        return True

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silence."""
