#!/usr/bin/env python3
"""Every alert fires once for its cause, names what it should, and is silent otherwise: with what the real plugin says on
simulated nodes.

    python3 tests/observe/check_alerts.py            compares with alerts.yaml
    python3 tests/observe/check_alerts.py --write    writes alerts.yaml; read the difference

promtool evaluates the rules over the metrics of each scenario. For each alert of the rules it is expected, or expected
not to fire, before the cause, just before the time that the alert waits, after that time, and when the cause is over.
Where several alerts fire, a real Alertmanager with alertmanager.yaml says of how many it notifies. Then the rules are
broken in each way that they can be, and have to fail."""

import argparse
import concurrent.futures
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import yaml

import manifests
import simulated
from scenarios import SCENARIOS
from simulated import until

EXPECTED = Path(__file__).with_name("alerts.yaml")
RULES = manifests.MONITORING / "rules.yaml"
# What is another one each time that a scenario runs.
MOMENT = 1767225600
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
DURATION = {"s": 1 / 60, "m": 1, "h": 60}
GOT = re.compile(r"alertname: (\w+), time: \S+,\s+exp:\[\],\s+got:\[(.*?)\n {12}\]", re.DOTALL)
QUOTED = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')


def alerts(groups):
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def minutes(rule):
    """How long an alert waits, in minutes."""
    text = rule.get("for", "0m")
    return int(int(text[:-1]) * DURATION[text[-1]])


def asked(groups):
    """The metrics that the rules and the texts of alerts ask for."""
    return set(re.findall(r"\b(?:gpu_device_plugin|process)_[a-z_]+", json.dumps(groups)))


def samples(phase, metrics):
    """Each series of a phase that is asked for, with its value at each minute."""
    labels = ",".join('%s="%s"' % label for label in phase.labels.items())
    if phase.target:
        yield "up{%s}" % labels, [1 if phase.text else 0] * phase.minutes
    for name, own, value in (found for found in SAMPLE.findall(phase.text) if found[0] in metrics):
        value = float(value)
        if name == "gpu_device_plugin_problem_since_timestamp_seconds":
            value = MOMENT
        change = phase.change.get(name)
        values = [change(value, minute, own) for minute in range(phase.minutes)] if change else [value] * phase.minutes
        yield "%s{%s}" % (name, ",".join(filter(None, [own, labels]))), values


def notation(values):
    """Values in promtool's words: equal ones in a row as one."""
    words = []
    for value in values:
        word = "_" if value is None else "%.17g" % value
        if words and words[-1][0] == word:
            words[-1][1] += 1
        else:
            words.append([word, 0])
    # A value has its number of repetitions, a missing one how many are missing.
    return " ".join("%sx%d" % (word, more + (word == "_")) if more else word for word, more in words)


def series(phases, metrics):
    """The phases one after the other. A series that one does not have ends, as when a scrape is without it."""
    every, at = {}, 0
    for phase in phases:
        for name, values in samples(phase, metrics):
            known = every.setdefault(name, [])
            if known and len(known) < at:
                known += ["stale"] + [None] * (at - len(known) - 1)
            every[name] = known + [None] * (at - len(known)) + values
        at += phase.minutes
    for name, values in every.items():
        if len(values) < at:
            values += ["stale"]
        yield {"series": name, "values": notation_with_stale(values)}


def notation_with_stale(values):
    parts, rest = [], []
    for value in values:
        if value == "stale":
            parts += [notation(rest), "stale"] if rest else ["stale"]
            rest = []
        else:
            rest.append(value)
    return " ".join([*parts, notation(rest)] if rest else parts)


def times(scenario, phases, rules):
    """The minutes at which each alert is looked at: of each, whether the expected ones fire."""
    begun = phases[0].minutes
    over = sum(phase.minutes for phase in phases)
    if not scenario.alerts:
        return [(minute, ()) for minute in range(1, over, 7)]
    waits = [minutes(rules[name]) for name in scenario.alerts]
    looks = [(begun + max(waits) + scenario.slack, scenario.alerts)]
    if begun:
        looks.append((begun - 1, ()))
    if min(waits):
        looks.append((begun + min(waits) - 1, ()))
    if len(phases) == 3:
        looks += [(begun + phases[1].minutes - 1, scenario.alerts), (over - 1, ())]
    return sorted(set(looks))


def test(name, scenario, phases, rules, metrics, expected):
    cases = []
    for minute, firing in times(scenario, phases, rules):
        for alert in rules:
            found = [one for one in expected if one["alert"] == alert] if firing else []
            case = {"eval_time": "%dm" % minute, "alertname": alert}
            if found:
                case["exp_alerts"] = [
                    {"exp_labels": one["labels"], "exp_annotations": annotations(rules[alert], one)} for one in found
                ]
            cases.append(case)
    return {"name": name, "interval": "1m", "input_series": list(series(phases, metrics)), "alert_rule_test": cases}


def annotations(rule, one):
    return {"summary": one["summary"], "description": one["description"], "runbook_url": rule["annotations"]["runbook_url"]}


def promtool(folder, rules, tests):
    """What promtool has against the rules."""
    (folder / "rules.yaml").write_text(rules)
    file = folder / "tests.json"
    file.write_text(json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    answer = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
    return answer.stdout + answer.stderr if answer.returncode else ""


def fired(output):
    """The alerts that fired although promtool was told of none: name, labels and annotations."""
    for alert, got in GOT.findall(output):
        for one in re.split(r"\n\s+\d+:\n", got)[1:]:
            labels, _, texts = one.partition("Annotations:")
            read = lambda text: {name: json.loads(value) for name, value in QUOTED.findall(text)}
            yield alert, read(labels), read(texts)


def write(folder, rules, metrics, recorded):
    """Writes what fires in each scenario that was run."""
    written = yaml.safe_load(EXPECTED.read_text()) if EXPECTED.exists() else {}
    for name, (scenario, phases) in recorded.items():
        output = promtool(folder, RULES.read_text(), [test(name, scenario, phases, rules, metrics, [])])
        last = {}
        for alert, labels, texts in fired(output):
            labels.pop("alertname", None)
            key = (alert, json.dumps(labels, sort_keys=True))
            last[key] = {"alert": alert, "labels": labels} | {word: texts[word] for word in ("summary", "description")}
        written[name] = [last[key] for key in sorted(last)]
        if output and not last:
            sys.exit("promtool said of %s what cannot be read:\n%s" % (name, output))
    written = {name: written.get(name, []) for name in SCENARIOS}
    head = "# What fires in each scenario of scenarios.py. Written by check_alerts.py --write.\n"
    EXPECTED.write_text(head + yaml.dump(written, Dumper=Indented, sort_keys=False, width=72))


class Indented(yaml.SafeDumper):
    """Lists are indented below their key, as yamllint wants it."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)


class Alertmanager:
    """A real one, with the inhibit rules and a receiver that does nothing."""

    def __init__(self, folder, program):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        config = yaml.safe_load((manifests.MONITORING / "alertmanager.yaml").read_text())
        config |= {"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}
        (folder / "alertmanager.yaml").write_text(yaml.safe_dump(config))
        command = [program, "--config.file=%s" % (folder / "alertmanager.yaml"), "--cluster.listen-address="]
        command += ["--storage.path=%s" % (folder / "alertmanager"), "--web.listen-address=" + self.address]
        self.log = (folder / "alertmanager.log").open("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def __enter__(self):
        until("Alertmanager is ready", self.ready)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=simulated.PATIENCE)

    def ready(self):
        self.log.seek(0)
        assert self.process.poll() is None, "Alertmanager has ended: " + self.log.read()
        try:
            return simulated.get(self.address, "/-/ready")[0] == 200
        except OSError:
            return False

    def notified(self, scenario, firing):
        """How many of these alerts it does not keep back."""
        # Scenarios are on nodes of one name.
        mark = {"cluster": scenario}
        body = [{"labels": one["labels"] | {"alertname": one["alert"]} | mark} for one in firing]
        request = urllib.request.Request(
            "http://%s/api/v2/alerts" % self.address, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=simulated.PATIENCE)

        def settled():
            got = json.loads(simulated.get(self.address, "/api/v2/alerts")[1])
            states = [one["status"]["state"] for one in got if one["labels"].get("cluster") == scenario]
            return states if len(states) == len(firing) and "unprocessed" not in states else None

        states = until("Alertmanager has looked at them", settled)
        return states.count("active")


def rejected(folder, what, name, rules, tests):
    """Whether broken rules fail in one scenario; those in which the alert fires come first."""
    order = sorted(tests, key=lambda one: (name not in SCENARIOS[one].alerts, not SCENARIOS[one].alerts))
    with tempfile.TemporaryDirectory(dir=folder) as own:
        return any(promtool(Path(own), rules, [tests[one]]) for one in order)


def operand(text, at):
    """The end of an operand of a set operator that begins here: the next such operator, or the end of its bracket."""
    depth = 0
    while at < len(text):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth < 0 or depth == 0 and re.match(r"\s(?:unless|or|and)\s", text[at:]):
            return at
        at += 1
    return at


def mutations(groups):
    """The rules with one mistake each: what it is, the name of the rule, and the text."""

    def broken(what, group, rule, change):
        copy = json.loads(json.dumps(groups))
        changed = copy[group]["rules"][rule]
        change(changed)
        return what, changed.get("alert"), yaml.safe_dump({"groups": copy})

    for at, group in enumerate(groups):
        for number, rule in enumerate(group["rules"]):
            name, expression = rule.get("alert") or rule["record"], rule["expr"]
            for found in re.finditer(r"\s(unless|or)\s", expression):
                end = operand(expression, re.compile(r"\s*(?:on \([^)]*\))?\s*").match(expression, found.end()).end())
                left = expression[: found.start()] + expression[end:]
                cut = " ".join(expression[found.start() : end].split())
                yield broken("%s without %s" % (name, cut), at, number, lambda it, left=left: it.update(expr=left))
            if "alert" not in rule:
                continue
            yield broken("%s never" % name, at, number, lambda it: it.update(expr="vector(0) > 1"))
            if "for" in rule:
                yield broken("%s at once" % name, at, number, lambda it: it.pop("for"))
                yield broken("%s late" % name, at, number, lambda it: it.update({"for": "10h"}))
            for query in re.findall(r"printf\s+`([^`]*)`", rule["annotations"]["description"]):
                yield broken(
                    "%s, which does not ask %s" % (name, " ".join(query.split())[:70]), at, number,
                    lambda it, query=query: it["annotations"].update(
                        description=it["annotations"]["description"].replace(query, query.replace("gpu_device", "no_device"))
                    ),
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    simulated.add_arguments(parser)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="scenarios whose names have this text; no rules are broken then")
    parser.add_argument("--alertmanager", default=shutil.which("alertmanager") or shutil.which("prometheus-alertmanager"))
    args = parser.parse_args()
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules, metrics = alerts(groups), asked(groups)
    chosen = {name: scenario for name, scenario in SCENARIOS.items() if args.only in name}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = {name: pool.submit(scenario.run, args) for name, scenario in chosen.items()}
        recorded = {name: (chosen[name], run.result()) for name, run in runs.items()}
    with tempfile.TemporaryDirectory(prefix="alerts", dir="/tmp") as folder:
        folder = Path(folder)
        if args.write:
            write(folder, rules, metrics, recorded)
        expected = yaml.safe_load(EXPECTED.read_text())
        for name, (scenario, _) in recorded.items():
            found = tuple(sorted(one["alert"] for one in expected[name]))
            assert found == tuple(sorted(scenario.alerts)), "%s: %s is expected, and fires: %s" % (name, scenario.alerts, found)
        tests = {name: test(name, *of, rules, metrics, expected[name]) for name, of in recorded.items()}
        for name in tests:
            output = promtool(folder, RULES.read_text(), [tests[name]])
            assert not output, output
        if args.only:
            return
        silent = rules.keys() - {name for scenario in SCENARIOS.values() for name in scenario.alerts}
        assert not silent, "no scenario is about %s" % silent
        with Alertmanager(folder, args.alertmanager) as alertmanager:
            for name, (scenario, _) in recorded.items():
                if scenario.alerts:
                    notified = alertmanager.notified(name, expected[name])
                    assert notified == 1, "%s: %d notifications" % (name, notified)
        broken = list(mutations(groups))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            judged = pool.map(lambda of: rejected(folder, *of, tests), broken)
        passed = [what for (what, _, _), is_rejected in zip(broken, judged) if not is_rejected]
        assert not passed, "%d of %d broken rules passed:\n%s" % (len(passed), len(broken), "\n".join(passed))
    print("%d scenarios: each alert fires once for its cause; %d broken rules were rejected" % (len(tests), len(broken)))


if __name__ == "__main__":
    main()
