#!/usr/bin/env python3
"""Talks to the real plugin with another gRPC implementation: a small kubelet made of grpcio.

It states the published API once more, as a table, and takes nothing from proto/: where the two differ, this fails.

How to run it, from the repository's root:

    cargo build --workspace
    python3 -m venv /tmp/grpcio && /tmp/grpcio/bin/pip install grpcio protobuf
    /tmp/grpcio/bin/python tests/interop/check_with_grpcio.py
"""

import argparse
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Message: field, number, type; "*" is repeated, "map" is from string to string. As published in
# k8s.io/kubelet, pkg/apis/deviceplugin/v1beta1/api.proto.
API = {
    "Empty": [],
    "DevicePluginOptions": [
        ("pre_start_required", 1, "bool"),
        ("get_preferred_allocation_available", 2, "bool"),
    ],
    "RegisterRequest": [
        ("version", 1, "string"),
        ("endpoint", 2, "string"),
        ("resource_name", 3, "string"),
        ("options", 4, "DevicePluginOptions"),
    ],
    "NUMANode": [("ID", 1, "int64")],
    "TopologyInfo": [("nodes", 1, "NUMANode*")],
    "Device": [("ID", 1, "string"), ("health", 2, "string"), ("topology", 3, "TopologyInfo")],
    "ListAndWatchResponse": [("devices", 1, "Device*")],
    "ContainerPreferredAllocationRequest": [
        ("available_deviceIDs", 1, "string*"),
        ("must_include_deviceIDs", 2, "string*"),
        ("allocation_size", 3, "int32"),
    ],
    "PreferredAllocationRequest": [
        ("container_requests", 1, "ContainerPreferredAllocationRequest*")
    ],
    "ContainerPreferredAllocationResponse": [("deviceIDs", 1, "string*")],
    "PreferredAllocationResponse": [
        ("container_responses", 1, "ContainerPreferredAllocationResponse*")
    ],
    "ContainerAllocateRequest": [("devicesIDs", 1, "string*")],
    "AllocateRequest": [("container_requests", 1, "ContainerAllocateRequest*")],
    "Mount": [("container_path", 1, "string"), ("host_path", 2, "string"), ("read_only", 3, "bool")],
    "DeviceSpec": [
        ("container_path", 1, "string"),
        ("host_path", 2, "string"),
        ("permissions", 3, "string"),
    ],
    "CDIDevice": [("name", 1, "string")],
    "ContainerAllocateResponse": [
        ("envs", 1, "map"),
        ("mounts", 2, "Mount*"),
        ("devices", 3, "DeviceSpec*"),
        ("annotations", 4, "map"),
        ("cdi_devices", 5, "CDIDevice*"),
    ],
    "AllocateResponse": [("container_responses", 1, "ContainerAllocateResponse*")],
    "PreStartContainerRequest": [("devicesIDs", 1, "string*")],
    "PreStartContainerResponse": [],
}

RESOURCE = "nvidia.com/gpu"
GPUS = 4
# Long enough that only a failure takes it, on a machine that does much else.
PATIENCE = 30


def messages():
    """The message classes of the table."""
    field = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": field.TYPE_STRING, "bool": field.TYPE_BOOL}
    scalars |= {"int32": field.TYPE_INT32, "int64": field.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="table.proto", package="v1beta1", syntax="proto3")
    for name, fields in API.items():
        message = file.message_type.add(name=name)
        for label, number, kind in fields:
            repeated = kind == "map" or kind.endswith("*")
            added = message.field.add(
                name=label,
                number=number,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
            )
            kind = kind.rstrip("*")
            if kind == "map":
                entry = message.nested_type.add(name=label.capitalize() + "Entry")
                entry.options.map_entry = True
                for n, part in enumerate(("key", "value"), start=1):
                    entry.field.add(
                        name=part, number=n, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL
                    )
                kind = "%s.%s" % (name, entry.name)
            if kind in scalars:
                added.type = scalars[kind]
            else:
                added.type = field.TYPE_MESSAGE
                added.type_name = ".v1beta1." + kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles(["table.proto"], pool)


CLASSES = {name.rsplit(".", 1)[1]: cls for name, cls in messages().items()}


def read(name):
    """A deserializer that takes no field but those of the table."""

    def parse(data):
        message = CLASSES[name].FromString(data)
        known = CLASSES[name].FromString(data)
        known.DiscardUnknownFields()
        assert known.ByteSize() == message.ByteSize(), "%s has a field that is not in the API" % name
        return message

    return parse


class Plugin:
    """The kubelet's side of one endpoint."""

    def __init__(self, socket):
        # A kubelet from 1.26 on sends this authority. grpcio's own would be the socket's path.
        self.channel = grpc.insecure_channel(
            "unix:%s" % socket, options=[("grpc.default_authority", "localhost")]
        )

    def call(self, method, request, answer):
        stub = self.channel.unary_unary(
            "/v1beta1.DevicePlugin/" + method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=read(answer),
        )
        return stub(request, timeout=PATIENCE, wait_for_ready=True)

    def options(self):
        return self.call("GetDevicePluginOptions", CLASSES["Empty"](), "DevicePluginOptions")

    def watch(self):
        return Watch(self.channel)

    def allocate(self, *containers):
        request = CLASSES["AllocateRequest"]()
        for ids in containers:
            request.container_requests.add(devicesIDs=ids)
        return self.call("Allocate", request, "AllocateResponse").container_responses

    def preferred(self, available, must_include, size):
        request = CLASSES["PreferredAllocationRequest"]()
        request.container_requests.add(
            available_deviceIDs=available, must_include_deviceIDs=must_include, allocation_size=size
        )
        answer = self.call("GetPreferredAllocation", request, "PreferredAllocationResponse")
        return [list(container.deviceIDs) for container in answer.container_responses]

    def pre_start(self, ids):
        request = CLASSES["PreStartContainerRequest"](devicesIDs=ids)
        return self.call("PreStartContainer", request, "PreStartContainerResponse")


class Watch:
    """A ListAndWatch stream; its lists, and then how it ended, come through a queue."""

    def __init__(self, channel):
        stub = channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=read("ListAndWatchResponse"),
        )
        self.lists = queue.Queue()
        self.stream = stub(CLASSES["Empty"]())
        self.over = futures.Future()
        futures.ThreadPoolExecutor(1).submit(self.receive)

    def receive(self):
        try:
            for message in self.stream:
                self.lists.put(message.devices)
            self.over.set_result(grpc.StatusCode.OK)
        except grpc.RpcError as error:
            self.over.set_result(error.code())
            self.lists.put(error)

    def next(self):
        devices = self.lists.get(timeout=PATIENCE)
        if isinstance(devices, grpc.RpcError):
            raise devices
        return devices


class Kubelet:
    """The Registration service on kubelet.sock. It dials back before it answers, as the kubelet does."""

    def __init__(self, directory, before=lambda: None):
        self.directory = directory
        self.before = before
        self.registered = queue.Queue()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        register = grpc.unary_unary_rpc_method_handler(
            self.register,
            request_deserializer=read("RegisterRequest"),
            response_serializer=lambda message: message.SerializeToString(),
        )
        service = grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": register})
        self.server.add_generic_rpc_handlers((service,))
        self.server.add_insecure_port("unix:%s" % (directory / "kubelet.sock"))
        self.server.start()

    def register(self, request, _):
        try:
            self.before()
            assert request.version == "v1beta1", request
            assert request.resource_name == RESOURCE, request
            assert "/" not in request.endpoint, "the endpoint is a base name"
            plugin = Plugin(self.directory / request.endpoint)
            options = plugin.options()
            assert options == request.options, (options, request.options)
            assert options.get_preferred_allocation_available and not options.pre_start_required
            self.registered.put((request.endpoint, plugin))
        except BaseException as error:
            self.registered.put(error)
            raise
        return CLASSES["Empty"]()

    def next(self):
        answer = self.registered.get(timeout=PATIENCE)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Node:
    """A directory with a driver installation, the kubelet's directory and sysfs."""

    def __init__(self, root, library):
        self.root = Path(root)
        self.kubelet = self.root / "kubelet"
        self.sysfs = self.root / "sys"
        driver = self.root / "driver" / "usr" / "lib64"
        for directory in (self.kubelet, driver):
            directory.mkdir(parents=True)
        shutil.copy(library, driver / "libnvidia-ml.so.1")
        self.state_file = driver / "fake-nvml.json"
        self.state = {"gpus": [self.gpu(n) for n in range(GPUS)], "events": []}
        self.write()

    def gpu(self, n):
        # The ids sort the other way round than the indices.
        uuid = "GPU-11111111-2222-4333-8444-%012d" % (GPUS - n)
        bus = "0000:%02x:00.0" % (0x1B + n)
        device = self.sysfs / "bus" / "pci" / "devices" / bus
        device.mkdir(parents=True)
        # The last GPU's node is not known.
        (device / "numa_node").write_text("%d\n" % (-1 if n == GPUS - 1 else n // 2))
        return {"uuid": uuid, "minor": n, "pci_bus_id": "0000" + bus.upper()}

    def ids(self):
        return [gpu["uuid"] for gpu in self.state["gpus"]]

    def write(self):
        following = self.state_file.with_suffix(".next")
        following.write_text(json.dumps(self.state))
        following.rename(self.state_file)

    def xid(self, gpu, number):
        events = self.state["events"]
        events.append(
            {"seq": len(events) + 1, "gpu": self.ids()[gpu], "event_type": 8, "data": number}
        )
        self.write()

    def start(self, program):
        arguments = ["--kubelet-socket", self.kubelet / "kubelet.sock"]
        arguments += ["--driver-root-ctr-path", self.root / "driver", "--sysfs-root", self.sysfs]
        arguments += ["--state-dir", self.root / "state", "--quarantine-dir", self.root / "quarantine"]
        return subprocess.Popen(
            [program, *arguments], env={}, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )


def check_first_list(watch, node):
    devices = watch.next()
    assert [device.ID for device in devices] == sorted(node.ids()), devices
    assert all(device.health == "Healthy" for device in devices), devices
    nodes = {
        device.ID: [node.ID for node in device.topology.nodes] if device.HasField("topology") else None
        for device in devices
    }
    assert [nodes[uuid] for uuid in node.ids()] == [[0], [0], [1], None], nodes


def check_allocate(plugin, node):
    ids = node.ids()
    for size in range(1, GPUS + 1):
        asked = random.sample(ids, size)
        (container,) = plugin.allocate(asked)
        expected = ",".join(uuid for uuid in ids if uuid in asked)
        assert dict(container.envs) == {"NVIDIA_VISIBLE_DEVICES": expected}, container
        rest = (container.mounts, container.devices, container.annotations, container.cdi_devices)
        assert not any(rest), container
    both = plugin.allocate(ids[:1], ids[1:3])
    visible = [container.envs["NVIDIA_VISIBLE_DEVICES"] for container in both]
    assert visible == [ids[0], ",".join(ids[1:3])], visible
    assert list(plugin.allocate()) == []
    for bad in ("GPU-none", "", ids[0] + "::x", "a b"):
        try:
            plugin.allocate([ids[0], bad])
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            assert 'cannot allocate "%s" of %s' % (bad, RESOURCE) in error.details(), error
        else:
            raise AssertionError("%r was allocated" % bad)


def check_a_field_of_the_future(plugin, node):
    request = CLASSES["AllocateRequest"]()
    request.container_requests.add(devicesIDs=node.ids()[:1])
    stub = plugin.channel.unary_unary("/v1beta1.DevicePlugin/Allocate")
    # Field 100, text "new", as a later version of the API may add one.
    answer = stub(request.SerializeToString() + b"\xa2\x06\x03new", timeout=PATIENCE)
    assert len(read("AllocateResponse")(answer).container_responses) == 1


def check_preferred(plugin, node):
    ids = node.ids()
    assert plugin.preferred(random.sample(ids, GPUS), [], 2) == [ids[:2]]
    assert plugin.preferred(ids, [ids[2]], 1) == [[ids[2]]]
    assert plugin.preferred(["GPU-none"], [], 1) == [["GPU-none"]], "it never is an error"


def check_xid(plugin, watch, node):
    other = plugin.watch()
    other.next()
    # One that comes from an application first: no list is sent for it.
    node.xid(1, 31)
    node.xid(1, 79)
    for each in (watch, other):
        unhealthy = [device.ID for device in each.next() if device.health != "Healthy"]
        assert unhealthy == [node.ids()[1]], unhealthy
    other.stream.cancel()


def check_kubelet_restart(kubelet, plugin, watch, first):
    """A new kubelet.sock: the old stream has ended when the new registration comes, and its socket is gone."""

    def before():
        assert watch.over.result(timeout=PATIENCE) == grpc.StatusCode.OK
        assert not (kubelet.directory / first).exists()

    # The kubelet closes its connection when the stream ends.
    watch.over.add_done_callback(lambda _: plugin.channel.close())
    kubelet.server.stop(None).wait()
    (kubelet.directory / "kubelet.sock").unlink(missing_ok=True)
    kubelet = Kubelet(kubelet.directory, before)
    begun = time.monotonic()
    endpoint, plugin = kubelet.next()
    took = time.monotonic() - begun
    assert endpoint != first, "each server start has a socket of its own"
    watch = plugin.watch()
    assert [device.health for device in watch.next()].count("Healthy") == GPUS - 1
    return kubelet, watch, took


def check_stop(program, watch, node):
    program.send_signal(signal.SIGTERM)
    assert program.wait(timeout=PATIENCE) == 0
    assert watch.over.result(timeout=PATIENCE) == grpc.StatusCode.OK
    left = [path.name for path in node.kubelet.iterdir()]
    assert left == ["kubelet.sock"], left


def arguments():
    target = Path(__file__).resolve().parents[2] / "target" / "debug"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", type=Path, default=target / "gpu-device-plugin")
    parser.add_argument("--nvml-library", type=Path, default=target / "libfake_nvml.so")
    return parser.parse_args()


def main():
    args = arguments()
    # A short path: the address of a unix socket holds 107 characters.
    with tempfile.TemporaryDirectory(prefix="gi", dir="/tmp") as root:
        node = Node(root, args.nvml_library)
        kubelet = Kubelet(node.kubelet)
        program = node.start(args.plugin)
        try:
            endpoint, plugin = kubelet.next()
            watch = plugin.watch()
            check_first_list(watch, node)
            check_allocate(plugin, node)
            check_a_field_of_the_future(plugin, node)
            check_preferred(plugin, node)
            plugin.pre_start(node.ids()[:1])
            check_xid(plugin, watch, node)
            kubelet, watch, took = check_kubelet_restart(kubelet, plugin, watch, endpoint)
            check_stop(program, watch, node)
        except BaseException:
            program.kill()
            print("The plugin's log:\n" + program.communicate()[1], file=sys.stderr)
            raise
        kubelet.server.stop(None)
    print(
        "grpcio %s and the plugin understand each other; registered again %.0f ms after the kubelet's restart"
        % (grpc.__version__, took * 1e3)
    )


if __name__ == "__main__":
    main()
