#!/usr/bin/env python3
"""A real Prometheus scrapes a simulated node on which all goes wrong that can, and answers every query there is.

    python3 tests/observe/check_with_prometheus.py

It needs prometheus and promtool (Debian's package prometheus), grpcio, protobuf and PyYAML. What is checked:

- `promtool check metrics` has nothing against what the plugin exposes;
- each metric that rules and dashboard name is exposed, and each that is exposed is in docs/monitoring.md with its type
  and its labels;
- each query of the dashboard and each rule has an answer while what it is about is so;
- an alert fires.
"""

import argparse
import http.server
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from pathlib import Path

import yaml

import manifests
import simulated
from simulated import ROOT, until

sys.path.insert(0, str(ROOT / "tests" / "interop"))
import check_with_grpcio as interop  # noqa: E402

JOB = "gpu-device-plugin"
# What Grafana puts in place of $__rate_interval: some scrapes, of one second each.
RATE = "10s"
UNHEALTHY, BROKEN, HANGING, PARTITIONED = 1, 2, 3, 4
CONFIG = """\
version: v1
flags: {plugin: {customResources: true}}
health: {pollInterval: 1s, callDeadline: 1s, missedCalls: 1}
"""
# A node that is partitioned in many ways.
MIG = "h100x8_mig_mixed"
# A comparison at the end of an alert's expression: what stands before it has to have an answer too.
COMPARISON = re.compile(r"\s*(?:==|!=|>=|<=|>|<)\s*[\d.]+\s*$")


def promtool(*arguments, text=None):
    answer = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    # It has advice beside errors; there is none to be given.
    assert not answer.stderr.strip(), answer.stderr


def families(text):
    """Each metric that is exposed, with its type and its labels."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels = {name: set() for name in types}
    for name, inner in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        base = name if name in types else re.sub(r"_(?:bucket|count|sum)$", "", name)
        found = set(re.findall(r'([a-z_]+)="', inner))
        labels[base] |= found - {"le"} if types[base] == "histogram" else found
    return {name: (kind, labels[name]) for name, kind in types.items()}


def documented():
    """Each metric of docs/monitoring.md, with its type and its labels."""
    table = manifests.DOCUMENT.read_text().partition("## The metrics")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    quoted = lambda cell: re.findall(r"`([^`]+)`", cell)
    return {name: (row[2].strip(), set(quoted(row[3]))) for row in rows for name in quoted(row[1])}


def check_names(*texts):
    exposed, told = {}, documented()
    for name, (kind, labels) in (family for text in texts for family in families(text).items()):
        exposed[name] = (kind, exposed.get(name, (kind, set()))[1] | labels)
    named, _ = manifests.used()
    missing = sorted(named - exposed.keys())
    assert not missing, "rules or dashboard name what is not exposed: %s" % missing
    own = {name: of for name, of in exposed.items() if name.startswith("gpu_device_plugin_")}
    stated = {name: of for name, of in told.items() if name.startswith("gpu_device_plugin_")}
    assert own == stated, "docs/monitoring.md differs from what is exposed:\n%s" % "\n".join(
        "%s: exposed %s, documented %s" % (name, own.get(name), stated.get(name))
        for name in sorted(own.keys() | stated.keys())
        if own.get(name) != stated.get(name)
    )


class Dcgm(http.server.BaseHTTPRequestHandler):
    """What dcgm-exporter would say of the same GPUs."""

    uuids = []

    def do_GET(self):
        lines = []
        for metric in ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_TEMP"):
            lines.append("# TYPE %s gauge" % metric)
            for index, uuid in enumerate(self.uuids):
                lines.append('%s{gpu="%d",UUID="%s",Hostname="sim"} %d' % (metric, index, uuid, index * 10))
        text = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Prometheus:
    """A real one, in a directory that goes with it, on the loopback interface."""

    def __init__(self, directory, targets):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        shutil.copy(manifests.MONITORING / "rules.yaml", directory / "rules.yaml")
        scrapes = [
            {
                "job_name": job,
                "honor_labels": True,
                "static_configs": [{"targets": [target], "labels": {"node": "sim", "cluster": "test"}}],
            }
            for job, target in targets.items()
        ]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": scrapes,
        }
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
        promtool("check", "config", directory / "prometheus.yaml")
        command = ["prometheus", "--config.file=%s" % (directory / "prometheus.yaml")]
        command += ["--storage.tsdb.path=%s" % (directory / "data"), "--web.listen-address=" + self.address]
        self.log = (directory / "log").open("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def __enter__(self):
        until("Prometheus is ready", self.ready)
        return self

    def __exit__(self, kind, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=simulated.PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        if kind is not None:
            self.log.seek(0)
            print("What Prometheus said:\n" + self.log.read())

    def ready(self):
        assert self.process.poll() is None, "prometheus has ended"
        try:
            return simulated.get(self.address, "/-/ready")[0] == 200
        except OSError:
            return False

    def query(self, expression):
        """The samples of the answer."""
        code, text = simulated.get(self.address, "/api/v1/query?query=" + urllib.parse.quote(expression))
        answer = json.loads(text)
        assert code == 200 and answer["status"] == "success", "%s: %s" % (expression, text)
        assert not answer.get("warnings"), "%s: %s" % (expression, text)
        # A sample that is no number is nothing that a person can see.
        return [sample for sample in answer["data"]["result"] if sample["value"][1] != "NaN"]


def questions():
    """Every query of the dashboard and of the rules, with where it stands."""
    dashboard = json.loads((manifests.MONITORING / "dashboard.json").read_text())
    annotations = [annotation["name"] for annotation in dashboard["annotations"]["list"]]
    for title, query in manifests.queries(dashboard):
        # A start under the same address is not seen here.
        query = COMPARISON.sub("", query) if title in annotations else query
        for variable, value in (("$__rate_interval", RATE), ("$cluster", "test"), ("$node", "sim")):
            query = query.replace(variable, value)
        yield "dashboard: " + title, query
        # All and no choice at all, too: the variables are regular expressions then.
        yield "dashboard, all nodes: " + title, query.replace('=~"test"', '=~".*"').replace('=~"sim"', '=~".*"')
    for group in yaml.safe_load((manifests.MONITORING / "rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                yield "record", rule["record"]
            elif rule["expr"].startswith("absent("):
                yield "alert: " + rule["alert"], rule["expr"].removeprefix("absent(").removesuffix(")")
            else:
                yield "alert: " + rule["alert"], COMPARISON.sub("", rule["expr"])


def all_goes_wrong(node, config):
    """Whatever the plugin can tell of, happens."""
    # Kubelet and pods.
    node.command("allocate 2")
    node.said(r"(pod-0 is admitted)")
    node.command("restart-kubelet")
    node.said(r"(registered again)")
    # GPUs.
    node.command("xid %d 79" % UNHEALTHY)
    node.until_healthy(UNHEALTHY, False)
    until("the pods are known", lambda: node.status()["holdersKnown"])

    def break_them(state):
        gpus = state["gpus"]
        gpus[BROKEN]["recovery_action"] = 1
        rows = gpus[BROKEN].setdefault("remapped_rows", {})
        rows |= {"pending": True, "failure": True}
        gpus[BROKEN]["rules"] = [{"call": "nvmlDeviceGetMemoryInfo", "answer": 999}]
        gpus[HANGING]["rules"] = [{"call": "nvmlDeviceGetMemoryInfo", "hang": True}]
        # With nothing on it, and offered whole.
        gpus[PARTITIONED]["mig"] = {"enabled": True, "devices": []}

    node.edit(break_them)
    for gpu in (BROKEN, HANGING):
        node.until_healthy(gpu, False)
    until("a call hangs", lambda: node.status()["nvml"]["unansweredCalls"] > 0)
    until("a finding", lambda: node.status()["findings"])
    # The configuration: one that is applied and one that is not.
    config.write_text(CONFIG + "devices: '!7'\n")
    until("the configuration is applied", lambda: node.status()["configuration"]["reloadsApplied"] > 0)
    config.write_text(CONFIG + "sharing: yes\n")
    until("the configuration is refused", lambda: node.status()["configuration"]["reloadsRefused"] > 0)


class Kubelet(threading.Thread):
    """One with ideas of its own: it asks for devices all the time, for those that there are and for others."""

    def __init__(self, node):
        super().__init__(daemon=True)
        (socket_path,) = (node.root / "kubelet").glob("nvidia-gpu-*.sock")
        self.uuid = node.gpu(0)["uuid"]
        self.plugin = interop.Plugin(socket_path)
        self.over = threading.Event()
        self.error = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        self.plugin.channel.close()
        if self.error:
            raise self.error

    def run(self):
        try:
            while not self.over.wait(0.2):
                self.plugin.allocate([self.uuid])
                self.plugin.preferred(["GPU-none"], [], 1)
                try:
                    self.plugin.allocate(["GPU-none"])
                    raise AssertionError("a device that there is not was allocated")
                except interop.grpc.RpcError:
                    pass
        except BaseException as error:
            self.error = error


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    simulated.add_arguments(parser)
    args = parser.parse_args()
    promtool("check", "rules", manifests.MONITORING / "rules.yaml")
    with tempfile.TemporaryDirectory(prefix="go", dir="/tmp") as directory:
        directory = Path(directory)
        config = directory / "config.yaml"
        config.write_text(CONFIG)
        dcgm = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dcgm)
        threading.Thread(target=dcgm.serve_forever, daemon=True).start()
        with simulated.Node(args, "--mig-strategy", "mixed", profile=MIG) as node:
            partitioned = node.get("/metrics")[1]
            promtool("check", "metrics", text=partitioned)
        with simulated.Node(args, "--config-file", config) as node:
            Dcgm.uuids = [gpu["uuid"] for gpu in node.status()["gpus"]]
            promtool("check", "metrics", text=node.get("/metrics")[1])
            targets = {JOB: node.address, "dcgm-exporter": "127.0.0.1:%d" % dcgm.server_address[1]}
            with Prometheus(directory, targets) as prometheus:
                until("it is scraped", lambda: prometheus.query('up{job="%s"} == 1' % JOB))
                all_goes_wrong(node, config)
                asked = list(questions())
                with Kubelet(node):
                    for place, query in asked:
                        until("an answer to %s: %s" % (place, query), lambda: prometheus.query(query))
                text = node.get("/metrics")[1]
                promtool("check", "metrics", text=text)
                check_names(text, partitioned)
                firing = 'ALERTS{alertname="%s",alertstate="firing",node="sim"}'
                until("an alert", lambda: prometheus.query(firing % "GpuRowRemapFailed"))
                assert not prometheus.query(firing % "GpuNvmlDown")
        dcgm.shutdown()
    print("Prometheus has an answer to each of %d queries; promtool has nothing against the metrics" % len(asked))


if __name__ == "__main__":
    main()
