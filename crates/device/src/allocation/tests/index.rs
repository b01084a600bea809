//! Tests of the lookup by id.

use crate::allocation::AllocationPolicy;
use crate::allocation::index::{AllocationIndex, IndexEntry};
use crate::names::DeviceId;
use crate::topology::Topology;

fn index(ids: &[&str]) -> AllocationIndex {
    let entries = ids.iter().map(|id| {
        let id: DeviceId = id.parse().unwrap();
        IndexEntry {
            gpu: id.uuid().clone(),
            gpu_index: u32::from(id.uuid().as_str().as_bytes()[4]),
            id,
        }
    });
    AllocationIndex::new(entries, &Topology::default(), AllocationPolicy::default())
}

#[test]
fn every_id_is_found_and_no_text_that_is_none() {
    let ids = [
        "GPU-a",
        "GPU-b::0",
        "GPU-b::1",
        "GPU-b::2",
        "GPU-c",
        "GPU-c::0",
        "GPU-d::3",
        "GPU-d::70",
        "MIG-e::0",
    ];
    let index = index(&ids);
    for id in ids {
        let at = index.find(id).unwrap();
        assert_eq!(&*index.devices[at].id, id);
    }
    for id in [
        "",
        ":",
        "::",
        "::0",
        "GPU-a::0",
        "GPU-b",
        "GPU-b::3",
        "GPU-b::01",
        "GPU-b::+1",
        "GPU-b::",
        "GPU-b:0",
        "GPU-b::-1",
        "GPU-b:::0",
        "GPU-b::0::0",
        "GPU-d::0",
        "GPU-d::4294967296",
        "GPU-d::4294967295",
        "gpu-a",
        "GPU-a ",
        "é::0",
    ] {
        assert_eq!(index.find(id), None, "{id:?}");
    }
}
