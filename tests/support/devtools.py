"""A page that is served, in a real browser that is steered by its DevTools protocol over two pipes.

The protocol: https://chromedevtools.github.io/devtools-protocol. Pipes need no port and no package.
"""

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
import time

from browser import BROWSER, FLAGS

TIMEOUT_S = 60.0
# The browser reads its descriptor 3 and writes to its 4; both are copied first, for they may be one another.
PLUG = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Devtools:
    """One browser with one page. ``requests``: addresses it asked for; ``complaints``: console and errors."""

    def __init__(self, folder):
        ours, theirs = os.pipe(), os.pipe()
        command = [BROWSER, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"]
        plugged = [str(ours[0]), str(theirs[1])]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLUG, *plugged, *command, "about:blank"], pass_fds=(ours[0], theirs[1]),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self.to, self.from_ = ours[1], theirs[0]
        self.left, self.number, self.session = b"", 0, None
        self.requests, self.complaints = [], []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for part in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{part}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.session = None
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.to)
        os.close(self.from_)

    def call(self, method, **params):
        """The result of a command of the protocol."""
        self.number += 1
        told = {"id": self.number, "method": method, "params": params}
        if self.session:
            told["sessionId"] = self.session
        os.write(self.to, json.dumps(told).encode() + b"\0")
        while True:
            message = self._next(TIMEOUT_S)
            assert message is not None, f"the browser does not answer {method}"
            if message.get("id") == self.number:
                assert "error" not in message, message["error"]
                return message["result"]

    def open(self, address):
        """Go there; wait until it is drawn."""
        self.js("window.isOld = true")
        self.call("Page.navigate", url=address)
        self.until("!window.isOld && document.readyState === 'complete'")

    def js(self, expression):
        """What an expression is in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression, seconds=TIMEOUT_S):
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < deadline, f"never: {expression}"
            self._next(0.05)

    def size(self, width, height=900, scheme="light"):
        """The window's size in CSS pixels, and the colours that the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path):
        """The whole page, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self, seconds):
        """The next message, or None after so long; what it complains of is noted."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self.left:
            ready, _, _ = select.select([self.from_], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            data = os.read(self.from_, 1 << 16)
            assert data, "the browser has ended"
            self.left += data
        first, _, self.left = self.left.partition(b"\0")
        message = json.loads(first)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("text", "exception"))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
