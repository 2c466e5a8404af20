# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven with the DevTools protocol: opens pages, presses keys, reads what is shown, takes pictures."""

from __future__ import annotations

import base64
import json
import queue
import shutil
import subprocess
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from websockets.sync.client import connect

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["WINDOW", "Browser", "Page"]

WINDOW = (1280, 900)
_TIMEOUT_S = 30.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, " ": 32}
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """A browser process with a profile of its own. A context manager."""

    def __init__(self, profile: Path) -> None:
        program = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
        assert program is not None, "no Chromium: apt-get install chromium"
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="browser log", daemon=True)
        self._reader.start()
        self._url = self._devtools_url()
        self._pages: list[Page] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for page in self._pages:
            page.close()
        self._process.terminate()
        try:
            self._process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_TIMEOUT_S)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def open(self, url: str, *, width: int = WINDOW[0], height: int = WINDOW[1], scheme: str = "light", scale: float = 1) -> Page:
        """Open a page in a window of that size, for a reader who prefers that colour scheme."""
        page = Page(self._url, width=width, height=height, scheme=scheme, scale=scale)
        self._pages.append(page)
        page.go(url)
        return page

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.put(line)
        self._said.put("")

    def _devtools_url(self) -> str:
        lines = []
        while line := self._said.get(timeout=_TIMEOUT_S):
            lines.append(line)
            if line.startswith("DevTools listening on "):
                return line.removeprefix("DevTools listening on ").strip()
        raise AssertionError("the browser did not start\n" + "".join(lines))


class Page:
    """A page of a browser.

    Attributes:
        complaints: what the page wrote to its console as an error or a warning, what it threw, what its policy forbade, and
            requests that failed.
        requests: URLs that it has asked for.
    """

    def __init__(self, browser: str, *, width: int, height: int, scheme: str, scale: float) -> None:
        self._lock = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._loads = 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(connect(browser, max_size=None, open_timeout=_TIMEOUT_S, proxy=None))
        self._session = ""
        self._thread = threading.Thread(target=self._listen, name="page", daemon=True)
        self._thread.start()
        self._target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 500)
        self.prefer(scheme)

    def close(self) -> None:
        """Close it. Harmless when closed."""
        if self._session:
            self._session = ""
            self.call("Target.closeTarget", targetId=self._target)
        self._stack.close()
        self._thread.join(_TIMEOUT_S)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        with self._lock:
            self._number += 1
            number = self._number
            message = {"id": number, "method": method, "params": parameters}
            self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
            assert self._lock.wait_for(lambda: number in self._answers, _TIMEOUT_S), f"no answer to {method}"
            answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def go(self, url: str) -> None:
        """Load a page and wait for it."""
        with self._lock:
            before = self._loads
        failed = self.call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        with self._lock:
            assert self._lock.wait_for(lambda: self._loads > before, _TIMEOUT_S), f"{url} does not load"

    def prefer(self, scheme: str) -> None:
        """Prefer a colour scheme, `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def eval(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until an expression is true, looking at every frame and change; return its value."""
        return self.eval(f"""new Promise((resolve, reject) => {{
            const give_up = Date.now() + {_TIMEOUT_S * 1000 - 5000};
            const look = () => {{
                let value;
                try {{ value = {condition}; }} catch (error) {{ value = false; }}
                if (value) resolve(value);
                else if (Date.now() > give_up) reject(new Error("never: " + document.body.innerText));
                else setTimeout(look, 20);
            }};
            look();
        }})""")

    def text(self, selector: str = "body") -> str:
        """Return the text that an element shows."""
        text: str = self.eval(f"document.querySelector({json.dumps(selector)}).innerText")
        return text

    def press(self, *keys: str) -> None:
        """Press keys one after the other; a single character types it, `Shift+Tab` holds Shift."""
        for key in keys:
            shift, name = key.startswith("Shift+"), key.removeprefix("Shift+")
            code = _KEYS.get(name)
            text = {"Enter": "\r", " ": " "}.get(name, name if len(name) == 1 else "")
            event = {"key": name, "modifiers": 8 if shift else 0}
            if code is not None:
                event |= {"windowsVirtualKeyCode": code, "code": name}
            self.call("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        """Type text where the focus is."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """Write what is shown as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _listen(self) -> None:
        for message in self._socket:
            answer = json.loads(message)
            with self._lock:
                if "id" in answer:
                    self._answers[answer["id"]] = answer
                else:
                    self._note(answer["method"], answer.get("params", {}))
                self._lock.notify_all()

    def _note(self, event: str, parameters: dict[str, Any]) -> None:
        match event:
            case "Page.loadEventFired":
                self._loads += 1
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "warning", "assert"}:
                self.complaints.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(str(parameters["entry"]))
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case _:
                pass
