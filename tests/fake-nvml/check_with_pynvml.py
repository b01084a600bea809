#!/usr/bin/env python3
"""Reads the fake NVML with nvidia-ml-py, a client that knows nothing of it, and asserts on what comes back.

How to run it, from the repository's root:

    cargo build -p fake-nvml
    python3 -m venv /tmp/pynvml && /tmp/pynvml/bin/pip install nvidia-ml-py
    mkdir -p /tmp/fake-nvml && ln -sf "$PWD/target/debug/libfake_nvml.so" /tmp/fake-nvml/libnvidia-ml.so.1
    LD_LIBRARY_PATH=/tmp/fake-nvml /tmp/pynvml/bin/python tests/fake-nvml/check_with_pynvml.py
"""

import ctypes
import json
import os
import tempfile
import threading
import time

import pynvml as nvml

GPU = "GPU-11111111-2222-4333-8444-%012d"
MIG = "MIG-11111111-2222-4333-8444-%012d"


def state():
    """Two GPUs, the second in MIG mode with two devices."""
    gpus = [
        {
            "uuid": GPU % n,
            "minor": n,
            "pci_bus_id": "00000000:%02X:00.0" % (0x1B + n),
            "serial": "165000000000%d" % n,
            "pcie": {"board": n, "switch": n},
            "fabric": {"clique_id": 5},
            "nvlinks": [{"remote_pci_bus_id": "00000000:07:00.0", "version": 6}],
        }
        for n in range(2)
    ]
    gpus[1]["mig"] = {
        "enabled": True,
        "devices": [
            {"uuid": MIG % n, "gpu_instance": 7 + n, "name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb"}
            for n in range(2)
        ],
    }
    return {"gpus": gpus}


def write(path, value):
    with open(path + ".next", "w") as file:
        json.dump(value, file)
    os.rename(path + ".next", path)


def refused(code, call, *arguments):
    try:
        call(*arguments)
    except nvml.NVMLError as error:
        assert error.value == code, (call.__name__, error.value)
        return
    raise AssertionError("%s did not refuse" % call.__name__)


def check_enumeration():
    assert nvml.nvmlSystemGetDriverVersion() == "580.95.05"
    assert nvml.nvmlSystemGetNVMLVersion() == "13.580.95.05"
    assert nvml.nvmlSystemGetCudaDriverVersion() == 13000
    assert nvml.nvmlDeviceGetCount() == 2
    for n in range(2):
        gpu = nvml.nvmlDeviceGetHandleByIndex(n)
        assert nvml.nvmlDeviceGetUUID(gpu) == GPU % n
        assert nvml.nvmlDeviceGetName(gpu) == "NVIDIA H100 80GB HBM3"
        assert nvml.nvmlDeviceGetIndex(gpu) == n
        assert nvml.nvmlDeviceGetMinorNumber(gpu) == n
        assert nvml.nvmlDeviceGetSerial(gpu) == "165000000000%d" % n
        assert nvml.nvmlDeviceGetPciInfo(gpu).busId == "00000000:%02X:00.0" % (0x1B + n)
        assert nvml.nvmlDeviceGetMemoryInfo(gpu).total == 81559 << 20
        assert nvml.nvmlDeviceGetMemoryInfo(gpu, nvml.nvmlMemory_v2).total == 81559 << 20
        assert nvml.nvmlDeviceGetCudaComputeCapability(gpu) == (9, 0)
        assert nvml.nvmlDeviceGetArchitecture(gpu) == nvml.NVML_DEVICE_ARCH_HOPPER
        assert nvml.nvmlDeviceGetBrand(gpu) == nvml.NVML_BRAND_NVIDIA
        assert nvml.nvmlDeviceGetPersistenceMode(gpu) == 1
        assert nvml.nvmlDeviceGetEccMode(gpu) == [1, 1]
    assert nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByUUID(GPU % 1)) == 1
    assert nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByPciBusId("0000:1C:00.0")) == 1
    refused(nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceGetHandleByIndex, 2)
    refused(nvml.NVML_ERROR_NOT_FOUND, nvml.nvmlDeviceGetHandleByUUID, "GPU-none")


def check_links():
    first, second = (nvml.nvmlDeviceGetHandleByIndex(n) for n in range(2))
    level = nvml.nvmlDeviceGetTopologyCommonAncestor(first, second)
    assert level == nvml.NVML_TOPOLOGY_MULTIPLE
    assert nvml.nvmlDeviceGetNvLinkState(first, 0) == 1
    assert nvml.nvmlDeviceGetNvLinkVersion(first, 0) == nvml.NVML_NVLINK_VERSION_4_0
    assert nvml.nvmlDeviceGetNvLinkRemotePciInfo(first, 0).busId == "00000000:07:00.0"
    refused(nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceGetNvLinkState, first, 1)
    for struct in (nvml.c_nvmlGpuFabricInfo_v2_t, nvml.c_nvmlGpuFabricInfo_v3_t):
        info = struct()
        nvml.nvmlDeviceGetGpuFabricInfoV(first, ctypes.byref(info))
        assert (info.state, info.cliqueId) == (nvml.NVML_GPU_FABRIC_STATE_COMPLETED, 5)


def check_monitoring():
    gpu = nvml.nvmlDeviceGetHandleByIndex(0)
    assert 0 < nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU) < 100
    assert 0 < nvml.nvmlDeviceGetPowerUsage(gpu) < nvml.nvmlDeviceGetEnforcedPowerLimit(gpu)
    assert nvml.nvmlDeviceGetUtilizationRates(gpu).gpu == 0
    assert nvml.nvmlDeviceGetComputeRunningProcesses(gpu) == []
    refused(nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceGetFanSpeed, gpu)


def check_mig():
    off, on = (nvml.nvmlDeviceGetHandleByIndex(n) for n in range(2))
    refused(nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceGetMigMode, off)
    assert nvml.nvmlDeviceGetMigMode(on) == [1, 1]
    found = []
    for n in range(nvml.nvmlDeviceGetMaxMigDeviceCount(on)):
        try:
            mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(on, n)
        except nvml.NVMLError_NotFound:
            continue
        found.append(nvml.nvmlDeviceGetUUID(mig))
        assert nvml.nvmlDeviceGetName(mig).endswith("MIG 1g.10gb")
        assert nvml.nvmlDeviceIsMigDeviceHandle(mig)
        assert nvml.nvmlDeviceGetGpuInstanceId(mig) == 7 + n
        assert nvml.nvmlDeviceGetComputeInstanceId(mig) == 0
        attributes = nvml.nvmlDeviceGetAttributes(mig)
        assert attributes.gpuInstanceSliceCount == 1
        assert attributes.memorySizeMB == 9984
        parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
        assert nvml.nvmlDeviceGetUUID(parent) == GPU % 1
    assert found == [MIG % 0, MIG % 1]
    instance = nvml.nvmlDeviceGetGpuInstanceById(on, 8)
    profile = nvml.nvmlGpuInstanceGetInfo(instance).profileId
    one_slice = nvml.nvmlDeviceGetGpuInstanceProfileInfo(
        on, nvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE, version=2
    )
    assert (profile, one_slice.name) == (one_slice.id, "MIG 1g.10gb")


def check_health(path):
    gpu = nvml.nvmlDeviceGetHandleByIndex(0)
    now = state()
    now["gpus"][0]["recovery_action"] = 1
    now["gpus"][0]["remapped_rows"] = {"pending": True, "uncorrectable": 3}
    write(path, now)
    values = nvml.nvmlDeviceGetFieldValues(gpu, [230, 143, 82])
    assert [value.nvmlReturn for value in values] == [0, 0, nvml.NVML_ERROR_NOT_SUPPORTED]
    assert [value.value.uiVal for value in values[:2]] == [1, 3]
    assert nvml.nvmlDeviceGetRemappedRows(gpu) == (0, 3, 1, 0)
    now["gpus"][0]["lost"] = True
    write(path, now)
    refused(nvml.NVML_ERROR_GPU_IS_LOST, nvml.nvmlDeviceGetUUID, gpu)
    refused(nvml.NVML_ERROR_GPU_IS_LOST, nvml.nvmlDeviceGetHandleByUUID, GPU % 0)
    write(path, state())


def check_events(path):
    gpu = nvml.nvmlDeviceGetHandleByIndex(0)
    xid = nvml.nvmlEventTypeXidCriticalError
    assert nvml.nvmlDeviceGetSupportedEventTypes(gpu) & xid
    events = nvml.nvmlEventSetCreate()
    # Of no type that there is.
    unsupported = xid | 0x20
    refused(nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceRegisterEvents, gpu, unsupported, events)
    nvml.nvmlDeviceRegisterEvents(gpu, xid, events)
    refused(nvml.NVML_ERROR_TIMEOUT, nvml.nvmlEventSetWait, events, 20)
    written = []

    def happen():
        now = state()
        now["events"] = [{"seq": 1, "gpu": GPU % 0, "event_type": xid, "data": 79}]
        written.append(time.monotonic())
        write(path, now)

    threading.Timer(0.1, happen).start()
    event = nvml.nvmlEventSetWait(events, 5000)
    delay = time.monotonic() - written[0]
    assert (event.eventType, event.eventData) == (xid, 79)
    assert (event.gpuInstanceId, event.computeInstanceId) == (0xFFFFFFFF, 0xFFFFFFFF)
    assert nvml.nvmlDeviceGetUUID(event.device) == GPU % 0
    assert delay < 1, delay
    nvml.nvmlEventSetFree(events)
    return delay


def main():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "state.json")
        os.environ["FAKE_NVML_STATE"] = path
        refused(nvml.NVML_ERROR_DRIVER_NOT_LOADED, nvml.nvmlInit)
        write(path, state())
        nvml.nvmlInit()
        check_enumeration()
        check_links()
        check_monitoring()
        check_mig()
        check_health(path)
        delay = check_events(path)
        nvml.nvmlShutdown()
        refused(nvml.NVML_ERROR_UNINITIALIZED, nvml.nvmlDeviceGetCount)
    print("nvidia-ml-py reads what the state file says; an event came %.1f ms after it was written" % (delay * 1e3))


if __name__ == "__main__":
    main()
