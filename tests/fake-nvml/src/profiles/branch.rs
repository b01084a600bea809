//! Driver branches: which functions and field values each has.
//!
//! Of field values only the largest number is told. It is exact for 580; for the others it lies
//! between the fields that the branch is known to have and those that came after it.

use crate::state::State;

/// A branch of NVIDIA's driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// As NVIDIA calls it, e.g. "R470".
    pub name: &'static str,
    number: u32,
    version: &'static str,
    cuda_version: i32,
    fields: u32,
}

/// The branches that clusters run, from the oldest that the plugin supports to the newest.
#[rustfmt::skip]
pub const BRANCHES: &[Branch] = &[
    branch(470, "R470", "470.256.02", 11_040, 161),
    branch(535, "R535", "535.274.02", 12_020, 187),
    branch(550, "R550", "550.163.01", 12_040, 216),
    branch(565, "R565", "565.57.01",  12_070, 251),
    branch(580, "R580", "580.95.05",  13_000, 274),
    branch(615, "R615", "615.20",     13_030, 300),
];

/// The functions that came with a branch, or with one between it and the branch before it.
const SINCE: &[(u32, &[&str])] = &[
    (
        535,
        &[
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetGpuFabricInfo",
            "nvmlDeviceGetGpuInstanceProfileInfoV",
            "nvmlDeviceGetGraphicsRunningProcesses_v3",
            "nvmlDeviceGetMemoryInfo_v2",
            "nvmlDeviceGetNvLinkRemoteDeviceType",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlGpuInstanceGetComputeInstanceProfileInfoV",
        ],
    ),
    (550, &["nvmlDeviceGetGpuFabricInfoV", "nvmlDeviceGetSramEccErrorStatus"]),
    (565, &["nvmlDeviceGetCapabilities", "nvmlDeviceGetNumaNodeId"]),
    (
        580,
        &[
            "nvmlDeviceGetAddressingMode",
            "nvmlDeviceGetHandleByUUIDV",
            "nvmlDeviceGetRepairStatus",
            "nvmlDeviceGetTemperatureV",
            "nvmlSystemEventSetCreate",
            "nvmlSystemEventSetFree",
            "nvmlSystemEventSetWait",
        ],
    ),
    (
        615,
        &[
            "nvmlDeviceGetBankRemapperStatus_v1",
            "nvmlDeviceGetMemoryLimits_v1",
            "nvmlDeviceGetNvLinkTelemetrySamples_v1",
            "nvmlDeviceSetMemoryLimits_v1",
            "nvmlEventSetGetContextCount_v1",
            "nvmlEventSetGetContextData_v1",
            "nvmlEventSetGetContextInfo_v1",
            "nvmlEventSetRegisterGpuOperationalEvents_v1",
            "nvmlEventSetWait_v3",
        ],
    ),
];

impl Branch {
    /// The branch of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        BRANCHES.iter().find(|branch| branch.name == name).copied()
    }

    /// The functions that the branch does not have and the library of this crate has. To take them
    /// out of it is for who installs it.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let later = SINCE.iter().filter(|(since, _)| *since > self.number);
        later.flat_map(|(_, functions)| functions.iter().copied()).collect()
    }

    /// The same node with a driver of this branch.
    pub fn install(&self, state: &mut State) {
        self.version.clone_into(&mut state.driver.version);
        state.driver.cuda_version = self.cuda_version;
        state.driver.fields = self.fields;
    }
}

const fn branch(
    number: u32,
    name: &'static str,
    version: &'static str,
    cuda_version: i32,
    fields: u32,
) -> Branch {
    Branch { name, number, version, cuda_version, fields }
}
