"""A simulated node for the checks beside this file: simnode's commands on its standard input, the plugin's HTTP."""

import json
import queue
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Long enough that only a failure takes it, on a machine that does much else.
PATIENCE = 120
PAUSE = 0.1


def until(what, look):
    """Looks until there is an answer that is something, and returns it."""
    end = time.monotonic() + PATIENCE
    while True:
        answer = look()
        if answer:
            return answer
        assert time.monotonic() < end, "not within %d s: %s" % (PATIENCE, what)
        time.sleep(PAUSE)


def get(address, path):
    """Status and text of an answer."""
    # No proxy of the environment: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open("http://%s%s" % (address, path), timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Node:
    """simnode with its plugin; HTTP on a port of its own choosing."""

    def __init__(self, args, *plugin_args, profile="h100x8"):
        self.program = args.plugin.resolve()
        command = [args.simnode, "--interactive", "--verbose", "--profile", profile, "--plugin", args.plugin]
        command += ["--nvml-library", args.nvml_library, "--", "--http-address", "127.0.0.1:0", *plugin_args]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self.fresh = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def __enter__(self):
        try:
            self.address = self.said(r"over HTTP.*address=(127\.0\.0\.1:\d+)")
            self.root = Path(self.said(r"The node lives in (\S+)\. Commands"))
        except BaseException:
            self.fail()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.fail()
            return
        self.command("quit")
        code = self.process.wait(timeout=PATIENCE)
        assert code == 0, "simnode ended with %d\n%s" % (code, "\n".join(self.lines))

    def fail(self):
        # At the end of its input it stops the plugin, which would be left behind otherwise.
        self.process.stdin.close()
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        print("What simnode and the plugin said:\n" + "\n".join(self.lines))

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def said(self, pattern):
        """Waits for a line, and returns what its group matched."""

        def look():
            assert self.process.poll() is None, "simnode has ended\n" + "\n".join(self.lines)
            found = (re.search(pattern, line) for line in list(self.lines))
            return next((match.group(1) for match in found if match), None)

        return until("a line with " + pattern, look)

    def plugin(self):
        """The process id of the plugin, which simnode has started."""
        tasks = Path("/proc/%d/task" % self.process.pid).glob("*/children")
        children = [child for task in tasks for child in task.read_text().split()]
        return next(int(child) for child in children if Path("/proc/%s/exe" % child).resolve() == self.program)

    def command(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def get(self, path):
        return get(self.address, path)

    def status(self):
        code, text = self.get("/status")
        assert code == 200, text
        return json.loads(text)

    def gpu(self, index):
        return next(gpu for gpu in self.status()["gpus"] if gpu["index"] == index)

    def until_healthy(self, index, healthy):
        until("GPU %d is healthy: %s" % (index, healthy), lambda: self.gpu(index)["healthy"] == healthy)

    def edit(self, change):
        """Changes the state of the fake NVML by its file. No command that changes it may follow: simnode has its own copy."""
        file = self.root / "driver" / "usr" / "lib64" / "fake-nvml.json"
        state = json.loads(file.read_text())
        change(state)
        following = file.with_suffix(".next")
        following.write_text(json.dumps(state))
        following.rename(file)


def add_arguments(parser):
    target = ROOT / "target" / "debug"
    parser.add_argument("--plugin", type=Path, default=target / "gpu-device-plugin")
    parser.add_argument("--simnode", type=Path, default=target / "simnode")
    parser.add_argument("--nvml-library", type=Path, default=target / "libfake_nvml.so")
