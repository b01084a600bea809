//! The answer of podresources, read from its bytes. Pure.
//!
//! Most of an answer is of no use here: CPUs, memory and the devices of other plugins. It is passed
//! over without a copy, so that an answer costs no more memory than its bytes and what is kept, and
//! what is kept has bounds. The numbers of fields are those of `proto/podresources/v1/api.proto`.

use std::collections::{BTreeMap, BTreeSet};

use device::in_use::holders::{DeviceAssignment, Holder};
use device::names::{DeviceId, ResourceName};

/// The most pods of an answer: a hundred times what a node runs (110 by default), since a kubelet
/// before 1.34 lists pods that are over too.
const MOST_PODS: usize = 10_000;
/// The most devices that containers hold, each with each of its containers.
const MOST_ASSIGNMENTS: usize = 8_192;
/// The longest names that Kubernetes allows: of a pod, a DNS subdomain; of a namespace or
/// container, a DNS label.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// The longest name of a resource: a DNS subdomain, a slash and a name.
const LONGEST_RESOURCE: usize = LONGEST_NAME + 1 + LONGEST_LABEL;

/// What pods hold.
#[derive(Debug, Default)]
pub(super) struct PodList {
    /// The pods, each as namespace and name.
    pub(super) pods: BTreeSet<String>,
    /// The devices that they hold, as far as their ids are of the form that this plugin gives.
    pub(super) assignments: Vec<DeviceAssignment>,
}

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    /// It is no message of protobuf.
    #[error("the answer is malformed")]
    Malformed,
    /// It has a name that Kubernetes does not allow.
    #[error("the answer has a name of {0} bytes")]
    LongName(usize),
    /// It has too many pods.
    #[error("the answer has more than {MOST_PODS} pods")]
    TooManyPods,
    /// It has too many devices.
    #[error("by the answer containers hold more than {MOST_ASSIGNMENTS} devices")]
    TooManyDevices,
}

/// The value of a field: text or a message in it, or anything else.
enum Value<'m> {
    Bytes(&'m [u8]),
    Other,
}

/// Reads an answer.
///
/// # Errors
/// It is malformed, or over a bound.
pub(super) fn read(answer: &[u8]) -> Result<PodList, AnswerError> {
    let mut list = PodList::default();
    let mut count = 0;
    for pod in messages(answer, 1) {
        count += 1;
        if count > MOST_PODS {
            return Err(AnswerError::TooManyPods);
        }
        list.add_pod(pod?)?;
    }
    Ok(list)
}

/// How many devices of each resource the kubelet can allocate: those that it counts as Healthy,
/// whether pods hold them or not.
pub type Allocatable = BTreeMap<String, usize>;

/// Reads the answer of GetAllocatableResources; ids that this plugin does not give are passed over,
/// and so is a resource that has no others.
///
/// # Errors
/// It is malformed, or over a bound.
pub(super) fn read_allocatable(answer: &[u8]) -> Result<Allocatable, AnswerError> {
    let mut allocatable = Allocatable::new();
    let mut count = 0;
    // A device of several NUMA nodes can be listed under each.
    let mut seen = BTreeSet::new();
    for devices in messages(answer, 1) {
        let devices = devices?;
        for id in messages(devices, 2).filter_map(own_id) {
            count += 1;
            if count > MOST_ASSIGNMENTS {
                return Err(AnswerError::TooManyDevices);
            }
            let resource = name(devices, 1, LONGEST_RESOURCE)?;
            if seen.insert((resource, id?)) {
                *allocatable.entry(resource.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(allocatable)
}

impl PodList {
    fn add_pod(&mut self, pod: &[u8]) -> Result<(), AnswerError> {
        let (name, namespace) = (name(pod, 1, LONGEST_NAME)?, name(pod, 2, LONGEST_LABEL)?);
        self.pods.insert(format!("{namespace}/{name}"));
        for container in messages(pod, 3) {
            self.add_container(namespace, name, container?)?;
        }
        Ok(())
    }

    fn add_container(
        &mut self,
        namespace: &str,
        pod: &str,
        container: &[u8],
    ) -> Result<(), AnswerError> {
        let name = name(container, 1, LONGEST_LABEL)?;
        for devices in messages(container, 2) {
            let devices = devices?;
            let mut ids = messages(devices, 2).filter_map(own_id).peekable();
            // The names of other plugins' resources are not looked at.
            if ids.peek().is_none() {
                continue;
            }
            let Ok(resource) = text(devices, 1)?.parse::<ResourceName>() else { continue };
            for id in ids {
                if self.assignments.len() == MOST_ASSIGNMENTS {
                    return Err(AnswerError::TooManyDevices);
                }
                let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
                let holder = Holder { namespace, pod, container: name.to_owned() };
                let (resource, id) = (resource.clone(), id?.to_owned());
                self.assignments.push(DeviceAssignment { resource, id, holder });
            }
        }
        Ok(())
    }
}

/// An id that has the form of those that this plugin gives. Any other could be a path, or another
/// word of NVIDIA's container runtime.
fn own_id(id: Result<&[u8], AnswerError>) -> Option<Result<&str, AnswerError>> {
    match id {
        Ok(id) => std::str::from_utf8(id).ok().filter(|id| DeviceId::is_well_formed(id)).map(Ok),
        Err(error) => Some(Err(error)),
    }
}

/// The text of a field, of which the last counts; empty without one.
fn text(message: &[u8], number: u64) -> Result<&str, AnswerError> {
    let last = messages(message, number).last().transpose()?.unwrap_or_default();
    std::str::from_utf8(last).map_err(|_| AnswerError::Malformed)
}

fn name(message: &[u8], number: u64, longest: usize) -> Result<&str, AnswerError> {
    let name = text(message, number)?;
    if name.len() > longest { Err(AnswerError::LongName(name.len())) } else { Ok(name) }
}

/// The texts or messages of one field; an error ends them.
fn messages(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], AnswerError>> {
    let mut rest = message;
    let fields = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest).ok_or(AnswerError::Malformed);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    });
    fields.filter_map(move |field| match field {
        Ok((of, Value::Bytes(bytes))) if of == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Takes the next field of a message: its number and value (protobuf.dev, "Encoding").
fn field<'m>(rest: &mut &'m [u8]) -> Option<(u64, Value<'m>)> {
    let key = varint(rest)?;
    let length = match key & 7 {
        0 => {
            varint(rest)?;
            0
        }
        1 => 8,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (value, after) = rest.split_at_checked(length)?;
            *rest = after;
            return Some((key >> 3, Value::Bytes(value)));
        }
        5 => 4,
        // Groups, which version 3 of the language does not have.
        _ => return None,
    };
    *rest = rest.get(length..)?;
    Some((key >> 3, Value::Other))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A field with bytes.
    fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut length = value.len();
        while length >= 0x80 {
            field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        field.push(u8::try_from(length).unwrap());
        field.extend(value);
        field
    }

    fn devices(resource: &str, ids: &[&str]) -> Vec<u8> {
        let ids = ids.iter().map(|id| bytes(2, id.as_bytes()));
        let devices: Vec<Vec<u8>> =
            [bytes(1, resource.as_bytes())].into_iter().chain(ids).collect();
        bytes(2, &devices.concat())
    }

    fn container(name: &str, devices: &[Vec<u8>]) -> Vec<u8> {
        // CPUs packed and one by one, memory, and fields to come of each other kind.
        let others = [bytes(3, &[1, 2, 3]), vec![3 << 3, 0xff, 1], bytes(4, b"memory")];
        let later = [vec![9 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0], vec![10 << 3 | 5, 0, 0, 0, 0]];
        bytes(
            3,
            &[others.concat(), devices.concat(), bytes(1, name.as_bytes()), later.concat()]
                .concat(),
        )
    }

    fn pod(namespace: &str, name: &str, containers: &[Vec<u8>]) -> Vec<u8> {
        let names = [bytes(1, name.as_bytes()), bytes(2, namespace.as_bytes())];
        bytes(1, &[names.concat(), containers.concat(), bytes(5, b"one to come")].concat())
    }

    fn seen(list: &PodList) -> Vec<String> {
        let seen = |device: &DeviceAssignment| {
            format!("{} {} {}", device.resource, device.id, device.holder)
        };
        list.assignments.iter().map(seen).collect()
    }

    #[test]
    fn every_device_of_the_form_of_ours_is_read_and_all_else_passed_over() {
        let trainer = [
            container(
                "main",
                &[
                    devices("nvidia.com/gpu", &["GPU-1", "GPU-2"]),
                    devices("example.com/nic", &["a"]),
                ],
            ),
            container(
                "sidecar",
                &[devices("", &["GPU-3"]), devices("nvidia.com/gpu", &["GPU-4::1"])],
            ),
        ];
        let answer =
            [pod("jobs", "idle", &[container("main", &[])]), pod("jobs", "train", &trainer)]
                .concat();
        let list = read(&answer).unwrap();
        assert_eq!(list.pods, BTreeSet::from(["jobs/idle".to_owned(), "jobs/train".to_owned()]));
        assert_eq!(
            seen(&list),
            [
                "nvidia.com/gpu GPU-1 jobs/train/main",
                "nvidia.com/gpu GPU-2 jobs/train/main",
                "nvidia.com/gpu GPU-4::1 jobs/train/sidecar",
            ]
        );
    }

    #[test]
    fn an_id_that_could_be_a_path_or_another_word_of_the_runtime_is_none() {
        let ids = ["all", "none", "void", "../../../etc", "GPU-../../etc", "0", "", "GPU-1,GPU-2"];
        let answer = pod("a", "b", &[container("c", &[devices("nvidia.com/gpu", &ids)])]);
        assert_eq!(seen(&read(&answer).unwrap()), [""; 0]);
    }

    #[test]
    fn sixteen_megabytes_of_anything_are_kept_in_little() {
        const BYTES: usize = 16 << 20;
        let empty_pods = [0x0a, 0].repeat(BYTES / 2);
        assert_eq!(read(&empty_pods).unwrap_err(), AnswerError::TooManyPods);
        let ids = |id: &[u8], all: usize| {
            let ids = bytes(2, id).repeat(all / (id.len() + 2) - 100);
            let devices = bytes(2, &[bytes(1, b"nvidia.com/gpu"), ids].concat());
            bytes(1, &bytes(3, &devices))
        };
        for foreign in [&b""[..], b"a", b"GPU-", b"GPU-!"] {
            let list = read(&ids(foreign, BYTES / 16)).unwrap();
            assert!(list.pods.len() == 1 && list.assignments.is_empty());
        }
        assert_eq!(read(&ids(b"GPU-1", BYTES)).unwrap_err(), AnswerError::TooManyDevices);
        let cpus = bytes(1, &bytes(3, &[3 << 3, 0].repeat(BYTES / 32)));
        assert!(read(&cpus).unwrap().assignments.is_empty());
    }

    #[test]
    fn a_name_that_kubernetes_does_not_allow_is_an_error() {
        let error = |answer: &[u8]| read(answer).unwrap_err();
        let long = |length: usize| "x".repeat(length);
        assert_eq!(error(&pod("a", &long(254), &[])), AnswerError::LongName(254));
        assert_eq!(error(&pod(&long(64), "b", &[])), AnswerError::LongName(64));
        let named = container(&long(64), &[]);
        assert_eq!(error(&pod("a", "b", &[named])), AnswerError::LongName(64));
        assert_eq!(error(&bytes(1, &bytes(1, &[0xff]))), AnswerError::Malformed);
        assert!(read(&pod(&long(63), &long(253), &[])).is_ok());
    }

    #[test]
    fn an_answer_that_is_cut_off_is_malformed() {
        let answer = pod("a", "b", &[container("c", &[devices("nvidia.com/gpu", &["GPU-1"])])]);
        assert!(read(&answer).is_ok() && read(&[]).is_ok());
        for cut in 1..answer.len() {
            assert_eq!(read(&answer[..cut]).unwrap_err(), AnswerError::Malformed, "{cut}");
        }
        for malformed in [&[0x0b_u8, 0x0c][..], &[0xff; 11], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            assert_eq!(read(malformed).unwrap_err(), AnswerError::Malformed);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
