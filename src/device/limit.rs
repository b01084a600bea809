//! How large a device list may be: the kubelet receives at most 4 MiB in one message and ends the stream at more.

use std::fmt;

/// The largest message that the kubelet receives (gRPC's default, which it does not change).
pub const KUBELET_LIMIT: u64 = 4 * 1024 * 1024;

/// Longest id of a device without its replica number: `GPU-` or `MIG-` and a UUID.
pub const UUID_LENGTH: u64 = 40;

/// The bytes of one device in the list: its id of `id_length` bytes, `Unhealthy` (the longer word) and one NUMA node.
#[must_use]
pub fn device_bytes(id_length: u64) -> u64 {
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

/// The bytes of a list of `devices` whose ids have at most `id_length` bytes.
#[must_use]
pub fn list_bytes(devices: u64, id_length: u64) -> u64 {
    devices.saturating_mul(device_bytes(id_length))
}

/// The length of the id of a device with `replicas` replicas, whose UUID has `uuid_length` characters.
#[must_use]
pub fn id_length(uuid_length: u64, replicas: u32) -> u64 {
    match replicas {
        0 | 1 => uuid_length,
        more => uuid_length + 2 + u64::from((more - 1).ilog10()) + 1,
    }
}

/// A list that the kubelet would not receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Devices before sharing.
    pub devices: u64,
    /// Replicas of each.
    pub replicas: u32,
    /// Bytes of one entry of the list.
    pub bytes_each: u64,
}

impl TooLarge {
    /// The most replicas of each device with which the list still fits, by the same size of an entry.
    #[must_use]
    pub fn most_replicas(&self) -> u64 {
        KUBELET_LIMIT / self.devices.max(1).saturating_mul(self.bytes_each.max(1)).max(1)
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { devices, replicas, bytes_each } = self;
        let total = devices.saturating_mul(u64::from(*replicas)).saturating_mul(*bytes_each);
        let plural = if *devices == 1 { "" } else { "s" };
        write!(
            f,
            "makes a list of {devices} device{plural} x {replicas} replicas x {bytes_each} bytes = {total} bytes, and the \
             kubelet receives at most {KUBELET_LIMIT}; at most {} replicas fit",
            self.most_replicas()
        )
    }
}

impl std::error::Error for TooLarge {}

/// Whether the kubelet receives the list of `devices` with `replicas` of each (1: not shared), whose UUIDs have
/// `uuid_length` characters. With the node's own numbers it answers for the node; with one device, for every node.
pub fn check(devices: u64, replicas: u32, uuid_length: u64) -> Result<(), TooLarge> {
    let replicas = replicas.max(1);
    let id = id_length(uuid_length, replicas);
    if list_bytes(devices.saturating_mul(u64::from(replicas)), id) <= KUBELET_LIMIT {
        return Ok(());
    }
    Err(TooLarge { devices, replicas, bytes_each: device_bytes(id) })
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
    fn what_fits_is_let_through_and_the_message_of_what_does_not_shows_its_arithmetic() {
        assert_eq!(check(16, 128, UUID_LENGTH), Ok(()));
        assert_eq!(check(56, 10, UUID_LENGTH), Ok(()));
        let error = check(8, 10_000, UUID_LENGTH).unwrap_err();
        assert_eq!(
            error.to_string(),
            "makes a list of 8 devices x 10000 replicas x 67 bytes = 5360000 bytes, and the kubelet receives at most \
             4194304; at most 7825 replicas fit"
        );
        assert!(check(8, u32::try_from(error.most_replicas()).unwrap(), UUID_LENGTH).is_ok());
        assert!(check(u64::MAX, u32::MAX, UUID_LENGTH).is_err());
    }
}
