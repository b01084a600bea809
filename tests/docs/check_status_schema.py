#!/usr/bin/env python3
"""Compares the status in each state of a node with its published schema, docs/status.schema.json.

    python3 tests/docs/check_status_schema.py

The states are the texts that the tests of src/observe/tests/states.rs expect. Each has to be valid, to have no field that
the schema does not describe, and its fields in the order of the schema, which is that of reading."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "docs" / "status.schema.json"
STATES = ROOT / "src" / "observe" / "tests" / "states"


def resolved(schema, root):
    """A schema where another one is referred to."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema


def undescribed(value, schema, root, at="$"):
    """Fields that the schema lacks or has in another order, and those that it has, by their path."""
    schema = resolved(schema, root)
    if isinstance(value, list):
        for item in value:
            yield from undescribed(item, schema["items"], root, at + "[]")
    elif isinstance(value, dict):
        known = list(schema.get("properties", {}))
        yield from ("%s.%s is not described" % (at, name) for name in value if name not in known)
        there = [name for name in value if name in known]
        if there != [name for name in known if name in there]:
            yield "%s has its fields in another order: %s" % (at, ", ".join(there))
        for name in there:
            yield from undescribed(value[name], schema["properties"][name], root, at + "." + name)


def mistakes(status, schema):
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for error in validator.iter_errors(status):
        yield "%s: %s" % (error.json_path, error.message[:200])
    yield from undescribed(status, schema, schema)


def main():
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    files = sorted(STATES.glob("*.json"))
    assert files, "there are no states in %s" % STATES
    found = ["%s: %s" % (file.name, mistake) for file in files for mistake in mistakes(json.loads(file.read_text()), schema)]
    # It can tell: a status that lacks a field, and one with another, are refused.
    status = json.loads(files[0].read_text())
    assert any(mistakes({**status, "new": 1}, schema)) and any(mistakes({**status, "gpus": 5}, schema))
    assert not found, "\n".join(found)
    print("docs/status.schema.json describes the status in %d states" % len(files))


if __name__ == "__main__":
    main()
