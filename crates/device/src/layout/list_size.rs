//! How large a device list may be: the kubelet accepts at most 4 MiB in one message and ends the
//! stream at more.

use std::fmt;

use crate::names::DeviceId;

/// The largest message that the kubelet accepts, in bytes (gRPC's default, which it keeps).
pub(crate) const KUBELET_LIMIT: u64 = 4 * 1024 * 1024;

/// Longest id of a device without its replica number, in bytes: `GPU-` or `MIG-` and a UUID.
pub const UUID_LENGTH: u64 = 40;

/// The bytes of one device in the list: its id of `id_length` bytes, `Unhealthy` (the longer word)
/// and one NUMA node.
fn device_bytes(id_length: u64) -> u64 {
    const HEALTH: u64 = 2 + 9;
    const TOPOLOGY: u64 = 2 + 2 + 2;
    let body = field(id_length) + HEALTH + TOPOLOGY;
    field(body)
}

/// The bytes of a length-delimited field with `length` bytes of content: tag, length and content.
fn field(length: u64) -> u64 {
    let mut prefix = 2;
    let mut rest = length >> 7;
    while rest > 0 {
        prefix += 1;
        rest >>= 7;
    }
    prefix + length
}

/// Devices with UUIDs of one length and the same number of replicas (1: not shared).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicatedDevices {
    /// Bytes of the UUID.
    pub uuid_length: u64,
    /// Replicas of each.
    pub replicas: u32,
    /// Number of devices.
    pub devices: u64,
}

impl ReplicatedDevices {
    fn bytes_each(&self) -> u64 {
        device_bytes(id_length(self.uuid_length, self.replicas))
    }

    fn ids(&self) -> u64 {
        self.devices.saturating_mul(u64::from(self.replicas.max(1)))
    }
}

/// The longest id of a device with `replicas` replicas and a UUID of `uuid_length` bytes, in bytes.
fn id_length(uuid_length: u64, replicas: u32) -> u64 {
    match replicas {
        0 | 1 => uuid_length,
        more => uuid_length + 2 + u64::from((more - 1).ilog10()) + 1,
    }
}

/// The most bytes that the entry of this id takes in a list.
pub(crate) fn entry_bytes(id: &DeviceId) -> u64 {
    let replica = id
        .replica_number()
        .map_or(0, |number| 2 + u64::from(number.checked_ilog10().unwrap_or(0)) + 1);
    device_bytes(id.uuid().as_str().len() as u64 + replica)
}

/// A list that is longer than the kubelet accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListTooLarge {
    /// Devices before sharing.
    pub devices: u64,
    /// Replicas of each; `None` if the numbers differ.
    pub replicas: Option<u32>,
    /// Entries of the list.
    pub ids: u64,
    /// Bytes of the longest entry of the list.
    pub bytes_each: u64,
    /// Bytes of all entries.
    pub bytes: u64,
}

impl ListTooLarge {
    /// The most replicas of each device that fit, with entries of the same size.
    fn most_replicas(&self) -> u64 {
        KUBELET_LIMIT / self.devices.max(1).saturating_mul(self.bytes_each.max(1)).max(1)
    }
}

impl fmt::Display for ListTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { devices, replicas, ids, bytes_each, bytes } = self;
        let plural = if *devices == 1 { "" } else { "s" };
        let (list, of_each) = match replicas {
            Some(n) => (format!("{devices} device{plural} x {n} replicas x {bytes_each}"), ""),
            None => (
                format!("{ids} replicas of {devices} device{plural} of up to {bytes_each}"),
                " of each",
            ),
        };
        let most = self.most_replicas();
        write!(
            f,
            "makes a list of {list} bytes = {bytes} bytes, and the kubelet receives at most \
             {KUBELET_LIMIT}; at most {most} replicas{of_each} fit"
        )
    }
}

impl std::error::Error for ListTooLarge {}

/// Checks that the kubelet accepts the list of these devices: with those of a node for that node,
/// with one device for every node.
///
/// # Errors
/// The list is too long.
pub fn check(shared: impl IntoIterator<Item = ReplicatedDevices>) -> Result<(), ListTooLarge> {
    let mut list = ListTooLarge { devices: 0, replicas: None, ids: 0, bytes_each: 0, bytes: 0 };
    for some in shared {
        let replicas = some.replicas.max(1);
        list.replicas = (list.ids == 0 || list.replicas == Some(replicas)).then_some(replicas);
        list.devices = list.devices.saturating_add(some.devices);
        list.ids = list.ids.saturating_add(some.ids());
        list.bytes_each = list.bytes_each.max(some.bytes_each());
        list.bytes = list.bytes.saturating_add(some.ids().saturating_mul(some.bytes_each()));
    }
    if list.bytes <= KUBELET_LIMIT { Ok(()) } else { Err(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_counts_its_id_health_and_numa_node() {
        // Device: tag and length, then ID, health "Unhealthy", topology with one node.
        assert_eq!(device_bytes(40), 2 + (2 + 40) + (2 + 9) + (2 + 2 + 2));
        assert_eq!(id_length(40, 1), 40);
        assert_eq!(id_length(40, 10), 43);
        assert_eq!(id_length(40, 11), 44);
    }

    #[test]
    fn a_length_takes_a_byte_for_each_seven_bits() {
        for (length, prefix) in [(0, 2), (127, 2), (128, 3), (16_383, 3), (16_384, 4)] {
            assert_eq!(field(length), prefix + length);
        }
    }

    #[test]
    fn an_entry_counts_its_own_id() {
        for text in ["GPU-1", "GPU-1::0", "GPU-1::9", "GPU-1::10", "GPU-1::4294967295"] {
            assert_eq!(
                entry_bytes(&text.parse().unwrap()),
                device_bytes(text.len() as u64),
                "{text}"
            );
        }
    }

    fn alike(devices: u64, replicas: u32) -> ReplicatedDevices {
        ReplicatedDevices { uuid_length: UUID_LENGTH, replicas, devices }
    }

    #[test]
    fn a_list_that_fits_passes_and_the_error_of_one_that_does_not_shows_its_arithmetic() {
        assert_eq!(check([alike(16, 128)]), Ok(()));
        assert_eq!(check([alike(56, 10)]), Ok(()));
        assert_eq!(check([]), Ok(()));
        let error = check([alike(8, 10_000)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "makes a list of 8 devices x 10000 replicas x 67 bytes = 5360000 bytes, and the \
             kubelet receives at most 4194304; at most 7825 replicas fit"
        );
        assert!(check([alike(8, u32::try_from(error.most_replicas()).unwrap())]).is_ok());
        assert!(check([alike(u64::MAX, u32::MAX), alike(u64::MAX, 1)]).is_err());
    }

    #[test]
    fn devices_with_different_numbers_of_replicas_are_counted_separately() {
        // On average an id would be two characters shorter, and the list would seem to fit.
        let error = check([alike(100, 1), alike(1, 62_000)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "makes a list of 62100 replicas of 101 devices of up to 68 bytes = 4222100 bytes, and \
             the kubelet receives at most 4194304; at most 610 replicas of each fit"
        );
        assert_eq!(check([alike(100, 1), alike(1, 61_000)]), Ok(()));
    }
}
