#!/usr/bin/env python3
"""Runs every command in the documents that can be run here, and says of the others why not: those of the plugin and of the
agent on no node, those of kubectl and of kubectl gpu without a cluster, those of Helm by rendering the chart. Where a program refuses its
arguments, or a file that a command names is not there, the document is wrong.

    python3 tests/docs/commands.py --plugin target/debug/gpu-device-plugin --kubectl kubectl
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import helm_python as helm
import yaml

from check import ROOT, blocks, documents

CHART = "manifests/helm/gpu-device-plugin"
# Programs whose commands are not run, and what is missing here. CONTRIBUTING.md has the same list.
NOT_RUN = {
    "a cloud's account": {"aws", "az", "eksctl", "gcloud"},
    "a cluster of that kind": {"apiclient", "oc", "talosctl"},
    "a container engine and a registry": {"docker"},
    "a node with a GPU": {"dcgmi", "nvidia-ctk", "nvidia-cuda-mps-control", "nvidia-smi", "dmesg"},
    "a node that may be changed": {"cp", "install", "journalctl", "rm", "sysctl", "systemctl", "touch", "tee", "mkdir", "chown", "chmod", "sed"},
    "a running plugin": {"curl", "promtool"},
    "another step of CI": {"cargo", "python3", "benches/bench_report", ".ci/run"},
    "nothing: it only shows a text": {"cat", "echo", "grep", "jq", "less", "ls", "tail", "head", "sort"},
}
# Words that stand for the reader's own.
OWN = re.compile(r"\b(NODE|POD|GPU|FILE|NAME|NAMESPACE|NUMBER|DIR|CLUSTER|TOKEN)\b")
USAGE = re.compile(r"unexpected argument|unrecognized subcommand|invalid value|required arguments|unknown (?:shorthand )?flag|unknown command|flag needs an argument|^Usage:|See '.* --help'", re.MULTILINE)
# The words of the shell itself.
SHELL = {"[", "{", "}", "break", "cd", "do", "done", "else", "export", "fi", "for", "if", "return", "sleep", "then", "until", "while"}
# A cluster without an API server: nothing listens there.
NOWHERE = """\
apiVersion: v1
kind: Config
current-context: nowhere
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
users: [{name: nobody, user: {}}]
"""


def commands(block):
    """The simple commands of a block of shell."""
    text = re.sub(r"\\\n\s*", "", block)
    text = re.sub(r"\$\([^)]*\)", "x", text)
    # Quotes may go over several lines, so lines are not taken one by one.
    text = re.sub(r"(^|\s)#.*$", r"\1", text, flags=re.MULTILINE)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    command, skip = [], False
    for word in [*lexer, "\n"]:
        if re.fullmatch(r"[|&;\n]+", word):
            if command:
                yield command
            command, skip = [], False
        elif re.fullmatch(r"[<>&]+\n*", word):
            skip = True
        elif skip:
            skip = False
        elif command or not re.fullmatch(r"\w+=.*", word, re.DOTALL):
            command.append(word)


def unwrapped(command):
    """A command without what only starts it."""
    if command[0] == "sudo":
        return unwrapped(command[1:])
    if command[0] == "microk8s" and command[1] in ("kubectl", "helm3"):
        return [command[1].rstrip("3"), *command[2:]]
    return command


class Checks:
    def __init__(self, plugin, kubectl):
        self.programs = {name: Path(plugin).resolve().with_name(name) for name in ("gpu-device-plugin", "gpu-node-agent")}
        self.kubectl = kubectl
        self.kubectl_gpu = Path(plugin).resolve().with_name("kubectl-gpu")
        self.counts = {}

    def of(self, command, functions=()):
        """What is wrong with a command, beside functions that its document defines."""
        command = unwrapped(command)
        program = command[0]
        if program == "microk8s":
            self.count("a cluster of that kind")
            return
        for path in command[1:]:
            if re.match(r"(manifests|tests|docs|benches|image)/", path) and "NAME" not in path and not list(ROOT.glob(path.rstrip("/"))):
                yield "there is no %s" % path
        if program in self.programs:
            yield from self.run([str(self.programs[program]), *command[1:]], "run on no node")
        elif command[:2] == ["kubectl", "gpu"]:
            yield from self.run([str(self.kubectl_gpu), *command[2:]], "run without a cluster")
        elif program == "kubectl":
            yield from self.of_kubectl(command)
        elif program == "helm":
            yield from self.of_helm(command)
        elif program in SHELL or program in functions:
            self.count("nothing: it is of the shell")
        else:
            why = next((why for why, names in NOT_RUN.items() if program in names), None)
            if why is None:
                yield "nobody has said whether %s is run" % program
            else:
                self.count(why)

    def count(self, how):
        self.counts[how] = self.counts.get(how, 0) + 1

    def run(self, command, how):
        """What a program says of its arguments. It finds no node, no plugin and no cluster."""
        self.count(how)
        command = [OWN.sub(lambda match: "1" if match.group(1) in ("GPU", "NUMBER") else match.group(1).lower(), word) for word in command]
        with tempfile.TemporaryDirectory() as scratch:
            config = Path(scratch) / "kubeconfig"
            config.write_text(NOWHERE)
            # Without sockets and settings of this machine.
            env = {"PATH": os.environ["PATH"], "HOME": scratch, "KUBECONFIG": str(config), "TMPDIR": scratch, "HTTP_ADDRESS": "", "KUBELET_SOCKET": "", "STATE_DIR": scratch}
            try:
                done = subprocess.run(command, cwd=scratch, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
            except subprocess.TimeoutExpired:
                # It runs for good, as the plugin itself does.
                return
        said = done.stdout + done.stderr
        if USAGE.search(done.stderr):
            yield said.strip().splitlines()[0]

    def of_kubectl(self, command):
        at = command.index("--") if "--" in command else len(command)
        before, inner = command[1:at], command[at + 1 :]
        yield from self.run([self.kubectl, *before, *(["--", *inner] if inner else [])], "put to kubectl without a cluster")
        if inner and inner[0] in self.programs:
            yield from self.run([str(self.programs[inner[0]]), *inner[1:]], "run on no node")

    def of_helm(self, command):
        """Whether the chart takes the values."""
        self.count("rendered by Helm's library")
        words = command[1:]
        if CHART not in words:
            return
        values = {}
        for at, word in enumerate(words):
            if word in ("--set", "--set-string"):
                for pair in words[at + 1].split(","):
                    key, _, value = pair.partition("=")
                    place = values
                    *above, last = re.split(r"(?<!\\)\.", key)
                    for name in above:
                        place = place.setdefault(name, {})
                    place[last] = yaml.safe_load(value) if word == "--set" else value
        try:
            with helm.Chart.load(ROOT / CHART) as chart:
                chart.render(values, name="gdp", namespace="gpus")
        except helm.HelmError as error:
            yield str(error)


def wrong(checks, texts):
    for name, text in texts.items():
        functions = re.findall(r"^ *(\w+)\(\) \{", text, re.MULTILINE)
        for block in blocks(text, "sh"):
            for command in commands(re.sub(r"^\w+\(\) \{", "{", block, flags=re.MULTILINE)):
                for what in checks.of(command, functions):
                    yield "%s: %s: %s" % (name, " ".join(command), what)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", required=True)
    parser.add_argument("--kubectl", required=True)
    args = parser.parse_args()
    checks = Checks(args.plugin, str(Path(args.kubectl).resolve()) if "/" in args.kubectl else args.kubectl)
    found = list(wrong(checks, documents()))
    counts = dict(checks.counts)
    for planted in ("gpu-device-plugin statuss", "gpu-device-plugin doctor --fast", "kubectl get nodes --colour", "kubectl gpu --colour", "kubectl aply -f x", "helm install x %s --set migStrategie=none" % CHART, "frobnicate", "kubectl apply -f manifests/no-such.yaml"):
        if not list(wrong(checks, {"planted": "```sh\n%s\n```" % planted})):
            found.append("the command %r passed" % planted)
    for what in found:
        print(what, file=sys.stderr)
    if found:
        sys.exit(1)
    for how, count in sorted(counts.items()):
        print("%4d  %s" % (count, how if how.startswith(("run", "put", "rendered")) else "not run, it needs %s" % how))


if __name__ == "__main__":
    main()
