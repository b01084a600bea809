"""A headless Chromium, spoken to by the W3C's WebDriver protocol (w3.org/TR/webdriver2) through chromedriver.

It needs Debian's packages chromium and chromium-driver, and nothing from elsewhere: Chromium is told to ask nobody."""

import base64
import json
import re
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

from simulated import PATIENCE, until

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--window-size=1280,900",
]


class Browser:
    """One window. What it logs and asks for is kept."""

    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="gb", dir="/tmp")
        self.process = subprocess.Popen(
            ["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()
        self.session = None

    def __enter__(self):
        try:
            port = until("chromedriver is there", self.port)
            self.base = "http://127.0.0.1:%s/session" % port
            options = {"args": [*FLAGS, "--user-data-dir=" + self.profile.name]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            answer = self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            self.session = answer["sessionId"]
            self.version = answer["capabilities"]["browserVersion"]
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def __exit__(self, *_):
        try:
            if self.session:
                self.call("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(timeout=PATIENCE)
            self.profile.cleanup()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def port(self):
        assert self.process.poll() is None, "".join(self.lines)
        found = (re.search(r"started successfully on port (\d+)", line) for line in list(self.lines))
        return next((match.group(1) for match in found if match), None)

    def call(self, method, path, body=None):
        url = self.base + ("/" + self.session if self.session else "") + path
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError("%s %s: %s" % (method, path, error.read().decode())) from None

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def title(self):
        return self.call("GET", "/title")

    def script(self, text, *arguments):
        """What a piece of JavaScript returns."""
        return self.call("POST", "/execute/sync", {"script": text, "args": list(arguments)})

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def logged(self):
        """What was written to the console since the last time."""
        return self.call("POST", "/se/log", {"type": "browser"})

    def asked_for(self):
        """The addresses that were asked for since the last time."""
        entries = (json.loads(entry["message"])["message"] for entry in self.call("POST", "/se/log", {"type": "performance"}))
        return [
            entry["params"]["request"]["url"] for entry in entries if entry["method"] == "Network.requestWillBeSent"
        ]

    def screenshot(self, file):
        Path(file).write_bytes(base64.b64decode(self.call("GET", "/screenshot")))
