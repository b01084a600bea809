#!/usr/bin/env python3
"""Takes the documentation's picture of the plugin's page: a simulated node of eight GPUs, one of them broken.

    cargo xtask picture

The picture carries a digest of the page's outline: its style, its script, which elements it has, and its headings.
check_with_chromium.py compares, so that a page that has changed gets a new picture."""

import argparse
import hashlib
import struct
import zlib
from pathlib import Path

import simulated
from simulated import ROOT, until
from webdriver import Browser

PICTURE = ROOT / "docs" / "images" / "page.png"
BROKEN = 3
WIDTH = 1280
# To the end of the section of the GPUs.
HEIGHT = "return Math.ceil(document.querySelector('article.card').closest('section').getBoundingClientRect().bottom)"
BAD_CARDS = "return document.querySelectorAll('article.card.bad').length"
HELD = "return document.querySelector('main').innerText.includes('pod-0')"
# What the data of one moment do not change.
OUTLINE = """
const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent);
const kinds = [...document.querySelectorAll("main *")].map((element) => element.tagName + " " + element.className);
return [...new Set([...kinds, ...texts("h2, th, dt")])].sort().concat(texts("style, script"));
"""
PNG = b"\x89PNG\r\n\x1a\n"
KEYWORD = b"Outline\0"


def outline(browser):
    """The digest of the page that the browser shows."""
    return hashlib.sha256("\n".join(browser.script(OUTLINE)).encode()).hexdigest()


def break_one(node):
    node.command("allocate 2")
    node.command("xid %d 79" % BROKEN)


def chunks(png):
    """Kind and content of each part of a PNG file."""
    assert png.startswith(PNG), "it is no PNG file"
    at = len(PNG)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def pictured(path=PICTURE):
    """The digest that a picture carries."""
    texts = [content for kind, content in chunks(path.read_bytes()) if kind == b"tEXt"]
    return next((text[len(KEYWORD) :].decode() for text in texts if text.startswith(KEYWORD)), None)


def with_outline(png, digest):
    """The picture with the digest as a text after its first part, the header."""
    text = b"tEXt" + KEYWORD + digest.encode()
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    header = len(PNG) + 12 + 13
    return png[:header] + chunk + png[header:]


def take(browser, node, output):
    break_one(node)
    browser.open("http://%s/" % node.address)
    until("the page shows what happened", lambda: browser.script(BAD_CARDS) == 1 and browser.script(HELD))
    browser.devtools("Emulation.setScrollbarsHidden", hidden=True)
    size = {"width": WIDTH, "height": browser.script(HEIGHT), "deviceScaleFactor": 1, "mobile": False}
    browser.devtools("Emulation.setDeviceMetricsOverride", **size)
    browser.screenshot(output)
    output.write_bytes(with_outline(output.read_bytes(), outline(browser)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    simulated.add_arguments(parser)
    parser.add_argument("--output", type=Path, default=PICTURE)
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with Browser() as browser, simulated.Node(args) as node:
        take(browser, node, args.output)
        # As the plugin stops the page goes silent, and simnode waits until nothing holds the plugin.
        browser.open("about:blank")
    print("%s: %d bytes" % (args.output, args.output.stat().st_size))


if __name__ == "__main__":
    main()
