"""The servers of the clinic, with Python's `http.server` and `socket`: each prints a line when it is ready."""

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers.testbed.experiments.clinic_account import PORT


def polite(patience: str, thinks: str = "0", size: str = "1000") -> None:
    """http.server with HTTP/1.1: closes after `patience` seconds of idleness, thinks so long, answers so many bytes."""
    class Answer(BaseHTTPRequestHandler):
        protocol_version, timeout = "HTTP/1.1", float(patience)

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            time.sleep(float(thinks))
            self.send_response(200)
            self.send_header("Content-Length", size)
            self.end_headers()
            try:
                self.wfile.write(bytes(int(size)))
            except OSError:                     # the client has gone
                self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size, daemon_threads = 128, True

        def handle_error(self, *_) -> None:
            """A client that resets is what is recorded here."""

    server = Server(("", PORT), Answer)
    print("ready", flush=True)
    server.serve_forever()


def deaf(backlog: str) -> None:
    """Listens with this backlog and never accepts."""
    with socket.create_server(("", PORT), backlog=int(backlog)):
        print("ready", flush=True)
        threading.Event().wait()


def elsewhere() -> None:
    """Does not listen at all."""
    print("ready", flush=True)
    threading.Event().wait()


SERVERS: dict[str, Callable] = {"polite": polite, "deaf": deaf, "elsewhere": elsewhere}
