#!/usr/bin/env python3
"""Checks docs/platforms: each page says whether it was tried, what to turn off, how to check, its sources and their date;
the index has a line for each; and the chart takes the values.

    python3 tests/docs/check_platforms.py
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "manifests"))

import helm_python as helm  # noqa: E402
import yaml  # noqa: E402

from check import blocks  # noqa: E402
from check_chart import CHART, render  # noqa: E402
from objects import mistakes  # noqa: E402

PLATFORMS = ROOT / "docs" / "platforms"
# What each page has; the last one is not supported, and has nothing to turn off.
PARTS = {
    "whether it was tried": r"[Nn]ot tried by us",
    "what to turn off": r"^\| Turn off \|",
    "which labels": r"^\| Labels \|",
    "where the libraries are": r"^\| (Driver|Libraries|Driver and libraries) \|",
    "the container runtime": r"^\| Container runtime \|",
    "how to check it": r"^Check it:$",
    "how it is recognised": r"recognised by|^\| Recognised by",
    "its sources and their date": r"^Sources, read on 20\d\d-\d\d-\d\d:",
}
UNSUPPORTED = {"wsl-tegra.md": {"what to turn off", "which labels", "the container runtime"}}
PLANTED = [
    ("eks.md", "Not tried by us", "Tried by us"),
    ("gke.md", "Sources, read on 2026-11-29:", "Sources:"),
    ("gke.md", "nvidiaDriverRoot: /home", "nvidiaDriverRot: /home"),
    ("openshift.md", "enabled: true", "enabled: maybe"),
    ("talos.md", "| Labels |", "| Label |"),
]


def page(name, text):
    for part, form in PARTS.items():
        if part not in UNSUPPORTED.get(name, ()) and not re.search(form, text, re.MULTILINE):
            yield "%s does not say %s" % (name, part)
    for block in blocks(text, "yaml"):
        values = yaml.safe_load(block)
        if "kind" in values:
            continue
        try:
            yield from ("%s: %s" % (name, what) for what in mistakes(render(CHART, values)[0]))
        except helm.HelmError as error:
            yield "%s: %s" % (name, error)


def main():
    texts = {path.name: path.read_text() for path in sorted(PLATFORMS.glob("*.md"))}
    index = texts.pop("README.md")
    found = [what for name, text in texts.items() for what in page(name, text)]
    found += ["README.md has %s %d times" % (name, index.count("(%s)" % name)) for name in texts if index.count("(%s)" % name) != 1]
    for name, right, mistake in PLANTED:
        assert right in texts[name], "%s does not have %r" % (name, right)
        if not list(page(name, texts[name].replace(right, mistake, 1))):
            found.append("%s with %r for %r passed" % (name, mistake, right))
    for what in found:
        print("platforms: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print("%d pages of platforms are whole, and the chart takes their values; %d with a mistake were refused" % (len(texts), len(PLANTED)))


if __name__ == "__main__":
    main()
