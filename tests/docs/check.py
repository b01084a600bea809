#!/usr/bin/env python3
"""Compares the README and docs with the program: commands, recording, flags, config files, every
quantity (quantities.py), and every text that they quote. Checks their links, their shell commands' syntax and
their Kubernetes objects, and that the README stays short.

    python3 tests/docs/check.py --plugin target/debug/gpu-device-plugin --recording FILE COMMAND...

FILE is what the first command has printed; each COMMAND must stand in the README as it was run.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import quantities
import yaml

ROOT = Path(__file__).resolve().parents[2]
LONGEST_README = 150
# What stands between backticks and begins with one of these is a command.
PROGRAMS = {"cargo", "curl", "docker", "gpu-device-plugin", "helm", "kubectl", "nvidia-smi", "promtool", "systemctl", "xid"}
# Texts of the kubelet outside of the section that is about them.
OF_THE_KUBELET = {"failed to get device plugin options"}
# Flags of other programs that the documents name.
OTHER_FLAGS = {
    "az": {"--enable-managed-gpu-experience", "--gpu-driver"},
    "docker": {"--device", "--gpus", "--target"},
    "eksctl": {"--install-nvidia-plugin"},
    "k3s": {"--default-runtime"},
    "kubelet": {"--root-dir"},
    "microk8s": {"--gpu-operator-set"},
    "simnode": {"--interactive", "--kubelet", "--profile"},
}
KUBERNETES = "1.36"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def documents():
    """The README, what is in docs/ and the examples' list, by path from the root, in the order in which they are read."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "manifests/examples/README.md"]
    return {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}


def blocks(text, language):
    """The contents of the code blocks in a language, without their indentation."""
    for indent, name, body in FENCE.findall(text):
        if name == language:
            yield re.sub("^" + indent, "", body, flags=re.MULTILINE)


def section(texts, title):
    """The document and the text under a heading, to the next heading of its level or above."""
    for name, text in texts.items():
        heading = re.search(r"^(#+) %s$" % re.escape(title), text, re.MULTILINE)
        if heading:
            rest = text[heading.end() :]
            end = re.search(r"^#{1,%d} " % len(heading.group(1)), rest, re.MULTILINE)
            return name, rest[: end.start()] if end else rest
    sys.exit("no document has the heading %r" % title)


def rows(text):
    """The cells of each row of the tables in a text, without headings."""
    lines = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = {at for at, row in enumerate(split) if all(re.fullmatch(":?-+:?", cell) for cell in row)}
    return [row for at, row in enumerate(split) if at not in rules and at + 1 not in rules]


def quoted(text):
    """What stands between backticks."""
    return [code.replace("\\|", "|") for code in re.findall(r"`([^`]+)`", text)]


def named(cell):
    """The names in a cell, without the values that they take."""
    return [re.split(r"[ =]", word)[0] for word in quoted(cell)]


def sources():
    """The product's source, string literals that go over several lines made one."""
    folders = [ROOT / "src", *sorted((ROOT / "crates").glob("*/src"))]
    files = (file for folder in folders for file in sorted(folder.rglob("*.rs")))
    text = "\n".join(file.read_text() for file in files)
    text = re.sub(r"#\[cfg\(test\)\]\n(?:pub\(crate\) )?mod \w+ \{.*?\n\}\n", "", text, flags=re.DOTALL)
    return re.sub(r"\\\n\s*", "", text).replace("{SONAME}", "libnvidia-ml.so.1")


def warnings(source):
    """The message of each warn! and error!: its longest string literal."""
    for match in re.finditer(r"\b(?:warn|error)!\(", source):
        depth, at = 1, match.end()
        while depth and at < len(source):
            depth += {"(": 1, ")": -1}.get(source[at], 0)
            at += 1
        literals = re.findall(r'"((?:[^"\\]|\\.)*)"', source[match.end() : at])
        message = max(literals, key=len, default="")
        # One that is nothing but values says what other literals say.
        if len(re.sub(r"\{[^}]*\}|[^a-z]", "", message)) > 10:
            yield message


def commands(texts, run):
    """The README states the commands that were run."""
    stated = [
        [line.split("  #")[0].strip() for line in block.splitlines()] for block in blocks(texts["README.md"], "sh")
    ]
    if run not in stated:
        yield "README.md: no block of commands is %s" % run


def recording(texts, printed):
    """Each step of the recording is one that the command prints, except for its time."""
    step = re.compile(r"^(ok +\d.*?)(?: +[\d.]+ m?s)?$", re.MULTILINE)
    now = step.findall(printed)
    recorded = [(name, step.findall(block)) for name, text in texts.items() for block in blocks(text, "console")]
    recorded = [(name, steps) for name, steps in recorded if steps]
    if not recorded:
        yield "no document has the recording of the demonstration"
    for name, steps in recorded:
        if steps != now:
            yield "%s: the recording has the steps %s, and the command prints %s" % (name, steps, now)


def help_entries(plugin):
    """Each flag that --help lists: its names, variables and file keys, and its default, if it has one."""
    text = subprocess.run([plugin, "--help"], check=True, capture_output=True, text=True).stdout
    for entry in re.split(r"\n(?= +(?:-\w, )?--)", text)[1:]:
        entry = " ".join(entry.split())
        names = re.findall(r"^(?:-\w, )?(--[a-z-]+)", entry)
        for listed in re.findall(r"\[(?:env|file|also): (.*?)\](?= |$)", entry):
            names += listed.split(", ")
        default = re.search(r"\[default: (.*?)\](?= |$)", entry)
        yield names, default.group(1) if default else None
    without_flag = text.partition("\nEnvironment and file only:\n")[2]
    for name in re.findall(r"^  (\S+)$", without_flag, re.MULTILINE):
        yield [name], None


def settings(texts, plugin):
    """The table of settings has the flags, variables and file keys of --help, and no other flag."""
    name = "docs/configuration.md"
    text = re.search(r"<!-- begin generated: settings -->\n(.*?)<!-- end generated: settings -->", texts[name], re.DOTALL).group(1)
    table = [row for row in rows(text) if "`" in "".join(row[:3])]
    stated = {word for row in table for cell in row[:3] for word in named(cell)}
    told = set()
    for names, default in help_entries(plugin):
        told.update(names)
        row = next((row for row in table if names[0] in named(row[0])), [])
        if default is not None and len(row) > 4 and "`%s`" % default not in row[3]:
            yield "%s: %s does not have the default %s" % (name, names[0], default)
    for word in sorted(told - stated - {"--help", "--version"}):
        yield "%s: %s is in --help and not in the table" % (name, word)
    # --help leaves out the keys that only the config file has.
    for word in sorted(word for word in stated - told if "." not in word):
        yield "%s: %s is in the table and not in --help" % (name, word)


def config_files(texts, plugin):
    """The config files in the documents have neither mistakes nor warnings."""
    found = [
        (name, block)
        for name, text in texts.items()
        for block in blocks(text, "yaml")
        if block.startswith("version: v1\n")
    ]
    if not found:
        yield "no document has a config file"
    for name, block in found:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(block)
            file.flush()
            check = subprocess.run([plugin, "config", "check", file.name], capture_output=True, text=True)
        answer = check.stdout + check.stderr
        if check.returncode or "warning" in answer:
            yield "%s: a config file is not right: %s" % (name, answer)


def texts_of_the_program(texts):
    """Each text of the program that the troubleshooting quotes is in its source, and no warning is left out."""
    name, text = section(texts, "What the plugin says")
    quotes = [code for row in rows(text) for code in quoted(row[0])]
    source = sources()
    said = source.replace('\\"', '"')
    for code in quotes:
        if code not in said:
            yield "%s: it quotes %r, which the program does not say" % (name, code)
    for message in sorted(set(warnings(source))):
        if not any(code in message for code in quotes):
            yield "%s: it does not have the message: %s" % (name, message)


def prose(text):
    """A document without its code blocks."""
    return FENCE.sub("", text)


def phrases(texts):
    """What else looks like a text of the program, three words or more between backticks, is one."""
    said = sources().replace('\\"', '"')
    own = {code for row in rows(section(texts, "What Kubernetes says")[1]) for code in quoted(row[0])}
    for name, text in texts.items():
        for code in quoted(prose(text)):
            words = code.split(" ")
            if len(words) < 3 or words[0] in PROGRAMS or not re.fullmatch(r"[A-Za-z][\w',: -]+", code):
                continue
            if code not in said and code not in own | OF_THE_KUBELET:
                yield "%s: it quotes %r, which the program does not say" % (name, code)


def flags(texts, plugin):
    """Each flag that the documents name is one of the plugin's, of a subcommand's, of the agent's or of `kubectl gpu`'s,
    which are built beside it, or known to be another's."""
    known = set().union(*OTHER_FLAGS.values())
    for command in ([], ["config", "check"], ["config", "show"], ["status"], ["doctor"], ["check"], ["clear"], ["cleanup"], ["xid"]):
        told = subprocess.run([plugin, *command, "--help"], check=True, capture_output=True, text=True)
        known.update(re.findall(r"(?<![\w-])--[a-z][a-z-]*", told.stdout))
    agent = Path(plugin).with_name("gpu-node-agent")
    for command in ([], ["labels"], ["cleanup"], ["config-manager"]):
        told = subprocess.run([agent, *command, "--help"], check=True, capture_output=True, text=True)
        known.update(re.findall(r"(?<![\w-])--[a-z][a-z-]*", told.stdout))
    told = subprocess.run([Path(plugin).with_name("kubectl-gpu"), "--help"], check=True, capture_output=True, text=True)
    known.update(re.findall(r"(?<![\w-])--[a-z][a-z-]*", told.stdout))
    for name, text in texts.items():
        for flag in (code for code in quoted(prose(text)) if code.startswith("--")):
            flag = re.split(r"[ =]", flag)[0]
            if flag not in known:
                yield "%s: %s is no flag that is known" % (name, flag)


def anchors(text):
    """The anchors of the headings of a document, as GitHub makes them."""
    seen = {}
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        yield "%s-%d" % (name, seen[name]) if name in seen else name
        seen[name] = seen.get(name, 0) + 1


def links():
    """Each relative link in the repository's documents leads to a file, and to a heading in it."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    for name in names:
        text = prose((ROOT / name).read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            path = (ROOT / name).parent / file if file else ROOT / name
            if not path.exists():
                yield "%s: there is no %s" % (name, target)
            elif anchor and anchor not in anchors(path.read_text()):
                yield "%s: there is no heading for %s" % (name, target)


def shell(texts):
    """The shell commands in the documents have no mistakes of syntax."""
    for name, text in texts.items():
        for block in blocks(text, "sh"):
            check = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
            if check.returncode:
                yield "%s: %s" % (name, check.stderr.strip())


def kubernetes_objects(texts):
    """The Kubernetes objects in the documents are of their schema."""
    for name, text in texts.items():
        for block in blocks(text, "yaml"):
            try:
                values = list(yaml.safe_load_all(block))
            except yaml.YAMLError as error:
                yield "%s: %s" % (name, error)
                continue
            for value in values:
                if not isinstance(value, dict) or not {"apiVersion", "kind"} <= value.keys():
                    continue
                try:
                    kubernetes_validate.validate(value, KUBERNETES, strict=True)
                except kubernetes_validate.ValidationError as error:
                    yield "%s: %s: %s" % (name, value["kind"], error)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", required=True)
    parser.add_argument("--recording", required=True, type=Path)
    parser.add_argument("commands", nargs="+")
    args = parser.parse_args()
    texts = documents()
    found = [
        *commands(texts, args.commands),
        *recording(texts, args.recording.read_text()),
        *settings(texts, args.plugin),
        *config_files(texts, args.plugin),
        *texts_of_the_program(texts),
        *phrases(texts),
        *flags(texts, args.plugin),
        *quantities.differences(texts, args.plugin),
        *links(),
        *shell(texts),
        *kubernetes_objects(texts),
    ]
    length = len(texts["README.md"].splitlines())
    if length > LONGEST_README:
        found.append("README.md: %d lines are more than %d" % (length, LONGEST_README))
    for difference in found:
        print(difference, file=sys.stderr)
    if found:
        sys.exit(1)
    print("The documents say what the program does, their links lead somewhere, and the README is short")


if __name__ == "__main__":
    main()
