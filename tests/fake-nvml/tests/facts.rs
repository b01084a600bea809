//! What the devices are, read through nvml-wrapper as a program in Rust reads it, and raw where
//! that has no way.

mod common;

use fake_nvml::profiles;
use fake_nvml::state::{Fabric, RemappedRows, Rule, State};
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{Brand, EccCounter, MemoryError, TopologyLevel};
use nvml_wrapper::enums::device::{DeviceArchitecture, SampleValue};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper_sys::bindings as sys;

use common::*;

/// An answer of nvml-wrapper with its return code as a number.
trait Coded<T> {
    fn code(self) -> Result<T, u32>;
}

impl<T> Coded<T> for Result<T, NvmlError> {
    fn code(self) -> Result<T, u32> {
        self.map_err(|error| match error {
            NvmlError::NotSupported => NOT_SUPPORTED,
            NvmlError::NotFound => NOT_FOUND,
            NvmlError::InvalidArg => INVALID_ARGUMENT,
            NvmlError::GpuLost => GPU_IS_LOST,
            other => panic!("unexpected: {other}"),
        })
    }
}

#[test]
fn the_node_and_its_gpus_are_as_in_the_file() {
    let node = Node::new(profiles::h100x8());
    let nvml = node.nvml();
    assert_eq!(nvml.sys_driver_version().code().as_deref(), Ok("580.95.05"));
    assert_eq!(nvml.sys_nvml_version().code().as_deref(), Ok("13.580.95.05"));
    assert_eq!(nvml.sys_cuda_driver_version().code(), Ok(13_000));
    assert_eq!(nvml.device_count().code(), Ok(8));
    for (index, gpu) in (0..).zip(&node.state.gpus) {
        let device = nvml.device_by_index(index).expect("a device");
        assert_eq!(device.uuid().code().as_ref(), Ok(&gpu.uuid));
        assert_eq!(device.name().code().as_ref(), Ok(&gpu.name));
        assert_eq!(device.index().code(), Ok(index));
        assert_eq!(device.minor_number().code(), Ok(gpu.minor));
        assert_eq!(device.serial().code().as_ref(), Ok(&gpu.serial));
        assert_eq!(device.brand().code(), Ok(Brand::Nvidia));
        assert_eq!(device.architecture().code(), Ok(DeviceArchitecture::Hopper));
        let capability = device.cuda_compute_capability().expect("capability");
        assert_eq!((capability.major, capability.minor), gpu.compute_capability);
        let memory = device.memory_info().expect("memory");
        assert_eq!(memory.total, gpu.memory_mib << 20);
        assert_eq!(memory.free + memory.used + memory.reserved, memory.total);
        let pci = device.pci_info().expect("PCI");
        assert_eq!(pci.bus_id, gpu.pci_bus_id);
        assert_eq!(pci.pci_device_id, gpu.pci_device_id);
        assert_eq!(device.is_in_persistent_mode().code(), Ok(true));
        assert!(device.mig_mode().is_ok_and(|mode| mode.current == 0));
        assert_eq!(device.mig_device_count().code(), Ok(0));
        assert_eq!(device.numa_node_id().code(), Err(NOT_SUPPORTED));
    }
}

#[test]
fn a_device_is_found_by_every_name() {
    let node = Node::new(profiles::h100x8());
    let nvml = node.nvml();
    let gpu = &node.state.gpus[6];
    let index = |device: Result<Device<'_>, NvmlError>| {
        device.code().and_then(|device| device.index().code())
    };
    assert_eq!(index(nvml.device_by_uuid(gpu.uuid.as_str())), Ok(6));
    assert_eq!(index(nvml.device_by_pci_bus_id("00000000:D1:00.0")), Ok(6));
    assert_eq!(index(nvml.device_by_pci_bus_id("0000:d1:00.0")), Ok(6));
    assert_eq!(index(nvml.device_by_uuid("GPU-none")), Err(NOT_FOUND));
    assert_eq!(index(nvml.device_by_pci_bus_id("00000000:FF:00.0")), Err(NOT_FOUND));
    assert_eq!(index(nvml.device_by_pci_bus_id("somewhere")), Err(INVALID_ARGUMENT));
    assert_eq!(index(nvml.device_by_index(8)), Err(INVALID_ARGUMENT));
    let raw = node.raw();
    assert!(raw.by_text("nvmlDeviceGetHandleBySerial", &gpu.serial).is_ok());
}

#[test]
fn every_profile_can_be_read_and_has_unique_names() {
    for (name, profile) in profiles::ALL {
        let node = Node::new(profile());
        assert_eq!(profiles::by_name(name).as_ref(), Some(&node.state));
        let nvml = node.nvml();
        assert_eq!(nvml.device_count().code(), Ok(node.state.gpus.len() as u32), "{name}");
        let mut uuids = std::collections::BTreeSet::new();
        for (index, gpu) in (0..).zip(&node.state.gpus) {
            let device = nvml.device_by_index(index).expect("a device");
            assert_eq!(device.uuid().code().as_ref(), Ok(&gpu.uuid));
            assert!(uuids.insert(gpu.uuid.clone()));
            assert_eq!(gpu.uuid.len(), "GPU-".len() + 36);
            for link in &gpu.nvlinks {
                assert!(link.remote_type == 2 || has_bus(&node.state, &link.remote_pci_bus_id));
            }
            for mig in gpu.mig.iter().flat_map(|mig| &mig.devices) {
                assert!(uuids.insert(mig.uuid.clone()));
            }
        }
        let text = serde_json::to_vec(&node.state).expect("JSON");
        assert_eq!(serde_json::from_slice::<State>(&text).ok().as_ref(), Some(&node.state));
    }
}

fn has_bus(state: &State, bus_id: &str) -> bool {
    state.gpus.iter().any(|gpu| gpu.pci_bus_id == bus_id)
}

#[test]
fn versioned_structs_are_told_apart() {
    let mut node = Node::new(profiles::h100x1());
    let nvml = node.raw();
    nvml.init();
    let gpu = nvml.by_index(0).expect("GPU 0");
    let memory = |version| {
        let memory = sys::nvmlMemory_v2_t { version, total: 0, reserved: 0, free: 0, used: 0 };
        nvml.fill("nvmlDeviceGetMemoryInfo_v2", gpu, memory).map(|memory| memory.total)
    };
    assert_eq!(memory(0x0200_0028), Ok(81_559 << 20));
    assert_eq!(memory(0x0100_0028), Err(25));
    let fabric = |version| {
        let mut info = [0_u32; 10];
        info[0] = version;
        nvml.fill("nvmlDeviceGetGpuFabricInfoV", gpu, info)
    };
    assert_eq!(fabric(0x0200_0024), Err(NOT_SUPPORTED));
    node.gpu(0, |gpu| {
        gpu.fabric = Some(Fabric { clique_id: 7, health_mask: 0x1, ..Fabric::default() });
    });
    // version, 4 words of UUID, status, clique, state and health mask, and in version 3 the
    // summary.
    let told = |info: [u32; 10]| [info[5], info[6], info[7], info[8], info[9]];
    assert_eq!(fabric(0x0200_0024).map(told), Ok([0, 7, 3, 1, 0]));
    assert_eq!(fabric(0x0300_0028).map(told), Ok([0, 7, 3, 1, 2]));
    assert_eq!(fabric(0x0100_0024), Err(25));
}

#[test]
fn field_values_have_a_return_code_each() {
    let mut node = Node::new(profiles::h100x8());
    node.gpu(1, |gpu| {
        gpu.recovery_action = 2;
        gpu.ecc_uncorrected = 5;
        gpu.remapped_rows =
            Some(RemappedRows { correctable: 1, uncorrectable: 2, pending: true, failure: false });
    });
    let nvml = node.nvml();
    let device = nvml.device_by_index(1).expect("GPU 1");
    let fields = [230, 142, 143, 144, 145, 4, 3, 82].map(FieldId);
    let number = |value| match value {
        SampleValue::U32(value) => u64::from(value),
        SampleValue::U64(value) => value,
        other => panic!("{other:?}"),
    };
    let read = |device: &Device<'_>| -> Vec<Result<u64, u32>> {
        let samples = device.field_values_for(&fields).expect("field values");
        samples
            .into_iter()
            .map(|sample| sample.and_then(|sample| sample.value).map(number).code())
            .collect()
    };
    assert_eq!(
        read(&device),
        [Ok(2), Ok(1), Ok(2), Ok(1), Ok(0), Ok(5), Ok(0), Err(NOT_SUPPORTED)]
    );
    assert_eq!(
        device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).code(),
        Ok(5)
    );
    assert_eq!(device.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile).code(), Ok(0));
    node.change(|state| {
        state.driver.fields = 230;
        state.gpus[1].remapped_rows = None;
        state.gpus[1].rules.push(Rule::answer("nvmlDeviceGetFieldValues/4", 15));
    });
    let after = read(&device);
    assert_eq!(after[0], Err(INVALID_ARGUMENT), "an older driver does not know the field");
    assert_eq!(after[1..5], [Err(NOT_SUPPORTED); 4]);
    assert_eq!(after[5], Err(GPU_IS_LOST));
}

#[test]
fn mig_devices_are_enumerated_with_their_ids_and_attributes() {
    let node = Node::new(profiles::h100x8_mig_mixed());
    let nvml = node.nvml();
    let gpu = nvml.device_by_index(0).expect("GPU 0");
    assert!(gpu.mig_mode().is_ok_and(|mode| mode.current == 1 && mode.pending == 1));
    assert_eq!(gpu.mig_device_count().code(), Ok(7));
    let devices = &node.state.gpus[0].mig.as_ref().expect("MIG").devices;
    assert_eq!(devices.len(), 4);
    let raw = node.raw();
    let parent = raw.by_index(0).expect("GPU 0");
    for (index, mig) in (0..).zip(devices) {
        let device = gpu.mig_device_by_index(index).expect("a MIG device");
        assert_eq!(device.uuid().code().as_ref(), Ok(&mig.uuid));
        assert_eq!(device.name().code().as_ref().ok(), mig.name.as_ref());
        assert_eq!(device.mig_is_mig_device_handle().code(), Ok(true));
        assert_eq!(
            device.mig_parent_device().code().and_then(|parent| parent.uuid().code()),
            gpu.uuid().code()
        );
        assert_eq!(device.index().code(), Ok(index));
        assert_eq!(device.minor_number().code(), Err(NOT_SUPPORTED));
        let attributes = device.attributes().expect("attributes");
        assert_eq!(attributes.gpu_instance_slice_count, mig.gpu_slices);
        assert_eq!(attributes.compute_instance_slice_count, mig.compute_slices);
        assert_eq!(attributes.memory_size_mb, mig.memory_mib);
        assert_eq!(attributes.multiprocessor_count, mig.multiprocessors);
        assert_eq!(
            device.memory_info().map(|memory| memory.total).code(),
            Ok(mig.memory_mib << 20)
        );
        let handle = raw.by_uuid(&mig.uuid).expect("by UUID");
        assert_eq!(raw.nth("nvmlDeviceGetMigDeviceHandleByIndex", parent, index), Ok(handle));
        assert_eq!(raw.of("nvmlDeviceGetGpuInstanceId", handle), Ok(mig.gpu_instance));
        assert_eq!(raw.of("nvmlDeviceGetComputeInstanceId", handle), Ok(mig.compute_instance));
    }
    assert_eq!(gpu.mig_device_by_index(4).map(|_| ()).code(), Err(NOT_FOUND));
    assert_eq!(gpu.mig_is_mig_device_handle().code(), Ok(false));
    assert_eq!(gpu.mig_parent_device().map(|_| ()).code(), Err(INVALID_ARGUMENT));
    assert_eq!(gpu.attributes().map(|_| ()).code(), Err(NOT_SUPPORTED));
    let off = nvml.device_by_index(7).expect("GPU 7");
    assert!(off.mig_mode().is_ok_and(|mode| mode.current == 0));
    assert_eq!(off.mig_device_by_index(0).map(|_| ()).code(), Err(NOT_FOUND));
}

/// `nvmlGpuInstanceInfo_t`
#[repr(C)]
#[derive(Debug, Default, PartialEq, Eq)]
struct GpuInstanceInfo {
    device: usize,
    id: u32,
    profile_id: u32,
    placement: (u32, u32),
}

/// `nvmlComputeInstanceInfo_t`
#[repr(C)]
#[derive(Debug, Default, PartialEq, Eq)]
struct ComputeInstanceInfo {
    device: usize,
    gpu_instance: usize,
    id: u32,
    profile_id: u32,
    placement: [u32; 2],
}

#[test]
fn instances_can_be_reached_and_named() {
    let node = Node::new(profiles::h100x8_mig_mixed());
    let nvml = node.raw();
    nvml.init();
    let gpu = nvml.by_index(0).expect("GPU 0");
    let by_id = |id| nvml.nth::<usize>("nvmlDeviceGetGpuInstanceById", gpu, id);
    let instance = by_id(3).expect("the 2g.20gb");
    let info: GpuInstanceInfo = nvml.of("nvmlGpuInstanceGetInfo", instance).expect("info");
    assert_eq!(info, GpuInstanceInfo { device: gpu, id: 3, profile_id: 14, placement: (4, 2) });
    assert_eq!(by_id(5), Err(NOT_FOUND));
    let compute: usize =
        nvml.nth("nvmlGpuInstanceGetComputeInstanceById", instance, 0).expect("compute instance");
    let info: ComputeInstanceInfo =
        nvml.of("nvmlComputeInstanceGetInfo_v2", compute).expect("info");
    let expected = ComputeInstanceInfo {
        device: gpu,
        gpu_instance: instance,
        id: 0,
        profile_id: 1,
        placement: [0, 2],
    };
    assert_eq!(info, expected);
    assert_eq!(nvml.call1("nvmlDeviceGetBoardId", instance), INVALID_ARGUMENT);
    assert_eq!(nvml.null("nvmlGpuInstanceGetInfo", gpu), INVALID_ARGUMENT);
    // id, P2P, slices, instances, multiprocessors, three engines, JPEG, OFA; memory in the last two
    // words.
    let profile =
        |profile| nvml.nth::<[u32; 12]>("nvmlDeviceGetGpuInstanceProfileInfo", gpu, profile);
    assert_eq!(profile(1).map(|info| (info[0], info[2], info[3], info[4])), Ok((14, 2, 3, 32)));
    assert_eq!(profile(5).map(|info| info[0]), Err(NOT_SUPPORTED));
    assert_eq!(profile(99).map(|info| info[0]), Err(INVALID_ARGUMENT));
    let mut versioned = [0_u32; 39];
    versioned[0] = size_of::<sys::nvmlGpuInstanceProfileInfo_v2_t>() as u32 | 2 << 24;
    assert_eq!(versioned[0], 0x0200_0098);
    let mut name = None;
    for number in 0..17 {
        let asked = Versioned { profile: number, info: versioned };
        name = name.or(asked.name(&nvml, gpu, 20));
    }
    assert_eq!(name.as_deref(), Some("MIG 1g.10gb+me"));
}

/// A question for one profile in the struct with a name.
struct Versioned {
    profile: u32,
    info: [u32; 39],
}

impl Versioned {
    /// The profile's name if its id is this one.
    fn name(&self, nvml: &Raw, gpu: usize, id: u32) -> Option<String> {
        let info = nvml
            .nth_fill("nvmlDeviceGetGpuInstanceProfileInfoV", gpu, self.profile, self.info)
            .ok()?;
        let bytes: Vec<u8> = info[14..38].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let text = bytes.split(|byte| *byte == 0).next()?.to_vec();
        String::from_utf8(text).ok().filter(|_| info[1] == id)
    }
}

#[test]
fn a_mig_device_that_is_gone_is_not_found() {
    let mut node = Node::new(profiles::h100x8_mig_single());
    let nvml = node.raw();
    nvml.init();
    let uuid = node.state.gpus[0].mig.as_ref().expect("MIG").devices[3].uuid.clone();
    let mig = nvml.by_uuid(&uuid).expect("by UUID");
    assert_eq!(nvml.of("nvmlDeviceGetIndex", mig), Ok(3));
    node.gpu(0, |gpu| gpu.mig = Some(fake_nvml::state::Mig::default()));
    assert_eq!(nvml.of::<u32>("nvmlDeviceGetIndex", mig), Err(NOT_FOUND));
    assert_eq!(nvml.by_uuid(&uuid), Err(NOT_FOUND));
    node.gpu(1, |gpu| gpu.lost = true);
    let uuid = &node.state.gpus[1].mig.as_ref().expect("MIG").devices[0].uuid;
    assert_eq!(nvml.by_uuid(uuid), Err(GPU_IS_LOST));
}

#[test]
fn an_error_asked_for_one_mig_device_is_its_own() {
    let mut node = Node::new(profiles::h100x8_mig_single());
    let nvml = node.raw();
    nvml.init();
    node.gpu(0, |gpu| {
        let mig = gpu.mig.as_mut().expect("MIG");
        mig.devices[1].rules = vec![Rule::answer("nvmlDeviceGetMemoryInfo", 16)];
    });
    let memory = |index: usize| {
        let uuid = &node.state.gpus[0].mig.as_ref().expect("MIG").devices[index].uuid;
        nvml.of::<[u64; 3]>("nvmlDeviceGetMemoryInfo", nvml.by_uuid(uuid).expect("by UUID"))
    };
    assert_eq!(memory(1), Err(16));
    assert!(memory(0).is_ok());
}

#[test]
fn places_on_pcie_decide_the_common_ancestor() {
    let node = Node::new(profiles::dgx1_v100());
    let nvml = node.nvml();
    let gpu = |index| nvml.device_by_index(index).expect("a device");
    let level = |one, other| gpu(one).topology_common_ancestor(gpu(other)).code();
    assert_eq!(level(0, 0), Ok(TopologyLevel::Internal));
    assert_eq!(level(0, 1), Ok(TopologyLevel::Single));
    assert_eq!(level(0, 2), Ok(TopologyLevel::HostBridge));
    assert_eq!(level(0, 7), Ok(TopologyLevel::System));
}

#[test]
fn nvlinks_tell_their_other_end() {
    let mut node = Node::new(profiles::dgx1_v100());
    node.gpu(0, |gpu| gpu.nvlinks[5].active = false);
    let nvml = node.nvml();
    let gpu = nvml.device_by_index(0).expect("GPU 0");
    let mut ends = Vec::new();
    for number in 0..5 {
        let link = gpu.link_wrapper_for(number);
        assert_eq!(link.is_active().code(), Ok(true));
        assert_eq!(link.version().code(), Ok(2));
        assert_eq!(remote_type(&node.raw(), 0, number), Ok(0));
        ends.push(link.remote_pci_info().expect("the other end").bus_id);
    }
    assert_eq!(ends, ["07", "0A", "0B", "0B", "85"].map(|bus| format!("00000000:{bus}:00.0")));
    assert_eq!(gpu.link_wrapper_for(5).is_active().code(), Ok(false));
    assert!(gpu.link_wrapper_for(5).remote_pci_info().is_err());
    assert_eq!(gpu.link_wrapper_for(6).is_active().code(), Err(NOT_SUPPORTED));
    assert_eq!(gpu.link_wrapper_for(18).is_active().code(), Err(INVALID_ARGUMENT));
    let node = Node::new(profiles::h100x8());
    let nvml = node.nvml();
    assert_eq!(
        nvml.device_by_index(7).expect("GPU 7").link_wrapper_for(17).version().code(),
        Ok(6)
    );
    assert_eq!(remote_type(&node.raw(), 7, 17), Ok(2));
}

/// Raw: nvml-wrapper 0.13 drops what the library wrote.
fn remote_type(nvml: &Raw, gpu: u32, link: u32) -> Result<u32, u32> {
    nvml.nth("nvmlDeviceGetNvLinkRemoteDeviceType", nvml.by_index(gpu)?, link)
}

#[test]
fn exported_functions_name_themselves_to_the_gate() {
    let calls = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/calls");
    let mut functions = 0;
    for file in std::fs::read_dir(calls).expect("src/calls") {
        let text = std::fs::read_to_string(file.expect("an entry").path()).expect("a source file");
        for function in text.split("extern \"C\" fn nvml").skip(1) {
            let name = function.split('(').next().unwrap_or("");
            let told = function.split('"').nth(1).unwrap_or("");
            if name != "ErrorString" {
                assert_eq!(told, format!("nvml{name}"));
                functions += 1;
            }
        }
    }
    assert!(functions > 60, "found {functions}");
}

#[test]
fn mig_indices_have_gaps_and_the_pending_mode_differs() {
    let mut node = Node::new(profiles::h100x8_mig_single());
    node.gpu(0, |gpu| {
        let mig = gpu.mig.as_mut().expect("MIG");
        mig.pending = Some(false);
        mig.devices[1].index = Some(4);
        mig.devices.truncate(2);
    });
    let nvml = node.raw();
    nvml.init();
    let gpu = nvml.by_index(0).expect("GPU 0");
    assert_eq!(nvml.pair("nvmlDeviceGetMigMode", gpu), Ok((1, 0)));
    let device = |index| nvml.nth::<usize>("nvmlDeviceGetMigDeviceHandleByIndex", gpu, index);
    let found: Vec<u32> = (0..7).filter(|index| device(*index).is_ok()).collect();
    assert_eq!(found, [0, 4]);
    assert_eq!(nvml.of("nvmlDeviceGetIndex", device(4).expect("there")), Ok(4));
}

#[test]
fn the_memory_of_a_gpu_in_mig_mode_is_for_the_privileged() {
    let mut node = Node::new(profiles::h100x8_mig_mixed());
    node.change(|state| state.driver.privileged = false);
    let nvml = node.raw();
    nvml.init();
    let memory = |device| nvml.of::<[u64; 3]>("nvmlDeviceGetMemoryInfo", device);
    let (cut, whole) = (nvml.by_index(0).expect("GPU 0"), nvml.by_index(5).expect("GPU 5"));
    assert_eq!(memory(cut), Err(NO_PERMISSION));
    assert!(memory(whole).is_ok());
    let device = nvml.nth("nvmlDeviceGetMigDeviceHandleByIndex", cut, 0).expect("a MIG device");
    assert!(memory(device).is_ok());
}

#[test]
fn each_branch_has_the_functions_of_the_one_before_and_the_recovery_action_came_with_565() {
    let node = Node::new(profiles::h100x8());
    let nvml = node.raw();
    let mut missing = usize::MAX;
    for branch in profiles::BRANCHES {
        assert!(branch.missing().iter().all(|function| nvml.has(function)), "{branch:?}");
        assert!(branch.missing().len() < missing);
        missing = branch.missing().len();
        let mut state = node.state.clone();
        branch.install(&mut state);
        assert_eq!(state.driver.fields > 230, !["R470", "R535", "R550"].contains(&branch.name));
    }
    assert_eq!(missing, 0, "the newest has all");
}
