"""Requests for GPUs as Kubernetes admits them: whole numbers, request and limit the same, within quota and limits."""

import re

from published import quantity

NATIVE = re.compile(r"^(cpu|memory|ephemeral-storage|pods|hugepages-.*)$|^[^/]*kubernetes\.io/")


def pod_of(value):
    """The pod that an object makes, and how many of them at a time; None, if it makes none."""
    spec = value.get("spec", {})
    if value["kind"] == "Pod":
        return spec, 1
    if value["kind"] == "Job":
        return spec["template"]["spec"], spec.get("parallelism", 1)
    if value["kind"] == "Deployment":
        return spec["template"]["spec"], spec.get("replicas", 1)
    if value.get("apiVersion") == "serving.knative.dev/v1":
        most = spec["template"]["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"]
        return spec["template"]["spec"], int(most)
    return None


def is_extended(name):
    """Whether a resource is one of a device plugin (IsExtendedResourceName, pkg/apis/core/v1/helper/helpers.go)."""
    return "/" in name and not NATIVE.match(name)


def extended(container):
    """The extended resources of a container: name and number."""
    resources = container.get("resources", {})
    # The API server makes a request of a limit that has none.
    wanted = {**resources.get("limits", {}), **resources.get("requests", {})}
    return {name: quantity(value) for name, value in wanted.items() if is_extended(name)}


def operators(pod):
    """Operators that are none: the schemas take any text (pkg/apis/core/validation/validation.go)."""
    affinity = pod.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in affinity.get("nodeSelectorTerms", []):
        for expression in term["matchExpressions"]:
            if expression["operator"] not in ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"):
                yield "a node is not selected by the operator %s" % expression["operator"]
    for toleration in pod.get("tolerations", []):
        if toleration.get("operator", "Equal") not in ("Equal", "Exists", "Lt", "Gt"):
            yield "nothing is tolerated by the operator %s" % toleration["operator"]


def mistakes(pod):
    """What validation refuses (ValidateContainerResourceRequirements, pkg/apis/core/validation/validation.go)."""
    yield from operators(pod)
    for container in pod["containers"]:
        resources = container.get("resources", {})
        limits, requests = resources.get("limits", {}), resources.get("requests", {})
        for name, number in extended(container).items():
            if number is None or number != int(number) or str(limits.get(name, "")).endswith("m"):
                yield "%s: %s is no whole number: %s" % (container["name"], name, limits.get(name))
            if name not in limits:
                yield "%s: %s has a request and no limit" % (container["name"], name)
            elif name in requests and quantity(requests[name]) != quantity(limits[name]):
                yield "%s: request and limit of %s differ" % (container["name"], name)


def total(pod):
    """What a pod counts in a quota: the sum over its containers."""
    sums = {}
    for container in pod["containers"]:
        for name, number in extended(container).items():
            sums[name] = sums.get(name, 0) + number
    return sums


def quota_mistakes(quota):
    """What a quota cannot state of an extended resource (pkg/apis/core/validation, ValidateResourceQuotaSpec)."""
    for name, value in quota["spec"]["hard"].items():
        prefix, _, resource = name.partition(".")
        if prefix == "limits" and is_extended(resource):
            yield "%s: of an extended resource a quota has requests alone" % name
        if is_extended(resource) and quantity(value) != int(quantity(value) or 0):
            yield "%s: no whole number: %s" % (name, value)


def refused_by_quota(quota, used, pod):
    """Why a quota refuses a pod beside what is used already."""
    for name, number in total(pod).items():
        hard = quota["spec"]["hard"].get("requests." + name)
        if hard is not None and used.get(name, 0) + number > quantity(hard):
            yield "%s: %d used, %d more, %s at most" % (name, used.get(name, 0), number, hard)


def refused_by_limits(limits, pod):
    """Why a LimitRange refuses a pod."""
    for limit in limits["spec"]["limits"]:
        parts = [total(pod)] if limit["type"] == "Pod" else [extended(container) for container in pod["containers"]]
        for name, most in limit.get("max", {}).items():
            for part in parts:
                if part.get(name, 0) > quantity(most):
                    yield "%s of a %s: %d of at most %s" % (name, limit["type"], part[name], most)


def container_of(number, resource="nvidia.com/gpu"):
    return {"name": "main", "resources": {"limits": {resource: number}}}


def arithmetic(quota, limits):
    """Counts through what a team can start under the example's quota and limits, and says where that is not so."""
    one, two, three = ({"containers": [container_of(number)]} for number in (1, 2, 3))
    both = {"containers": [container_of(2), container_of(2)]}
    more = {"containers": [container_of(2), container_of(2), container_of(1)]}
    cases = [
        # Pods that run, one more, whether the quota and whether the limits refuse it.
        ([], one, False, False),
        ([one] * 3, one, False, False),
        ([one] * 4, one, True, False),
        ([two, two], one, True, False),
        ([one] * 3, two, True, False),
        ([], three, False, True),
        ([], both, False, False),
        ([], more, True, True),
        # What is not counted is not bounded, and needs a line of its own.
        ([one] * 4, {"containers": [container_of(1, "nvidia.com/gpu.shared")]}, False, False),
        ([one] * 4, {"containers": [container_of(1, "nvidia.com/mig-2g.20gb")]}, False, False),
    ]
    for running, pod, by_quota, by_limits in cases:
        used = {}
        for other in running:
            for name, number in total(other).items():
                used[name] = used.get(name, 0) + number
        for what, expected, found in (
            ("quota", by_quota, list(refused_by_quota(quota, used, pod))),
            ("limits", by_limits, list(refused_by_limits(limits, pod))),
        ):
            if bool(found) != expected:
                yield "%s: beside %s the pod %s: %s" % (what, used, total(pod), found or "admitted")
