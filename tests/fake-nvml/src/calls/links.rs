//! How GPUs are joined: NVLinks, the NVSwitch fabric, and their places on PCIe.

use std::ffi::{c_uint, c_ulong, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    self as nvml, nvmlDevice_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t,
    nvmlGpuFabricInfo_v3_t, nvmlPciInfo_t, nvmlReturn_t,
};

use crate::code::{
    ARGUMENT_VERSION_MISMATCH, Answer, Code, INVALID_ARGUMENT, NOT_SUPPORTED, UNKNOWN,
};
use crate::driver::{Device, on_gpu};
use crate::ffi::{Out, answer, struct_version};
use crate::pci::BusId;
use crate::state::{Fabric, Gpu, NvLink};

/// `NVML_NVLINK_MAX_LINKS`
const MAX_LINKS: usize = 18;
/// `nvmlPciInfo_t.pciDeviceId` of an NVSwitch.
const NVSWITCH: u32 = 0x22A3_10DE;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkState(
    device: nvmlDevice_t,
    link: c_uint,
    active: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetNvLinkState", device, |device| {
            active.set(link_of(device, link)?.active.into())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkVersion(
    device: nvmlDevice_t,
    link: c_uint,
    version: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetNvLinkVersion", device, |device| {
            version.set(link_of(device, link)?.version)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkCapability(
    device: nvmlDevice_t,
    link: c_uint,
    capability: c_uint,
    result: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetNvLinkCapability", device, |device| {
            if link as usize >= MAX_LINKS {
                return Err(INVALID_ARGUMENT);
            }
            let link = link_of(device, link)?;
            result.set(match capability {
                nvml::nvmlNvLinkCapability_enum_NVML_NVLINK_CAP_P2P_SUPPORTED
                | nvml::nvmlNvLinkCapability_enum_NVML_NVLINK_CAP_P2P_ATOMICS
                | nvml::nvmlNvLinkCapability_enum_NVML_NVLINK_CAP_VALID => link.active.into(),
                0..nvml::nvmlNvLinkCapability_enum_NVML_NVLINK_CAP_COUNT => 0,
                _ => return Err(INVALID_ARGUMENT),
            })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: nvmlDevice_t,
    link: c_uint,
    pci: Out<nvmlPciInfo_t>,
) -> nvmlReturn_t {
    answer(|| remote_pci("nvmlDeviceGetNvLinkRemotePciInfo_v2", device, link, pci))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo(
    device: nvmlDevice_t,
    link: c_uint,
    pci: Out<nvmlPciInfo_t>,
) -> nvmlReturn_t {
    answer(|| remote_pci("nvmlDeviceGetNvLinkRemotePciInfo", device, link, pci))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkRemoteDeviceType(
    device: nvmlDevice_t,
    link: c_uint,
    remote_type: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetNvLinkRemoteDeviceType", device, |device| {
            remote_type.set(active_link(device, link)?.remote_type)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkErrorCounter(
    device: nvmlDevice_t,
    link: c_uint,
    _counter: c_uint,
    value: Out<c_ulonglong>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetNvLinkErrorCounter", device, |device| {
            active_link(device, link)?;
            value.set(0)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuFabricInfo(
    device: nvmlDevice_t,
    info: Out<nvmlGpuFabricInfo_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetGpuFabricInfo", device, |device| {
            info.cast().set(fabric_words(fabric_of(device)?))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuFabricInfoV(
    device: nvmlDevice_t,
    info: Out<nvmlGpuFabricInfo_v2_t>,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetGpuFabricInfoV", device, |device| {
            versioned_fabric(fabric_of(device)?, info)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    device: nvmlDevice_t,
    other: nvmlDevice_t,
    level: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_pair("nvmlDeviceGetTopologyCommonAncestor", device, other, |one, other| {
            level.set(common_ancestor(one, other))
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceOnSameBoard(
    device: nvmlDevice_t,
    other: nvmlDevice_t,
    on_same_board: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_pair("nvmlDeviceOnSameBoard", device, other, |one, other| {
            on_same_board.set((one.pcie.board == other.pcie.board).into())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetP2PStatus(
    device: nvmlDevice_t,
    other: nvmlDevice_t,
    capability: c_uint,
    status: Out<c_uint>,
) -> nvmlReturn_t {
    answer(|| {
        on_pair("nvmlDeviceGetP2PStatus", device, other, |one, other| {
            let by_nvlink = capability == nvml::nvmlGpuP2PCapsIndex_enum_NVML_P2P_CAPS_INDEX_NVLINK;
            status.set(if by_nvlink && !joined(one, other) {
                nvml::nvmlGpuP2PStatus_enum_NVML_P2P_STATUS_NOT_SUPPORTED
            } else {
                nvml::nvmlGpuP2PStatus_enum_NVML_P2P_STATUS_OK
            })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryAffinity(
    device: nvmlDevice_t,
    words: c_uint,
    node_set: Out<c_ulong>,
    _scope: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        on_gpu("nvmlDeviceGetMemoryAffinity", device, |device| {
            let numa = device.gpu().pcie.numa;
            if words <= numa / c_ulong::BITS {
                return Err(INVALID_ARGUMENT);
            }
            for word in 0..words {
                let here = word == numa / c_ulong::BITS;
                node_set
                    .set_at(word as usize, if here { 1 << (numa % c_ulong::BITS) } else { 0 })?;
            }
            Ok(())
        })
    })
}

/// A GPU without NVLink says so whatever link it is asked about.
fn link_of(device: &Device, link: c_uint) -> Result<&NvLink, Code> {
    let links = &device.gpu().nvlinks;
    let link = link as usize;
    links.get(link).ok_or(if link < MAX_LINKS || links.is_empty() {
        NOT_SUPPORTED
    } else {
        INVALID_ARGUMENT
    })
}

fn active_link(device: &Device, link: c_uint) -> Result<&NvLink, Code> {
    Some(link_of(device, link)?).filter(|link| link.active).ok_or(NOT_SUPPORTED)
}

fn remote_pci(
    function: &str,
    device: nvmlDevice_t,
    link: c_uint,
    pci: Out<nvmlPciInfo_t>,
) -> Answer {
    on_gpu(function, device, |device| {
        let remote = &active_link(device, link)?.remote_pci_bus_id;
        let bus_id = BusId::parse(remote).ok_or(UNKNOWN)?;
        let gpu = device.state().gpus.iter().find(|gpu| is_at(gpu, remote));
        let pci_device_id = gpu.map_or(NVSWITCH, |gpu| gpu.pci_device_id);
        pci.set(bus_id.info(pci_device_id))
    })
}

fn is_at(gpu: &Gpu, bus_id: &str) -> bool {
    gpu.pci_bus_id.eq_ignore_ascii_case(bus_id)
}

/// The GPUs have a link between them, or links to the same switch.
fn joined(one: &Gpu, other: &Gpu) -> bool {
    one.nvlinks.iter().filter(|link| link.active).any(|link| {
        is_at(other, &link.remote_pci_bus_id)
            || other.nvlinks.iter().any(|back| {
                back.active
                    && back.remote_type == 2
                    && back.remote_pci_bus_id == link.remote_pci_bus_id
            })
    })
}

fn fabric_of(device: &Device) -> Result<&Fabric, Code> {
    device.gpu().fabric.as_ref().ok_or(NOT_SUPPORTED)
}

/// Writes the struct that the caller's version word asks for.
fn versioned_fabric(fabric: &Fabric, out: Out<nvmlGpuFabricInfo_v2_t>) -> Answer {
    let version = out.cast::<c_uint>().get()?;
    let [uuid @ .., status, clique, state] = fabric_words(fabric);
    let [a, b, c, d] = uuid;
    let mask = fabric.health_mask;
    if version == struct_version::<nvmlGpuFabricInfo_v2_t>(2) {
        out.cast().set([version, a, b, c, d, status, clique, state, mask])
    } else if version == struct_version::<nvmlGpuFabricInfo_v3_t>(3) {
        let summary = health_summary(mask);
        out.cast().set([version, a, b, c, d, status, clique, state, mask, summary])
    } else {
        Err(ARGUMENT_VERSION_MISMATCH)
    }
}

/// `nvmlGpuFabricInfo_t` as words: its last field is one byte, and some clients read the padding
/// with it.
fn fabric_words(fabric: &Fabric) -> [u32; 7] {
    let mut words = [0; 7];
    for (word, bytes) in words.iter_mut().zip(fabric.cluster_uuid.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words[4..].copy_from_slice(&[fabric.status, fabric.clique_id, u32::from(fabric.state)]);
    words
}

/// `NVML_GPU_FABRIC_HEALTH_SUMMARY_*`: four fields of two bits in which 1 is a fault, and one of
/// four bits in which 2 and above are.
fn health_summary(mask: u32) -> u32 {
    let faulty = (0..8).step_by(2).any(|shift| mask >> shift & 0b11 == 1) || mask >> 8 & 0b1111 > 1;
    match mask {
        0 => nvml::NVML_GPU_FABRIC_HEALTH_SUMMARY_NOT_SUPPORTED,
        _ if faulty => nvml::NVML_GPU_FABRIC_HEALTH_SUMMARY_UNHEALTHY,
        _ => nvml::NVML_GPU_FABRIC_HEALTH_SUMMARY_HEALTHY,
    }
}

/// A call about two GPUs. The gate looks at each.
fn on_pair(
    function: &str,
    one: nvmlDevice_t,
    other: nvmlDevice_t,
    body: impl FnOnce(&Gpu, &Gpu) -> Answer,
) -> Answer {
    on_gpu(function, one, |one| on_gpu(function, other, |other| body(one.gpu(), other.gpu())))
}

/// `nvmlGpuTopologyLevel_t`
fn common_ancestor(one: &Gpu, other: &Gpu) -> c_uint {
    let (one, other) = (&one.pcie, &other.pcie);
    if one.board == other.board {
        nvml::nvmlGpuLevel_enum_NVML_TOPOLOGY_INTERNAL
    } else if one.switch == other.switch {
        nvml::nvmlGpuLevel_enum_NVML_TOPOLOGY_SINGLE
    } else if one.switch_tree == other.switch_tree {
        nvml::nvmlGpuLevel_enum_NVML_TOPOLOGY_MULTIPLE
    } else if one.host_bridge == other.host_bridge {
        nvml::nvmlGpuLevel_enum_NVML_TOPOLOGY_HOSTBRIDGE
    } else if one.numa == other.numa {
        nvml::nvmlGpuLevel_enum_NVML_TOPOLOGY_NODE
    } else {
        nvml::nvmlGpuLevel_enum_NVML_TOPOLOGY_SYSTEM
    }
}
