//! The fake beside a real driver: each answer that was written down on a machine with a GPU, asked
//! of the fake.

#![allow(unsafe_code, reason = "a union of C is read")]

mod common;

use std::collections::BTreeMap;

use fake_nvml::profiles;
use nvml_wrapper_sys::bindings as sys;
use serde::Deserialize;

use common::*;

/// What was written down.
#[derive(Deserialize)]
struct Real {
    driver: String,
    nvml: String,
    cuda: i32,
    count: u32,
    name: String,
    minor: u32,
    pci: Pci,
    memory_total: u64,
    compute_capability: (i32, i32),
    architecture: u32,
    brand: u32,
    persistence_mode: u32,
    mig_mode: (u32, u32),
    max_mig_devices: u32,
    is_mig_device: u32,
    supported_event_types: u64,
    remapped_rows: [u32; 4],
    ecc_mode: (u32, u32),
    fabric_v2: Fabric,
    fabric_v3: Fabric,
    fields: Vec<Field>,
    nvlinks: BTreeMap<u32, BTreeMap<String, u32>>,
    gpu_instance_profiles: BTreeMap<u32, Profile>,
    codes: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pci {
    bus_id: String,
    pci_device_id: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fabric {
    status: u32,
    clique_id: u32,
    state: u32,
    health_mask: u32,
    #[serde(default)]
    health_summary: u32,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Field {
    field: u32,
    code: u32,
    #[serde(rename = "type")]
    value_type: u32,
    value: u64,
}

#[derive(Deserialize)]
struct Profile {
    code: u32,
    value: Option<ProfileInfo>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct ProfileInfo {
    id: u32,
    slice_count: u32,
    instance_count: u32,
    multiprocessor_count: u32,
    copy_engine_count: u32,
    decoder_count: u32,
    encoder_count: u32,
    jpeg_count: u32,
    ofa_count: u32,
    #[serde(rename = "memorySizeMB")]
    memory_size_mb: u64,
    name: String,
}

fn h200() -> (Real, Node, Raw, usize) {
    let real: Real =
        serde_json::from_str(include_str!("real/h200_580_159.json")).expect("the file is ours");
    let mut node = Node::new(profiles::h200x1());
    node.change(|state| state.driver.version.clone_from(&real.driver));
    let raw = node.raw();
    assert_eq!(raw.init(), SUCCESS);
    let gpu = raw.by_index(0).expect("GPU 0");
    (real, node, raw, gpu)
}

#[test]
fn a_gpu_says_who_it_is_as_a_real_one_does() {
    let (real, _node, raw, gpu) = h200();
    assert_eq!(raw.text("nvmlSystemGetDriverVersion", None, 80), Ok(real.driver));
    assert_eq!(raw.text("nvmlSystemGetNVMLVersion", None, 80), Ok(real.nvml));
    assert_eq!(raw.out("nvmlSystemGetCudaDriverVersion_v2"), Ok(real.cuda));
    assert_eq!(raw.out("nvmlDeviceGetCount_v2"), Ok(real.count));
    assert_eq!(raw.text("nvmlDeviceGetName", Some(gpu), 96), Ok(real.name));
    assert_eq!(raw.of("nvmlDeviceGetMinorNumber", gpu), Ok(real.minor));
    assert_eq!(raw.of("nvmlDeviceGetArchitecture", gpu), Ok(real.architecture));
    assert_eq!(raw.of("nvmlDeviceGetBrand", gpu), Ok(real.brand));
    assert_eq!(raw.of("nvmlDeviceGetPersistenceMode", gpu), Ok(real.persistence_mode));
    assert_eq!(raw.of("nvmlDeviceIsMigDeviceHandle", gpu), Ok(real.is_mig_device));
    assert_eq!(raw.of("nvmlDeviceGetMaxMigDeviceCount", gpu), Ok(real.max_mig_devices));
    assert_eq!(raw.pair("nvmlDeviceGetMigMode", gpu), Ok(real.mig_mode));
    assert_eq!(raw.pair("nvmlDeviceGetEccMode", gpu), Ok(real.ecc_mode));
    let (major, minor) = real.compute_capability;
    assert_eq!(
        raw.pair("nvmlDeviceGetCudaComputeCapability", gpu),
        Ok((major as u32, minor as u32))
    );
    let memory: [u64; 3] = raw.of("nvmlDeviceGetMemoryInfo", gpu).expect("memory");
    assert_eq!(memory[0], real.memory_total);
    let nvml = nvml_of(&raw, gpu);
    assert_eq!((nvml.0, nvml.1), (real.pci.bus_id, real.pci.pci_device_id));
}

/// Bus id and device id of `nvmlDeviceGetPciInfo_v3`: the old bus id of 16 bytes, four numbers, the
/// one asked for, one more, and the bus id of 32 bytes.
fn nvml_of(raw: &Raw, gpu: usize) -> (String, u32) {
    let words: [u32; 17] = raw.of("nvmlDeviceGetPciInfo_v3", gpu).expect("PCI");
    let bytes: Vec<u8> = words[9..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    (String::from_utf8(bytes).expect("ASCII"), words[7])
}

#[test]
fn a_gpu_says_how_it_is_as_a_real_one_does() {
    let (real, _node, raw, gpu) = h200();
    assert_eq!(raw.of("nvmlDeviceGetSupportedEventTypes", gpu), Ok(real.supported_event_types));
    assert_eq!(raw.four("nvmlDeviceGetRemappedRows", gpu), Ok(real.remapped_rows));
    let fabric = |version| {
        let mut info = [0_u32; 10];
        info[0] = version;
        raw.fill("nvmlDeviceGetGpuFabricInfoV", gpu, info)
    };
    for (version, expected) in [(0x0200_0024, real.fabric_v2), (0x0300_0028, real.fabric_v3)] {
        let answer = fabric(version).map(|info| info[5..].to_vec());
        let Fabric { status, clique_id, state, health_mask, health_summary } = expected;
        assert_eq!(answer, Ok(vec![status, clique_id, state, health_mask, health_summary]));
    }
}

#[test]
fn field_values_have_the_codes_and_types_of_real_ones() {
    let (real, _node, raw, gpu) = h200();
    for expected in real.fields {
        // SAFETY: the struct is plain numbers.
        let mut asked: sys::nvmlFieldValue_t = unsafe { std::mem::zeroed() };
        asked.fieldId = expected.field;
        let answer = raw.field(gpu, asked);
        assert_eq!(answer.nvmlReturn, expected.code, "field {}", expected.field);
        if expected.code == SUCCESS {
            assert_eq!(answer.valueType, expected.value_type, "field {}", expected.field);
            let value = match answer.valueType {
                // SAFETY: every bit pattern is a number.
                1 => u64::from(unsafe { answer.value.uiVal }),
                // SAFETY: as above.
                _ => unsafe { answer.value.ullVal },
            };
            // Counters differ between machines and are left out.
            let counts = expected.field == sys::field_id::NVML_FI_DEV_PCIE_REPLAY_COUNTER;
            assert!(counts || value == expected.value, "field {}", expected.field);
        }
    }
}

#[test]
fn what_is_refused_is_refused_with_the_same_codes() {
    let (real, _node, raw, gpu) = h200();
    let code = |what: &str| real.codes[what];
    let of = |result: Result<usize, u32>| result.err().unwrap_or(SUCCESS);
    assert_eq!(
        of(raw.by_uuid("GPU-00000000-0000-0000-0000-000000000000")),
        code("handle by an unknown UUID")
    );
    assert_eq!(of(raw.by_uuid("nobody")), code("handle by a text that is no UUID"));
    assert_eq!(of(raw.by_index(1)), code("handle by an index beyond the last"));
    let number = |name| raw.of::<u32>(name, gpu).err().unwrap_or(SUCCESS);
    assert_eq!(number("nvmlDeviceGetRetiredPagesPendingStatus"), code("retired pages pending"));
    assert_eq!(number("nvmlDeviceGetNumaNodeId"), code("NUMA node id"));
    let mig = raw.nth::<usize>("nvmlDeviceGetMigDeviceHandleByIndex", gpu, 0);
    assert_eq!(of(mig), code("MIG device by index, MIG mode off"));
    for (link, codes) in real.nvlinks {
        let asked = |name| raw.nth::<[u32; 24]>(name, gpu, link).err().unwrap_or(SUCCESS);
        for (question, expected) in codes {
            let answer = match question.as_str() {
                "state" => asked("nvmlDeviceGetNvLinkState"),
                "version" => asked("nvmlDeviceGetNvLinkVersion"),
                "remote_pci" => asked("nvmlDeviceGetNvLinkRemotePciInfo_v2"),
                "remote_type" => asked("nvmlDeviceGetNvLinkRemoteDeviceType"),
                _ => raw.capability(gpu, link, 0).err().unwrap_or(SUCCESS),
            };
            assert_eq!(answer, expected, "{question} of link {link}");
        }
    }
    let types = real.supported_event_types;
    let set = raw.event_set().expect("a set");
    assert_eq!(raw.register(gpu, types | 1 << 40, set), code("register events, one not supported"));
    assert_eq!(raw.register(gpu, 0, set), code("register no events"));
    assert_eq!(raw.register(gpu, types, set), code("register events"));
    assert_eq!(raw.register(gpu, types, set), code("register events again"));
    assert_eq!(raw.shutdown(), SUCCESS);
    assert_eq!(raw.out::<u32>("nvmlDeviceGetCount_v2").err(), Some(code("a call after shutdown")));
}

#[test]
fn gpu_instance_profiles_are_those_of_a_real_gpu() {
    let (real, _node, raw, gpu) = h200();
    for (number, expected) in real.gpu_instance_profiles {
        let mut asked = [0_u32; 39];
        asked[0] = size_of::<sys::nvmlGpuInstanceProfileInfo_v2_t>() as u32 | 2 << 24;
        let answer = raw.nth_fill("nvmlDeviceGetGpuInstanceProfileInfoV", gpu, number, asked);
        assert_eq!(answer.err().unwrap_or(SUCCESS), expected.code, "profile {number}");
        assert_eq!(answer.ok().map(info), expected.value, "profile {number}");
    }
}

fn info(words: [u32; 39]) -> ProfileInfo {
    let name = words[14..38]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    ProfileInfo {
        id: words[1],
        slice_count: words[3],
        instance_count: words[4],
        multiprocessor_count: words[5],
        copy_engine_count: words[6],
        decoder_count: words[7],
        encoder_count: words[8],
        jpeg_count: words[9],
        ofa_count: words[10],
        memory_size_mb: u64::from(words[12]) | u64::from(words[13]) << 32,
        name: String::from_utf8(name).expect("ASCII"),
    }
}
