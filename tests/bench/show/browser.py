"""A headless Chromium, driven through the DevTools protocol over a pair of pipes: no driver, port or library."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from drc_deploy.metrics import UInt8Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # as root, and in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
ANSWER_S = 60.0

# DevTools listens on file 3 and answers on file 4.
_LAUNCH = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(commands, 3), os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

Message = dict[str, Any]


def find_chromium() -> str | None:
    """Return the program, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser with one tab."""

    def __init__(self, program: str, profile: Path) -> None:
        command_end, self._commands = os.pipe()
        self._answers, answer_end = os.pipe()
        launch = [sys.executable, "-c", _LAUNCH, str(command_end), str(answer_end)]
        self._process = subprocess.Popen(
            [*launch, program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(command_end, answer_end),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_end)
        os.close(answer_end)
        self._numbers, self._unread, self._session = itertools.count(1), b"", ""
        self.events: list[Message] = []
        """Everything that the tab told unasked since the last page was opened."""
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        (tab,) = [info for info in self.ask("Target.getTargets")["targetInfos"] if info["type"] == "page"]
        self._session = self.ask("Target.attachToTarget", targetId=tab["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Message:
        """Let the browser do something and give its result."""
        number = next(self._numbers)
        message: Message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: Message = answer["result"]
        return result

    def open(self, page: Path, *, width: int, dark: bool = False, scripts: bool = True) -> None:
        """Show a file in a window of some width, and wait until it is loaded."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=scheme)
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.events = []
        self.ask("Page.navigate", url=page.as_uri())
        self._wait_for("Page.loadEventFired")

    def evaluate(self, expression: str, *, wait: bool = False) -> Any:
        """Return the value of a JavaScript expression in the page, or of the promise that it is."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=wait)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, such as ``ArrowRight``."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "End": 35, "Home": 36}
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def click(self, x: float, y: float) -> None:
        """Press and release the left button in the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self) -> UInt8Image:
        """Return what the window shows, (H, W, 3) BGR."""
        data = base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return np.asarray(image, np.uint8)

    def told(self, *methods: str) -> list[Message]:
        """Return the events of some kinds since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") in methods]

    def close(self) -> None:
        """End the browser."""
        os.close(self._commands)
        os.close(self._answers)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_for(self, method: str) -> None:
        while not self.told(method):
            self.events.append(self._read())

    def _read(self) -> Message:
        deadline = time.monotonic() + ANSWER_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))
            chunk = os.read(self._answers, 1 << 16) if ready else b""
            if not chunk:
                raise RuntimeError("the browser does not answer")
            self._unread += chunk
        text, self._unread = self._unread.split(b"\0", 1)
        message: Message = json.loads(text)
        return message

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
