"""Headless Chromium by its own debugging pipe: nothing to install beside the browser."""

import base64
import json
import os
import select
import shutil
import subprocess
import time


def find():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    def __init__(self, folder):
        to_browser, self.write = os.pipe()
        self.read, from_browser = os.pipe()
        ours = [to_browser, from_browser]

        def place():  # the browser reads from 3 and writes to 4; first out of the way, in case one of ours is 3 or 4
            far = [os.dup2(fd, 100 + i) for i, fd in enumerate(ours)]
            for i, fd in enumerate(far):
                os.dup2(fd, 3 + i)

        self.process = subprocess.Popen([find(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={folder}/profile", "about:blank"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=place, close_fds=False)
        for fd in ours:
            os.close(fd)
        self.buffer, self.next, self.session, self.events = b"", 0, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(domain + ".enable")

    def receive(self, until):
        while b"\0" not in self.buffer:
            if not select.select([self.read], [], [], max(0, until - time.time()))[0]:
                return None
            got = os.read(self.read, 1 << 20)
            if not got:
                raise RuntimeError("the browser is gone")
            self.buffer += got
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, **parameters):
        self.next += 1
        message = {"id": self.next, "method": method, "params": parameters, **({"sessionId": self.session} if self.session else {})}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        until = time.time() + 60
        while (got := self.receive(until)) is not None:
            if got.get("id") == self.next:
                if "error" in got:
                    raise RuntimeError(f"{method}: {got['error']}")
                return got["result"]
            self.events.append(got)
        raise RuntimeError(f"{method}: no answer")

    def open(self, url):
        self.events.clear()
        self.ask("Page.navigate", url=url)
        until = time.time() + 60
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            got = self.receive(until)
            if got is None:
                raise RuntimeError("the page does not load")
            self.events.append(got)

    def run(self, script):
        done = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(str(done["exceptionDetails"]))
        return done["result"].get("value")

    def key(self, name, code):
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def size(self, width, height, mobile=False):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def colours(self, scheme):
        self.ask("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path, whole=True):
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]))

    def pdf(self, path):
        path.write_bytes(base64.b64decode(self.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]))

    def complaints(self):
        """Whatever the page or the browser wrote to the console, exceptions, and requests that are not the page itself."""
        out = []
        for e in self.events:
            p = e.get("params", {})
            if e.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                out.append(json.dumps(p)[:300])
            if e.get("method") == "Network.requestWillBeSent" and not p["request"]["url"].startswith(("file:", "data:", "about:")):
                out.append("asks for " + p["request"]["url"])
        return out

    def close(self):
        self.process.terminate()
        self.process.wait(30)
