#!/usr/bin/env python3
"""Evaluates the chart's ValidatingAdmissionPolicy with Google's CEL over what a node agent sends, and what somebody
could who has its token. Without any one of its rules, something passes that must not.

What it is not: the API server has types for its objects, and limits for the cost of expressions.
"""

import copy
import sys

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional

import check_chart

NODE = {
    "metadata": {"name": "node-a", "annotations": {"of": "another"}, "labels": {"kubernetes.io/hostname": "node-a", "nvidia.com/gpu.count": "8"}},
    "spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "x", "taints": [{"key": "other", "effect": "NoSchedule"}]},
    "status": {
        "capacity": {"nvidia.com/gpu": "8"},
        "allocatable": {"nvidia.com/gpu": "8"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
AGENT = {
    "username": "system:serviceaccount:gpus:gdp-gpu-device-plugin",
    "extra": {"authentication.kubernetes.io/node-name": ["node-a"]},
}
TAINT = {"key": "nvidia.com/gpu-unhealthy", "effect": "NoSchedule"}


def changed(change, node=NODE):
    """A Node that was changed."""
    node = copy.deepcopy(node)
    change(node)
    return node


def request(resource, name, before, after, operation="UPDATE", user=AGENT):
    resource, _, subresource = resource.partition("/")
    asked = {"userInfo": user, "operation": operation, "name": name, "resource": {"resource": resource}, "subResource": subresource}
    return {"request": asked, "object": after, "oldObject": before}


def update(change, resource="nodes", name="node-a", before=NODE, user=AGENT):
    return request(resource, name, before, changed(change, before), user=user)


def event(kind, name, user=AGENT):
    return request("events", "", None, {"regarding": {"kind": kind, "name": name}}, "CREATE", user)


def label(name, value):
    return lambda node: node["metadata"]["labels"].update({name: value})


def annotation(name, value):
    return lambda node: node["metadata"].setdefault("annotations", {}).update({name: value})


def condition(kind, status):
    return lambda node: node["status"].update(conditions=[*node["status"]["conditions"], {"type": kind, "status": status}])


def nothing(node):
    pass


ALLOWED = {
    "labels": update(label("nvidia.com/gpu.product", "H200")),
    "a label taken back": update(lambda node: node["metadata"]["labels"].pop("nvidia.com/gpu.count")),
    "its summary": update(annotation("nvidia.com/gpu.summary", "{}")),
    "its summary taken back": update(
        lambda node: node["metadata"].pop("annotations"),
        before=changed(lambda node: node["metadata"].update(annotations={"nvidia.com/gpu.summary": "{}"})),
    ),
    "its taint": update(lambda node: node["spec"]["taints"].append(TAINT)),
    "its first taint": update(lambda node: node["spec"].update(taints=[TAINT]), before=changed(lambda node: node["spec"].pop("taints"))),
    "its condition": update(condition("GPUUnhealthy", "True"), "nodes/status"),
    "an Event about the Node": event("Node", "node-a"),
    "an Event about a pod": event("Pod", "train-0"),
    "its NodeFeature": request("nodefeatures", "", None, {"metadata": {"name": "nvidia-gpu-features-for-node-a"}}, "CREATE"),
    "another's request": update(label("a", "b"), name="node-b", user={"username": "admin"}),
}
DENIED = {
    "another Node": update(label("nvidia.com/gpu.product", "H200"), name="node-b"),
    "a new Node": request("nodes", "node-a", None, NODE, "CREATE"),
    "a Node that goes": request("nodes", "node-a", NODE, None, "DELETE"),
    "Events that go": request("events", "x", {"regarding": {"kind": "Node", "name": "node-a"}}, None, "DELETE"),
    "a token of no node": update(nothing, user={**AGENT, "extra": {}}),
    "an Event by a token of no node": event("Pod", "train-0", {**AGENT, "extra": {}}),
    "no claims at all": update(nothing, user={"username": AGENT["username"]}),
    "another's label": update(label("kubernetes.io/hostname", "node-b")),
    "a role": update(label("node-role.kubernetes.io/control-plane", "")),
    "another's label taken away": update(lambda node: node["metadata"]["labels"].pop("kubernetes.io/hostname")),
    "all labels taken away": update(lambda node: node["metadata"].pop("labels")),
    "another's annotation": update(annotation("of", "it")),
    "a new annotation": update(annotation("new", "it")),
    "another's annotation taken away": update(lambda node: node["metadata"].pop("annotations")),
    "an owner, with whose end the Node would go": update(lambda node: node["metadata"].update(ownerReferences=[{"kind": "Pod", "name": "x"}])),
    "a finalizer": update(lambda node: node["metadata"].update(finalizers=["a/b"])),
    "another's taint": update(lambda node: node["spec"].update(taints=[])),
    "a taint of another key": update(lambda node: node["spec"]["taints"].append({"key": "a", "effect": "NoExecute"})),
    "a cordon": update(lambda node: node["spec"].update(unschedulable=True)),
    "another provider": update(lambda node: node["spec"].update(providerID="y")),
    "a condition of another": update(condition("Ready", "False"), "nodes/status"),
    "a condition of another taken away": update(lambda node: node["status"].update(conditions=[]), "nodes/status"),
    "another's condition changed": update(lambda node: node["status"]["conditions"][0].update(status="False"), "nodes/status"),
    "a new condition": update(condition("Other", "True"), "nodes/status"),
    "capacity": update(lambda node: node["status"]["capacity"].update({"nvidia.com/gpu": "9"}), "nodes/status"),
    "allocatable": update(lambda node: node["status"]["allocatable"].update({"nvidia.com/gpu": "0"}), "nodes/status"),
    "an Event about another Node": event("Node", "node-b"),
    "an Event about something else": event("Namespace", "node-a"),
    "an Event about nothing": request("events", "", None, {}, "CREATE"),
    "another's NodeFeature": request("nodefeatures", "", None, {"metadata": {"name": "nvidia-gpu-features-for-node-b"}}, "CREATE"),
    "that of GPU feature discovery": request("nodefeatures", "", None, {"metadata": {"name": "nvidia-features-for-node-a"}}, "CREATE"),
}


def policy(agent):
    objects, _ = check_chart.render(check_chart.CHART, {"nodeAgent": agent})
    return next(value["spec"] for value in objects if value["kind"] == "ValidatingAdmissionPolicy")


def evaluate(expression, given):
    names = {name: cel.Type.DYN for name in ("request", "object", "oldObject", "variables")}
    environment = cel.NewEnv(variables=names, extensions=[ext_optional.ExtOptional()])
    value = environment.compile(expression).eval(data=given)
    if value.type() == cel.Type.ERROR:
        raise ValueError(value.value())
    return value.plain_value()


def is_allowed(spec, asked, on_failure=False):
    """As an API server judges: a rule that cannot be evaluated refuses."""
    given = {**asked, "variables": {}}

    def holds(rule):
        try:
            return evaluate(rule["expression"], given) is True
        except (RuntimeError, ValueError):
            return on_failure

    if not all(holds(each) for each in spec["matchConditions"]):
        return True
    for variable in spec["variables"]:
        try:
            given["variables"][variable["name"]] = evaluate(variable["expression"], given)
        except (RuntimeError, ValueError):
            return False
    return all(holds(each) for each in spec["validations"])


def main():
    functions = {"labels": "nodefeature", "nodeCondition": True, "taint": True, "summary": True, "events": True, "podEvents": True}
    spec = policy(functions)
    found = ["it refuses %s" % name for name, asked in ALLOWED.items() if not is_allowed(spec, asked)]
    found += ["it allows %s" % name for name, asked in DENIED.items() if is_allowed(spec, asked)]
    for rule in spec["validations"]:
        without = {**spec, "validations": [each for each in spec["validations"] if each != rule]}
        # Where another one only fails, it is this rule that says no.
        if not any(is_allowed(without, asked, on_failure=True) for asked in DENIED.values()):
            found.append("nothing that is refused shows the rule: %s" % rule["message"])
    plain = policy({"events": True})
    found += ["without the function it allows %s" % name for name in ("an Event about a pod", "its taint", "its condition") if is_allowed(plain, ALLOWED[name])]
    for what in found:
        print("policy: %s" % what, file=sys.stderr)
    if found:
        sys.exit(1)
    print("the policy allows %d requests and refuses %d, %d of them for one rule each" % (len(ALLOWED), len(DENIED), len(spec["validations"])))


if __name__ == "__main__":
    main()
