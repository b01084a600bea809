//! What the host of a virtual GPU writes into its PCI configuration space: the version of its own
//! driver.
//!
//! It is a capability of the vendor's kind (PCI Local Bus Specification 3.0, 6.7) that begins with
//! the signature `VF` and goes on with records: the first has the host's driver version and branch,
//! ten bytes each. The kernel shows all 256 bytes to root alone, and 64 to others.

use std::path::Path;

use device::gpu::VgpuHost;
use device::names::PciBusId;

use super::file::{self, Links};

/// The configuration space that capabilities are in, in bytes.
const SPACE: usize = 256;
/// The offset of the status register, and the bit in its first byte that capabilities are there.
const STATUS: (usize, u8) = (0x06, 1 << 4);
/// Where the offset of the first capability stands, and the lowest that one can have.
const FIRST: usize = 0x34;
const LOWEST: usize = 0x40;
/// The id of a capability of the vendor's kind.
const VENDOR: u8 = 0x09;
/// Bytes of a capability's head: id, offset of the next, length, signature.
const HEAD: usize = 5;
const SIGNATURE: &[u8] = b"VF";
/// The id of the record of the host's driver, and the bytes of each of its two texts.
const DRIVER_RECORD: u8 = 0;
const TEXT: usize = 10;

/// What the host says of itself; `None` if the function is no virtual GPU, or if its configuration
/// cannot be read in full.
#[must_use]
pub fn host(sysfs: &Path, id: PciBusId) -> Option<VgpuHost> {
    let path = sysfs.join("bus/pci/devices").join(id.to_string()).join("config");
    let space = file::read_start(&path, Links::Follow, SPACE).ok()?;
    in_space(&space)
}

fn in_space(space: &[u8]) -> Option<VgpuHost> {
    if space.get(STATUS.0)? & STATUS.1 == 0 {
        return None;
    }
    let mut at = usize::from(*space.get(FIRST)?);
    // Each capability takes four bytes at least: a list that is longer goes in a circle.
    for _ in 0..SPACE / 4 {
        // The two low bits are reserved.
        at &= !3;
        let head = space.get(at..)?.get(..HEAD).filter(|_| at >= LOWEST)?;
        let length = usize::from(head[2]);
        if head[0] == VENDOR && head[3..] == *SIGNATURE {
            return driver_record(space.get(at + HEAD..)?.get(..length.checked_sub(HEAD)?)?);
        }
        at = usize::from(head[1]);
    }
    None
}

/// The host's driver in the records of a capability. A record is its id, its length with these two
/// bytes, and its data.
fn driver_record(mut records: &[u8]) -> Option<VgpuHost> {
    while let [id, length, data @ ..] = records {
        let length = usize::from(*length).checked_sub(2)?;
        let (data, rest) = data.split_at_checked(length)?;
        if *id == DRIVER_RECORD {
            let (version, branch) = data.split_at_checked(TEXT)?;
            return Some(VgpuHost {
                driver_version: text(version),
                driver_branch: text(branch.get(..TEXT)?),
            });
        }
        records = rest;
    }
    None
}

/// A text that ends at a zero byte, or with its place.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration space with these capabilities, each at its offset.
    fn space(capabilities: &[(usize, &[u8])]) -> Vec<u8> {
        let mut space = vec![0; SPACE];
        space[STATUS.0] = STATUS.1;
        space[FIRST] = u8::try_from(capabilities[0].0).unwrap();
        for (at, capability) in capabilities {
            space[*at..at + capability.len()].copy_from_slice(capability);
        }
        space
    }

    fn vf(records: &[u8]) -> Vec<u8> {
        let length = u8::try_from(HEAD + records.len()).unwrap();
        [&[VENDOR, 0, length], SIGNATURE, records].concat()
    }

    const DRIVER: &[u8] = b"\x00\x16550.90.05\0r550_40\0\0\0";

    #[test]
    fn the_driver_of_the_host_is_read_wherever_its_record_stands() {
        let expected = Some(VgpuHost {
            driver_version: "550.90.05".to_owned(),
            driver_branch: "r550_40".to_owned(),
        });
        assert_eq!(in_space(&space(&[(0x40, &vf(DRIVER))])), expected);
        let after_another = [b"\x01\x03x".as_slice(), DRIVER].concat();
        let message_interrupts = [0x05, 0x80, 0, 0];
        let list = space(&[(0x60, &message_interrupts), (0x80, &vf(&after_another))]);
        assert_eq!(in_space(&list), expected);
    }

    #[test]
    fn what_is_no_virtual_gpu_or_cut_off_has_no_host() {
        let circle = space(&[(0x40, &[0x01, 0x40, 0, 0, 0])]);
        let other_vendor = space(&[(0x40, b"\x09\x00\x08XX\x00\x16")]);
        let no_record = space(&[(0x40, &vf(b"\x01\x03x"))]);
        let short_record = space(&[(0x40, &vf(b"\x00\x05abc"))]);
        let length_zero = space(&[(0x40, &vf(b"\x01\x00"))]);
        let too_short_for_its_head = space(&[(0x40, b"\x09\x00\x02VF")]);
        let past_the_end = space(&[(0xfc, b"\x09\x00\x1bV")]);
        let below = space(&[(0x08, &vf(DRIVER)[..4])]);
        let mut without_capabilities = space(&[(0x40, &vf(DRIVER))]);
        without_capabilities[STATUS.0] = 0;
        for space in [
            circle,
            other_vendor,
            no_record,
            short_record,
            length_zero,
            too_short_for_its_head,
            past_the_end,
            below,
            without_capabilities,
        ] {
            assert_eq!(in_space(&space), None, "{space:?}");
        }
        let whole = space(&[(0x40, &vf(DRIVER))]);
        // What a user who is not root is shown.
        assert_eq!(in_space(&whole[..64]), None);
        assert_eq!(in_space(&[]), None);
    }
}
