"""What is wrong with Kubernetes objects: against the schemas of Kubernetes, and what no schema knows."""

import functools
import json
import sys
from pathlib import Path

import kubernetes_validate
import kubernetes_validate.utils
import yaml

sys.path.append(str(Path(__file__).resolve().parents[1] / "observe"))
from manifests import KINDS, METADATA, mismatches  # noqa: E402

# The oldest kubelet that the plugin works with, and newer ones.
VERSIONS = ["1.26", "1.30", "1.33", "1.36", "1.37"]
# What is left out for older ones.
SINCE = {"ValidatingAdmissionPolicy": "1.30", "ValidatingAdmissionPolicyBinding": "1.30"}
# It reads the schemas, which are large, again for each object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)
# They have no schema there.
CUSTOM = {"PodMonitor", "PrometheusRule"}
SCC = "SecurityContextConstraints"
STRATEGY = {"type!": str}
# The fields that OpenShift's API reference has (security.openshift.io/v1), as far as they are used.
SCC_FORM = {
    "apiVersion!": str,
    "kind!": str,
    "metadata!": {"name!": str, "labels!": dict},
    **{name + "!": bool for name in ("allowPrivilegedContainer", "allowPrivilegeEscalation", "readOnlyRootFilesystem")},
    **{"allowHost%s!" % name: bool for name in ("DirVolumePlugin", "IPC", "PID", "Network", "Ports")},
    **{name + "!": list for name in ("allowedCapabilities", "defaultAddCapabilities", "requiredDropCapabilities")},
    **{name + "!": list for name in ("seccompProfiles", "volumes", "users", "groups")},
    **{name + "!": STRATEGY for name in ("runAsUser", "seLinuxContext", "fsGroup", "supplementalGroups")},
}


def mistakes(objects):
    for value in objects:
        name = "%s %s" % (value.get("kind"), value.get("metadata", {}).get("name"))
        if value.get("kind") == SCC:
            yield from (name + ": " + what for what in constraints(value, objects))
        elif value.get("kind") in CUSTOM:
            yield from (name + ": " + what for what in custom(value))
        else:
            yield from (name + ": " + what for what in against_schemas(value))
        if value.get("kind") == "DaemonSet":
            yield from (name + ": " + what for what in of_token(value["spec"]["template"]["spec"]))
            yield from (name + ": " + what for what in of_pods(value["spec"]))
    names = [(value["kind"], value["metadata"].get("namespace"), value["metadata"]["name"]) for value in objects]
    if len(set(names)) != len(names):
        yield "an object is there twice: %s" % names
    ports = [port["name"] for port in all_ports(objects)]
    for value in objects:
        if value["kind"] == "PodMonitor" and value["spec"]["podMetricsEndpoints"][0]["port"] not in ports:
            yield "the PodMonitor names a port that no pod has"


def all_ports(objects):
    for value in objects:
        if value["kind"] == "DaemonSet":
            for container in value["spec"]["template"]["spec"]["containers"]:
                yield from container.get("ports", [])


def custom(value):
    form = {"apiVersion!": str, "kind!": str, "metadata!": METADATA, "spec!": KINDS[value["kind"]]}
    yield from mismatches(value, form, value["kind"])


def constraints(scc, objects):
    """What is wrong with SecurityContextConstraints, also where they do not admit the pods that they are made for."""
    wrong = list(mismatches(scc, SCC_FORM, SCC))
    yield from wrong
    if wrong:
        return
    if scc["apiVersion"] != "security.openshift.io/v1":
        yield "it is of %s" % scc["apiVersion"]
    for pod in (value["spec"]["template"]["spec"] for value in objects if value["kind"] == "DaemonSet"):
        yield from ("it does not admit a pod: %s" % what for what in refusals(scc, pod))


def refusals(scc, pod):
    """Why a pod is not admitted, by the rules of OpenShift's API reference."""
    if pod.get("hostNetwork") and not (scc["allowHostNetwork"] and scc["allowHostPorts"]):
        yield "hostNetwork"
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    if kinds - set(scc["volumes"]) or "hostPath" in kinds and not scc["allowHostDirVolumePlugin"]:
        yield "volumes of %s" % sorted(kinds)
    for container in pod["containers"]:
        context = container["securityContext"]
        capabilities = context.get("capabilities", {})
        if context.get("privileged") and not scc["allowPrivilegedContainer"]:
            yield "privileged"
        if set(capabilities.get("add", [])) - set(scc["allowedCapabilities"]):
            yield "capabilities %s" % capabilities
        if context.get("allowPrivilegeEscalation", True) and not scc["allowPrivilegeEscalation"]:
            yield "privilege escalation"
        profile = context.get("seccompProfile", {}).get("type")
        if profile == "RuntimeDefault" and "runtime/default" not in scc["seccompProfiles"]:
            yield "a seccomp profile, where none may be set"


def against_schemas(value):
    return against_schemas_once(json.dumps(value, sort_keys=True))


@functools.cache
def against_schemas_once(text):
    return list(compared(json.loads(text)))


def compared(value):
    since = SINCE.get(value["kind"], VERSIONS[0])
    for version in VERSIONS[VERSIONS.index(since) :]:
        try:
            # Strict: an unknown field is a mistake.
            kubernetes_validate.validate(value, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield "Kubernetes %s: %s at %s" % (version, error.message[:200], "/".join(map(str, error.path)))
        except kubernetes_validate.SchemaNotFoundError:
            yield "Kubernetes %s: it has no %s of %s" % (version, value["kind"], value["apiVersion"])


def of_token(pod):
    """The token is in the node agent's container alone, and that one has no privilege."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "every container gets a token"
    tokens = {volume["name"] for volume in pod["volumes"] if "projected" in volume}
    for container in pod["containers"]:
        has_token = any(mount["name"] in tokens for mount in container["volumeMounts"])
        is_agent = container["name"] == "node-agent"
        if has_token != is_agent:
            yield "%s %s a token" % (container["name"], "has" if has_token else "does not have")
        context = container.get("securityContext", {})
        plain = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsGroup": context.get("runAsUser"),
            "runAsNonRoot": True,
            "runAsUser": context.get("runAsUser"),
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        if is_agent and (context != plain or not context["runAsUser"]):
            yield "the security context of the node agent is %s" % context


def of_pods(spec):
    """What the API server checks beyond the schema."""
    rolling = spec.get("updateStrategy", {}).get("rollingUpdate") or {}
    if rolling.get("maxSurge", 0) not in (0, "0%") and rolling.get("maxUnavailable", 1) not in (0, "0%"):
        yield "its update has both maxSurge and maxUnavailable: %s" % rolling
    pod = spec["template"]
    if not spec["selector"]["matchLabels"].items() <= pod["metadata"].get("labels", {}).items():
        yield "its selector does not select its pods"
    volumes = [volume["name"] for volume in pod["spec"].get("volumes", [])]
    used = set()
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        mounts = container.get("volumeMounts", [])
        used.update(mount["name"] for mount in mounts)
        paths = [mount["mountPath"] for mount in mounts]
        if len(set(paths)) != len(paths):
            yield "two volumes are mounted at one path: %s" % paths
        names = [entry["name"] for entry in container.get("env", [])]
        if len(set(names)) != len(names):
            yield "a variable is there twice: %s" % names
        for entry in container.get("env", []):
            if not isinstance(entry.get("value", ""), str):
                yield "the variable %s is no text" % entry["name"]
        context = container.get("securityContext", {})
        added = context.get("capabilities", {}).get("add", [])
        if context.get("allowPrivilegeEscalation") is False and (context.get("privileged") or "CAP_SYS_ADMIN" in added):
            yield "it is privileged without privilege escalation"
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in ports:
                yield "%s asks at the port %s, which is not there" % (probe, port)
    if used != set(volumes) or len(set(volumes)) != len(volumes):
        yield "its volumes are %s, and %s are mounted" % (volumes, sorted(used))


def load(text):
    return [value for value in yaml.safe_load_all(text) if value]
