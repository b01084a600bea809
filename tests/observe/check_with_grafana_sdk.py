#!/usr/bin/env python3
"""Grafana's own types read the dashboard: a field that they do not know, or of another type, is a mistake in it.

    pip install grafana-foundation-sdk
    python3 tests/observe/check_with_grafana_sdk.py

The types take what they know and leave the rest, so the dashboard is read, written again, and compared.
"""

import copy
import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

import manifests

# The Prometheus data source's own, which the types of a dashboard do not have.
KNOWN_BESIDE = {"annotations.list.titleFormat", "annotations.list.textFormat"}


def lost(before, after, place=""):
    """What of a value is not there any more."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            inner = "%s.%s" % (place, name) if place else name
            if name in after:
                yield from lost(value, after[name], inner)
            elif inner not in KNOWN_BESIDE:
                yield inner
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after):
            yield from lost(one, other, place)
    elif before != after:
        yield place


def unknown(dashboard):
    written = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    return sorted(set(lost(dashboard, written)))


def main():
    register_default_plugins()
    dashboard = json.loads((manifests.MONITORING / "dashboard.json").read_text())
    for place in unknown(dashboard):
        print("dashboard.json: Grafana does not know " + place, file=sys.stderr)
    if unknown(dashboard):
        sys.exit(1)
    panels = {panel["type"]: panel for panel in manifests.panels(dashboard)}
    for kind, path in (
        ("stat", ("options", "colourMode")),
        ("timeseries", ("fieldConfig", "defaults", "custom", "lineWeight")),
        ("state-timeline", ("options", "rowHigh")),
        ("table", ("options", "showHeading")),
    ):
        broken = copy.deepcopy(panels[kind])
        inner = broken
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = 1
        assert unknown({**dashboard, "panels": [broken]}), "a panel with %s passed" % ".".join(path)
    print("Grafana knows every field of the dashboard, and not those of four broken panels")


if __name__ == "__main__":
    main()
