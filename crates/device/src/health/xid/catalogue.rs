//! The catalogue: every Xid that is in use, with its class and with the action that NVIDIA
//! recommends.

use super::class::XidClass;

/// What NVIDIA's catalogue recommends as the immediate action for an Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NvidiaAction {
    /// To restart the application.
    RestartApp,
    /// Nothing.
    Ignore,
    /// A reset of the GPU.
    ResetGpu,
    /// A reboot of the node.
    RestartNode,
    /// A restart of the virtual machine.
    RestartVm,
    /// To look at cables and seating.
    CheckMechanicals,
    /// To update the driver and the firmware.
    UpdateSoftware,
    /// To look at unified memory.
    CheckUvm,
    /// To ask NVIDIA.
    ContactSupport,
    /// The procedure for Xid 45.
    FollowXid45,
    /// The procedure for Xid 48.
    FollowXid48,
    /// The procedure for NVLink errors of Hopper and before.
    DecodeNvlink,
    /// The procedure for errors of NVLink 5.
    DecodeNvlink5,
    /// What the text of Xid 154 names.
    ReadXid154,
    /// None is stated.
    Unstated,
}

impl NvidiaAction {
    /// The catalogue's word for it; `None` where it has none.
    #[must_use]
    pub fn as_str(self) -> Option<&'static str> {
        Some(match self {
            Self::RestartApp => "RESTART_APP",
            Self::Ignore => "IGNORE",
            Self::ResetGpu => "RESET_GPU",
            Self::RestartNode => "RESTART_BM",
            Self::RestartVm => "RESTART_VM",
            Self::CheckMechanicals => "CHECK_MECHANICALS",
            Self::UpdateSoftware => "UPDATE_SWFW",
            Self::CheckUvm => "CHECK_UVM",
            Self::ContactSupport => "CONTACT_SUPPORT",
            Self::FollowXid45 => "WORKFLOW_XID_45",
            Self::FollowXid48 => "WORKFLOW_XID_48",
            Self::DecodeNvlink => "WORKFLOW_NVLINK_ERR",
            Self::DecodeNvlink5 => "WORKFLOW_NVLINK5_ERR",
            Self::ReadXid154 => "XID_154",
            Self::Unstated => return None,
        })
    }

    /// What to do, in words of our own.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::RestartApp => "restart the application",
            Self::Ignore => "nothing",
            Self::ResetGpu => "reset the GPU",
            Self::RestartNode => "reboot the node",
            Self::RestartVm => "restart the virtual machine",
            Self::CheckMechanicals => "check cables and seating",
            Self::UpdateSoftware => "update driver and firmware",
            Self::CheckUvm => "look for an error of unified memory beside it",
            Self::ContactSupport => "ask NVIDIA's support",
            Self::FollowXid45 => "follow the Xid before it; alone: restart the fabric manager",
            Self::FollowXid48 => "reset the GPU; with Xid 63 or 64: drain the GPU first",
            Self::DecodeNvlink => "decode the registers in the kernel log, then reset or reboot",
            Self::DecodeNvlink5 => "decode the unit and the error status in the kernel log",
            Self::ReadXid154 => "do what the text of the Xid names",
            Self::Unstated => "none is stated",
        }
    }
}

/// Class, NVIDIA's immediate action and meaning of every Xid in use in NVIDIA's Xid catalogue
/// (docs.nvidia.com/deploy/xid-errors); the meanings are in words of our own.
#[rustfmt::skip]
pub(super) fn catalogue(xid: u32) -> (XidClass, NvidiaAction, &'static str) {
    use NvidiaAction::*;
    use XidClass::*;

    match xid {
        8 => (App, RestartApp, "a channel sat idle past its limit"),
        11 | 25 => (App, RestartApp, "malformed push buffer"),
        13 => (App, RestartApp, "exception in a graphics or compute engine"),
        14 => (Info, Ignore, "a report without an error behind it"),
        31 => (App, RestartApp, "memory page fault of an application"),
        32 => (App, RestartApp, "corrupt push buffer seen by the host engine"),
        37 => (Info, Ignore, "FECS was given a method that it does not know"),
        38 => (Info, Ignore, "FECS watchdog"),
        39..=41 | 70..=72 | 75..=77 | 85 | 126..=135 => (App, RestartApp, "copy engine error"),
        43 => (Info, Ignore, "a channel was reset and its application ended"),
        44 => (Info, Ignore, "fault while switching contexts"),
        45 => (Companion, FollowXid45, "channels removed after an earlier error"),
        46 => (Fatal, ResetGpu, "the GPU stopped processing"),
        48 => (Fatal, FollowXid48, "double-bit ECC error"),
        54 => (Sticky, CheckMechanicals, "auxiliary power is not connected"),
        60 => (App, RestartApp, "exception in a video or security engine"),
        62 => (Fatal, ResetGpu, "the power management unit halted"),
        63 => (Pending, Ignore, "a memory row is to be remapped, or a page retired"),
        64 => (Fatal, ResetGpu, "a memory row could not be remapped, or a page not retired"),
        66 | 67 => (Info, Ignore, "illegal access by the driver"),
        68 => (App, RestartApp, "exception in video decoder 0"),
        69 => (App, RestartApp, "graphics class error"),
        74 => (Presumed, DecodeNvlink, "NVLink error"),
        78 => (Config, UpdateSoftware, "a vGPU could not start"),
        79 => (Lost, RestartNode, "the GPU has fallen off the bus"),
        80 => (App, RestartApp, "corrupt data was sent to the GPU"),
        82 | 99..=105 => (App, RestartApp, "JPEG engine error"),
        83 | 84 | 88 | 89 | 96..=98 => (App, RestartApp, "exception in a video decoder"),
        86 => (App, RestartApp, "exception in the optical flow engine"),
        92 => (Info, Ignore, "many single-bit ECC errors"),
        93 => (Info, Ignore, "the InfoROM nears its write limit"),
        94 => (Contained, RestartApp, "memory error, contained to one application"),
        95 => (Fatal, ResetGpu, "memory error that was not contained"),
        106 | 107 => (Info, Ignore, "test message"),
        109 => (Disputed, ResetGpu, "switching contexts took too long"),
        110 => (Fatal, ResetGpu, "security fault"),
        119 => (Fatal, ResetGpu, "the GPU system processor did not answer in time"),
        120 => (Fatal, ResetGpu, "error in the GPU system processor"),
        121 => (Info, Ignore, "corrected error on the chip-to-chip link"),
        123 => (Suspect, ContactSupport, "the power management unit could not write to its flash"),
        136 => (Fatal, ResetGpu, "an NVLink could not be trained"),
        137 => (App, Ignore, "an application reached over NVLink for what it may not touch"),
        139 => (App, RestartApp, "exception in optical flow engine 1"),
        140 => (Fatal, ResetGpu, "ECC error that was not recovered"),
        141 => (App, Ignore, "error on CUDA's fast path"),
        142 => (Suspect, ContactSupport, "exception in video encoder 3"),
        143 => (Fatal, ResetGpu, "the GPU could not be initialised"),
        144 => (Suspect, DecodeNvlink5, "NVLink 5 error, SAW unit"),
        145 => (Suspect, DecodeNvlink5, "NVLink 5 error, RLW unit"),
        146 => (Suspect, DecodeNvlink5, "NVLink 5 error, TLW unit"),
        147 => (Suspect, DecodeNvlink5, "NVLink 5 error, TREX unit"),
        148 => (Suspect, DecodeNvlink5, "NVLink 5 error, NVLPW unit"),
        149 => (Suspect, DecodeNvlink5, "NVLink 5 error, NETIR unit"),
        150 => (Suspect, DecodeNvlink5, "NVLink 5 error, MSE unit"),
        151 => (Sticky, RestartVm, "confidential computing keys could not be rotated"),
        152 => (Info, Ignore, "memory management fault of a deep learning accelerator"),
        153 => (Info, Ignore, "a deep learning accelerator took too long"),
        154 => (Trigger, ReadXid154, "the recovery action of the GPU changed"),
        155 => (Fatal, ResetGpu, "NVLink error defined by software"),
        156 => (Presumed, ResetGpu, "a resource of the GPU was retired"),
        157 => (Suspect, Ignore, "a resource of the GPU could not be retired"),
        158 => (Fatal, ResetGpu, "a fatal time-out in the GPU"),
        159 => (Suspect, CheckUvm, "error on the coherent interface, without data"),
        160 => (Info, Ignore, "a channel was retired"),
        161 => (Info, Ignore, "a channel could not be retired"),
        162 => (Info, Unstated, "power smoothing is on again"),
        163 => (Info, Unstated, "power smoothing went off"),
        164 => (Info, Unstated, "power smoothing nears the end of its life"),
        165 => (Suspect, Unstated, "power smoothing is at the end of its life"),
        166 => (Suspect, Unstated, "confidential NVLink traffic before it was set up"),
        167 => (Fatal, Unstated, "fatal time-out on PCIe"),
        168 => (Suspect, Unstated, "errors in protected memory: less memory is left"),
        169 => (Fatal, Unstated, "the security processor halted"),
        170 => (Suspect, Unstated, "interrupt in confidential computing mode"),
        171 => (Detail, Unstated, "Xid 48 was an uncorrectable error in DRAM"),
        172 => (Detail, Unstated, "Xid 48 was an uncorrectable error in SRAM"),
        _ => (Suspect, ContactSupport, "not in NVIDIA's catalogue"),
    }
}
