#!/usr/bin/env python3
"""Holds README.md against the program: its commands, its recording, its flags, its config
file, and every text that it quotes.

    python3 tests/docs/check.py --plugin target/debug/gpu-device-plugin --recording FILE COMMAND...

FILE is what the first command has printed; each COMMAND must stand in the README as it was run.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def section(readme, title):
    """The text under a heading, to the next one of its level or above."""
    level = title.split()[0]
    start = readme.index("\n%s\n" % title)
    end = re.search(r"\n#{1,%d} " % len(level), readme[start + len(title) + 2 :])
    return readme[start : start + len(title) + 2 + end.start()] if end else readme[start:]


def first_cells(text):
    """The first cell of each row of a table, without its heading."""
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    return [cell for cell in rows if cell not in ("Error", "Warning", "Text", "Flag")]


def quoted(text):
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def named(cell):
    """The names in a cell, without the values that they take."""
    return [re.split(r"[ =]", word)[0] for word in quoted(cell)]


def sources():
    """The product's source, string literals that go over several lines made one."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.rs")))
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


def commands(readme, run):
    block = re.search(r"```sh\n(.*?)```", readme, re.DOTALL).group(1)
    stated = [line.split("  #")[0].strip() for line in block.splitlines()]
    if stated != run:
        yield "the README states the commands %s, and %s were run" % (stated, run)


def recording(readme, printed):
    """Each step of the recording is one that the command prints, but for its time."""
    block = re.search(r"```console\n(.*?)```", readme, re.DOTALL).group(1)
    step = re.compile(r"^(ok +\d.*?)(?: +[\d.]+ m?s)?$", re.MULTILINE)
    recorded, now = step.findall(block), step.findall(printed)
    if recorded != now:
        yield "the recording has the steps %s, and the command prints %s" % (recorded, now)


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


def flags(readme, plugin):
    """The tables of flags, variables and file keys have what --help has, and nothing else."""
    tables = section(readme, "## Configuration")
    rows = [line.split("|") for line in tables.splitlines() if line.startswith("| ") and "`" in line]
    stated = {name for row in rows for cell in row[1:4] for name in named(cell)}
    told = set()
    for names, default in help_entries(plugin):
        told.update(names)
        row = next((row for row in rows if names[0] in named(row[1])), [])
        if default is not None and len(row) > 5 and "`%s`" % default not in row[4]:
            yield "the README does not give %s the default %s" % (names[0], default)
    for name in sorted(told - stated):
        yield "%s is in --help and not in the README's tables" % name
    for name in sorted(stated - told):
        yield "%s is in the README's tables and not in --help" % name


def config_file(readme, plugin):
    """The config file of the README has neither mistakes nor warnings."""
    example = re.search(r"```yaml\n(version: v1\n.*?)```", readme, re.DOTALL).group(1)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(example)
        file.flush()
        check = subprocess.run([plugin, "config", "check", file.name], capture_output=True, text=True)
    answer = check.stdout + check.stderr
    if check.returncode or "warning" in answer:
        yield "its config file is not right: " + answer


def texts(readme):
    """Each text of the program that the troubleshooting quotes is in its source, and no warning is left out."""
    cells = first_cells(section(readme, "### What the plugin says"))
    source = sources()
    said = source.replace('\\"', '"')
    quotes = [text for cell in cells for text in quoted(cell)]
    for text in quotes:
        if text not in said:
            yield "the README quotes %r, which the program does not say" % text
    for message in sorted(set(warnings(source))):
        if not any(text in message for text in quotes):
            yield "the README's troubleshooting does not have: %s" % message


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", required=True)
    parser.add_argument("--recording", required=True, type=Path)
    parser.add_argument("commands", nargs="+")
    args = parser.parse_args()
    readme = (ROOT / "README.md").read_text()
    found = [
        *commands(readme, args.commands),
        *recording(readme, args.recording.read_text()),
        *flags(readme, args.plugin),
        *config_file(readme, args.plugin),
        *texts(readme),
    ]
    for difference in found:
        print("README.md: " + difference, file=sys.stderr)
    if found:
        sys.exit(1)
    print("README.md says what the program does: commands, recording, flags, file and texts")


if __name__ == "__main__":
    main()
