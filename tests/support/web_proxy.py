"""``python web_proxy.py PORT KNOWN REAL``: a web proxy that takes CONNECT to one address and nothing else.

``KNOWN``, host:port, is known to nobody but this proxy, which leads to ``REAL`` instead. It writes what it is
asked for, a line each.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Everything from ``source`` to ``sink``, until one of them has ended."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Proxy(socketserver.ThreadingTCPServer):
    """On loopback."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, port: int, known: str, real: str) -> None:
        super().__init__(("127.0.0.1", port), Asked)
        self.known = known
        host, _, number = real.rpartition(":")
        self.real = (host, int(number))


class Asked(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Connect it, or refuse."""
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.request.recv(4096)
            if not more:
                return
            head += more
        method, target, *_ = head.decode().split()
        print(method, target, flush=True)
        if (method, target) != ("CONNECT", self.server.known):
            self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        try:
            far = socket.create_connection(self.server.real)
        except OSError:
            self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        with far:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(far, self.request))
            back.start()
            pump(self.request, far)
            back.join()


if __name__ == "__main__":
    with Proxy(int(sys.argv[1]), sys.argv[2], sys.argv[3]) as proxy:
        proxy.serve_forever()
