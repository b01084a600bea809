#!/usr/bin/env python3
"""Opens the plugin's page in a real Chromium while things happen on a simulated node.

    python3 tests/observe/check_with_chromium.py [--screenshots DIRECTORY]

It needs chromium and chromedriver (Debian's packages chromium and chromium-driver). What is checked: what the page shows
before and after an Xid and an allocation, without a reload; that it logs no error, asks nobody but the plugin, is wide
enough for a telephone, has a dark form, and says when the plugin does not answer any more."""

import argparse
from pathlib import Path

import picture
import simulated
from simulated import until
from webdriver import Browser

FAILED = 3
CARD = "return document.getElementById('gpu-' + arguments[0]).innerText"
BACKGROUND = "return getComputedStyle(document.body).backgroundColor"
TOO_WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


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
    shot("dark")
    browser.devtools("Emulation.setEmulatedMedia", features=[])
    browser.devtools("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    assert browser.script(TOO_WIDE) <= 0, "it is too wide for a telephone"
    shot("narrow")
    browser.devtools("Emulation.clearDeviceMetricsOverride")


def check(browser, node, shot):
    browser.open("http://%s/" % node.address)
    # All of it is in the first answer; nothing is filled in later.
    assert browser.title().startswith("8/8 "), browser.title()
    assert count(browser, "article.card") == 8 and count(browser, "article.card.bad") == 0
    assert all("Healthy" in browser.script(CARD, index) for index in range(8))
    assert "nvidia.com/gpu" in text(browser) and "H100" in browser.script(CARD, 0)
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
    check_forms(browser, shot)
    node.command("restore %d" % FAILED)
    check_quiet(browser, node.address)


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
    print("Chromium %s shows the page as it is to be: before and after an Xid, light and dark" % browser.version)


if __name__ == "__main__":
    main()
