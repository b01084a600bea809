#!/usr/bin/env python3
"""Builds the documents as a book with mdBook, and checks it: docs/SUMMARY.md lists each page once, every link of the book
leads to a page and a heading, and its search knows every page. Books with a mistake have to be refused.

    python3 tests/docs/build_book.py --mdbook mdbook
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BOOK = ROOT / "target" / "book"
# What mdBook makes beside the pages.
EXTRA = {"404.html", "print.html", "toc.html"}
# A file, what it says, and what the mistake makes of it.
PLANTED = [
    ("SUMMARY.md", "- [Xids](xids.md)\n", ""),
    ("SUMMARY.md", "- [Xids](xids.md)\n", "- [Xids](xids.md)\n- [Xids again](xids.md)\n"),
    ("SUMMARY.md", "(xids.md)", "(xid.md)"),
    ("README.md", "(allocation.md)", "(allocations.md)"),
    ("README.md", "(allocation.md)", "(allocation.md#no-such-heading)"),
    ("book.toml", "title =", "titel ="),
    ("book.toml", "boost-title", "boost-titles"),
]


def repository():
    """The address that Cargo.toml states."""
    return re.search(r'^repository = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)


def pages(docs):
    """The documents of the book, by path."""
    return sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md") if path.name != "SUMMARY.md")


def summary(docs):
    """Where the summary does not list each page once."""
    listed = re.findall(r"\]\(([^)]+)\)", (docs / "SUMMARY.md").read_text())
    for page in pages(docs):
        if listed.count(page) != 1:
            yield "SUMMARY.md lists %s %d times" % (page, listed.count(page))
    yield from ("SUMMARY.md lists %s, which is not there" % page for page in set(listed) - set(pages(docs)))


def outward(text, page, address):
    """A page whose links to files outside of the documents lead to the repository, and those to an index to its page."""

    def replaced(match):
        target = match.group(1)
        if re.match(r"[a-z]+:|#", target):
            return match.group(0)
        path = (DOCS / page).parent / target
        if path.resolve().is_relative_to(DOCS):
            # mdBook makes index.html of README.md, and not of links to it.
            return match.group(0).replace("README.md", "index.md")
        return "](%s/blob/main/%s)" % (address, path.resolve().relative_to(ROOT).as_posix())

    return re.sub(r"\]\(([^)\s]+)\)", replaced, text)


def build(mdbook, docs, directory):
    """The book's directory, and what mdBook says that is more than how it goes."""
    shutil.copytree(docs, directory / "src", ignore=shutil.ignore_patterns("book.toml"))
    shutil.copy(docs / "book.toml", directory / "book.toml")
    for page in pages(docs):
        path = directory / "src" / page
        path.write_text(outward(path.read_text(), page, repository()))
    built = subprocess.run([mdbook, "build", directory], capture_output=True, text=True)
    said = [line for line in (built.stdout + built.stderr).splitlines() if re.search(r"\b(WARN|ERROR)\b|^error", line)]
    if built.returncode and not said:
        said = [built.stderr.strip() or "mdBook failed"]
    return directory / "book", said


class Page(HTMLParser):
    """The links and the anchors of a page, its navigation aside."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.update(value for name, value in attributes.items() if name in ("id", "name") and value)
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])


def html_of(page):
    return re.sub(r"README\.md$", "index.md", page).removesuffix(".md") + ".html"


def links(book):
    """Links of the book that lead nowhere."""
    parsed = {path: Page(path.read_text()) for path in book.rglob("*.html") if path.name not in EXTRA}
    for path, page in parsed.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            name = path.relative_to(book)
            if not target.is_file():
                yield "%s: there is no %s" % (name, link)
            elif anchor and target in parsed and anchor not in parsed[target].anchors:
                yield "%s: there is no heading for %s" % (name, link)


def search(book, docs):
    """Pages that the search does not know."""
    index = next(book.glob("searchindex*.js"), None)
    if index is None:
        yield "there is no search"
        return
    known = index.read_text()
    for page in pages(docs):
        if '"%s#' % html_of(page) not in known:
            yield "the search does not know %s" % page


def contents(book, docs):
    """Pages that the table of contents does not list."""
    toc = "".join(path.read_text() for path in [*book.glob("toc*.js"), *book.glob("toc.html")])
    yield from ("the table of contents lacks %s" % page for page in pages(docs) if html_of(page) not in toc)


def wrong(mdbook, docs, directory):
    yield from summary(docs)
    book, said = build(mdbook, docs, directory)
    yield from said
    if not said:
        yield from links(book)
        yield from search(book, docs)
        yield from contents(book, docs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mdbook", default="mdbook")
    args = parser.parse_args()
    shutil.rmtree(BOOK, ignore_errors=True)
    BOOK.mkdir(parents=True)
    found = list(wrong(args.mdbook, DOCS, BOOK))
    for name, right, mistake in PLANTED:
        with tempfile.TemporaryDirectory() as scratch:
            docs = Path(scratch) / "docs"
            shutil.copytree(DOCS, docs)
            text = (docs / name).read_text()
            assert right in text, "%s does not have %r" % (name, right)
            (docs / name).write_text(text.replace(right, mistake, 1))
            (Path(scratch) / "book").mkdir()
            if not list(wrong(args.mdbook, docs, Path(scratch) / "book")):
                found.append("a book with %r for %r in %s passed" % (mistake, right, name))
    for what in found:
        print("book: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print("%d pages are a book in %s; %d with a mistake were refused" % (len(pages(DOCS)), BOOK.relative_to(ROOT) / "book", len(PLANTED)))


if __name__ == "__main__":
    main()
