#!/usr/bin/env python3
"""Opens the plugin's page in a real Chromium while things happen on a simulated node.

    python3 tests/observe/check_with_chromium.py [--screenshots DIRECTORY]

It needs chromium and chromedriver (Debian's packages chromium and chromium-driver), and axe-core, which the Python package
axe-playwright-python has as a file. What is checked: what the page shows before and after an Xid and an allocation, without
a reload; that what is wrong is seen at once on a telephone; that focus and selection survive ten updates, that these can be
paused, and that it says when the plugin does not answer any more; that axe finds nothing; that the page logs no error, asks
nobody but the plugin, is narrow enough for a telephone, and has a dark form."""

import argparse
import importlib.util
import json
import os
import signal
import time
from pathlib import Path

import picture
import simulated
from simulated import ROOT, until
from webdriver import Browser

FAILED = 3
CARD = "return document.getElementById('gpu-' + arguments[0]).innerText"
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"
TOO_WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
AS_OF = "return document.querySelector('#as-of time').dateTime"
PAUSE = "document.getElementById('pause').click()"
# What the page does when its tab comes to the front: it asks at once.
ASK = "document.dispatchEvent(new Event('visibilitychange'))"
# The failed card moves to the top of the page meanwhile.
MARK = """
const link = document.querySelector(arguments[0]);
link.focus();
link.marked = true;
const [first, last] = ["gpu-0", "gpu-1"].map((id) => document.querySelector("#" + id + " dd").firstChild);
document.getSelection().setBaseAndExtent(first, 2, last, 5);
window.ends = [first, last];
return String(document.getSelection());
"""
MARKED = """
const { anchorNode, anchorOffset, focusNode, focusOffset } = document.getSelection();
const kept = anchorNode === window.ends[0] && anchorOffset === 2 && focusNode === window.ends[1] && focusOffset === 5;
return [document.activeElement.marked === true, kept];
"""
FIRST_PROBLEM = """
const box = document.querySelector(".problems article").getBoundingClientRect();
return [box.top, box.bottom, document.querySelector(".problems article").innerText];
"""
AXE = """
return axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
  .then((found) => found.violations.map((rule) => rule.id + ": " + rule.help + ": " + rule.nodes.map((node) => node.html).join(" ")));
"""


def count(browser, selector):
    return browser.script("return document.querySelectorAll(arguments[0]).length", selector)


def text(browser):
    return browser.script("return document.querySelector('main').innerText")


def check_quiet(browser, address):
    """Nothing on the console, and no request to elsewhere."""
    logged = browser.logged()
    assert not logged, "the console has: %s" % logged
    asked = browser.asked_for()
    assert asked, "the page asks for itself at least"
    # Chromium's own first page and pictures in the text are no requests.
    elsewhere = [url for url in asked if not url.startswith(("http://%s/" % address, "chrome://", "data:"))]
    assert not elsewhere, "the page asks for %s" % elsewhere


def brightness(color):
    return sum(float(part) for part in color.partition("(")[2].rstrip(")").split(",")[:3])


def check_forms(browser, shot):
    """Light and dark, wide and narrow."""
    light = brightness(browser.script(BACKGROUND))
    browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert brightness(browser.script(BACKGROUND)) < light, "it has no dark form"
    check_accessible(browser)
    shot("dark")
    browser.devtools("Emulation.setEmulatedMedia", features=[])
    for width, height in (320, 640), (390, 844):
        phone(browser, width, height)
        assert browser.script(TOO_WIDE) <= 0, "it is too wide for a telephone of %d pixels" % width
        check_accessible(browser)
        shot("narrow-%d" % width)
    browser.script("scrollTo(0, 0)")
    top, bottom, words = browser.script(FIRST_PROBLEM)
    assert 0 <= top < bottom <= 844, "the fault is not on the first screen: from %d to %d" % (top, bottom)
    assert "GPU %d Xid 79" % FAILED in words and "What to do" in words, words
    browser.devtools("Emulation.clearDeviceMetricsOverride")


def phone(browser, width, height):
    browser.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=True)


def check_accessible(browser):
    """axe-core finds nothing."""
    found = browser.script(axe() + AXE)
    assert not found, "axe finds:\n" + "\n".join(found)


def axe():
    """axe-core, which the driver runs where the page's policy lets nothing run."""
    package = importlib.util.find_spec("axe_playwright_python")
    assert package, "axe-core is missing: pip install --no-deps axe-playwright-python"
    return (Path(package.submodule_search_locations[0]) / "axe.min.js").read_text() + ";"


def refreshed(browser):
    """The page has asked again, and shows the answer."""
    before = browser.script(AS_OF)

    def look():
        browser.script(ASK)
        return browser.script(AS_OF) != before

    until("the page is up to date", look)


def check_kept(browser, node):
    """Focus and selection survive ten updates, in which GPUs fail, recover and change their places."""
    refreshed(browser)
    selected = browser.script(MARK, "footer a")
    assert len(selected) > 20, "nothing is selected: %r" % selected
    for number in range(10):
        broken = 1 <= number < 9
        if number == 1:
            node.command("xid 5 48")
            node.until_healthy(5, False)
        elif number == 9:
            node.command("restore 5")
            node.until_healthy(5, True)
        elif number % 3 == 0:
            node.command("allocate 1")
        refreshed(browser)
        assert count(browser, "#attention #gpu-5") == broken, "the card of a GPU that fails is among the first"
        kept = browser.script(MARKED)
        assert kept == [True, True], "update %d: focus kept: %s, selection kept: %s" % (number, *kept)
    browser.script("document.getSelection().removeAllRanges()")


def check_paused(browser):
    """While it is paused it asks for nothing."""
    browser.script(PAUSE)
    until("an answer that was under way has come", lambda: not quiet_requests(browser))
    before = browser.script(AS_OF)
    browser.script(ASK)
    assert not browser.asked_for() and browser.script(AS_OF) == before, "it goes on while it is paused"
    assert "Resume" in browser.script("return document.getElementById('pause').innerText")
    browser.script(PAUSE)
    until("it goes on", lambda: browser.script(AS_OF) != before)


def quiet_requests(browser):
    """What it has asked for within two seconds; an answer takes less."""
    browser.asked_for()
    time.sleep(2)
    return browser.asked_for()


def check_hanging(browser, node):
    """A plugin that accepts and says nothing is not shown as one that is well, and not asked again and again."""
    pid = node.plugin()
    browser.asked_for()
    os.kill(pid, signal.SIGSTOP)
    try:
        until("it says that the plugin does not answer", lambda: count(browser, "body.silent") == 1)
        said = browser.script("return document.getElementById('stale').innerText")
        assert "does not answer" in said and "UTC" in said, said
        assert len(browser.asked_for()) <= 3, "requests pile up"
    finally:
        os.kill(pid, signal.SIGCONT)
    until("it shows what the plugin says again", lambda: count(browser, "body.silent") == 0)


def check_schema(node):
    """The plugin's own answer is as the published schema says."""
    from jsonschema import Draft202012Validator

    schema = json.loads((ROOT / "docs" / "status.schema.json").read_text())
    found = [error.json_path + ": " + error.message for error in Draft202012Validator(schema).iter_errors(node.status())]
    assert not found, "\n".join(found)


def check(browser, node, shot):
    browser.open("http://%s/" % node.address)
    # All of it is in the first answer; nothing is filled in later.
    assert browser.title().startswith("8/8 "), browser.title()
    assert count(browser, "article.card") == 8 and count(browser, "article.card.bad") == 0
    assert all("Healthy" in browser.script(CARD, index) for index in range(8))
    assert "nvidia.com/gpu" in text(browser) and "H100" in browser.script(CARD, 0)
    assert "8 of 8 GPUs healthy" in text(browser) and count(browser, ".problems") == 0
    assert text(browser).count(" found: ") == 1, "eight GPUs that were found are one event"
    check_accessible(browser)
    assert not browser.script("return [...document.scripts].some((script) => script.src)")
    shot("healthy")
    check_quiet(browser, node.address)

    browser.script("window.same = true")
    node.command("allocate 2")
    until("the page shows who holds what", lambda: "pod-0" in text(browser))
    node.command("xid %d 79" % FAILED)
    until("the page shows the failed GPU", lambda: count(browser, "article.card.bad") == 1)
    card = browser.script(CARD, FAILED)
    assert "Unhealthy" in card and "Xid 79" in card, card
    assert browser.title().startswith("7/8 "), browser.title()
    assert browser.script("return window.same"), "it refreshes itself without a reload"
    shot("failed")
    assert picture.pictured() == picture.outline(browser), "the page has changed: run cargo xtask picture"
    # The plugin finds the GPU again after a while: what is looked at stays as it is.
    browser.script(PAUSE)
    check_forms(browser, shot)
    browser.script(PAUSE)
    check_kept(browser, node)
    check_paused(browser)
    check_schema(node)
    node.command("restore %d" % FAILED)
    check_quiet(browser, node.address)
    check_hanging(browser, node)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    simulated.add_arguments(parser)
    parser.add_argument("--screenshots", type=Path, help="a directory to leave pictures in")
    args = parser.parse_args()

    def shot(name):
        if args.screenshots:
            args.screenshots.mkdir(parents=True, exist_ok=True)
            browser.screenshot(args.screenshots / ("%s.png" % name))

    with Browser() as browser:
        with simulated.Node(args) as node:
            check(browser, node, shot)
        until("it says that the plugin is gone", lambda: count(browser, "body.silent") == 1)
        shot("gone")
    print("Chromium %s shows the page as it is to be, and axe finds nothing in it" % browser.version)


if __name__ == "__main__":
    main()
