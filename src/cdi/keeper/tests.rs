//! Tests of the files: at every moment a name that Allocate gives is in one of them.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use device::gpu::{Gpu, MigDevice, MigMode};
use device::health::{Moment, NodeObservation};
use device::in_use::usage::InUse;
use device::injection::{DeviceIdStrategy, DeviceListStrategy, Injector};
use device::inventory::InventoryEvent;
use device::names::{DeviceId, ResourceName};
use device::{CdiState, testing};
use proptest::prelude::*;
use tokio::task::yield_now;

use super::*;
use crate::cdi::tests::node::{empty, injector, slice};
use crate::cdi::{HookMode, file_name, validate};
use crate::host::device_nodes::Roots;
use crate::host::driver_files::sample::{VERSION, installation, write};
use crate::host::file_id::FileId;
use crate::host::hook_install::HookPaths;

/// A node with the driver's files, and its inventory.
struct Node {
    root: tempfile::TempDir,
    inventory: Rc<watch::Sender<Arc<Inventory>>>,
    settings: CdiSettings,
    version: Cell<&'static str>,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        installation(root.path(), VERSION);
        fs::create_dir(root.path().join("dev")).unwrap();
        let instance = |minor, gi| {
            let number = 3 + 100 * minor + 10 * gi;
            format!(
                "gpu{minor}/gi{gi}/access {number}\ngpu{minor}/gi{gi}/ci0/access {}\n",
                number + 1
            )
        };
        let minors: String =
            (0..4).flat_map(|minor| (0..8).map(move |gi| instance(minor, gi))).collect();
        write(root.path(), "proc/driver/nvidia-caps/mig-minors", &minors);
        let mut inventory = empty(injector());
        inventory.await_cdi();
        let settings = CdiSettings { driver_root: "/".to_owned(), ..CdiSettings::default() };
        let inventory = Rc::new(watch::channel(Arc::new(inventory)).0);
        Self { root, inventory, settings, version: Cell::new(VERSION) }
    }

    fn keeper(&self) -> Keeper<impl AsyncFn(Arc<CdiNames>) + use<>> {
        let (root, inventory) = (self.root.path(), self.inventory.clone());
        let paths = CdiPaths {
            spec_dir: self.directory(),
            roots: Roots { driver: root.to_owned(), proc: root.join("proc") },
            sysfs: root.join("sys"),
            hook: self.hook(),
            ..CdiPaths::default()
        };
        let publish = async move |names| apply(&inventory, InventoryEvent::Cdi(names));
        Keeper::new(paths, Watches::default(), self.inventory.subscribe(), publish)
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("cdi")
    }

    /// Where the plugin's own hook program is, and where it goes.
    fn hook(&self) -> HookPaths {
        let at = |name| self.root.path().join(name);
        HookPaths { source: at("program"), directory: at("hook"), is_dry_run: false }
    }

    fn file(&self) -> PathBuf {
        self.directory().join(file_name("gpu"))
    }

    async fn update<P: AsyncFn(Arc<CdiNames>)>(&self, keeper: &mut Keeper<P>) {
        let inventory = self.inventory.borrow().clone();
        let version = Some(self.version.get().to_owned());
        keeper.update(inventory, self.settings.clone(), version).await;
    }

    fn now(&self) -> Arc<Inventory> {
        self.inventory.borrow().clone()
    }

    fn list(&self, gpus: impl IntoIterator<Item = Gpu>) {
        apply(&self.inventory, testing::listing(gpus));
        apply(&self.inventory, testing::answers());
    }

    fn change(&self, change: impl FnOnce(&mut Inventory)) {
        self.inventory.send_modify(|inventory| change(Arc::make_mut(inventory)));
    }

    /// The pods of the node have these devices, and no others.
    fn hold(&self, ids: &[&str]) {
        let key = |id: &&str| {
            let resource =
                if id.starts_with("MIG") { "nvidia.com/mig-1g.10gb" } else { "nvidia.com/gpu" };
            ((resource.parse().unwrap(), id.parse().unwrap()), None)
        };
        let devices = ids.iter().map(key).collect();
        self.change(|inventory| drop(inventory.set_in_use(InUse { known: true, devices })));
    }

    fn forget_withdrawn(&self) {
        self.change(|inventory| {
            let withdrawn: Vec<_> = all(inventory)
                .into_iter()
                .filter(|(_, _, device)| device.withdrawn)
                .map(|(resource, id, _)| (resource, id))
                .filter(|key| !inventory.in_use().devices.contains_key(key))
                .collect();
            inventory.forget(&withdrawn);
        });
    }

    fn states(&self) -> Vec<(String, CdiState)> {
        let state = |(_, id, device): (_, DeviceId, device::Device)| (id.to_string(), device.cdi);
        all(&self.now()).into_iter().map(state).collect()
    }

    /// Every name that Allocate gives for a Healthy device is in the file.
    fn check(&self) {
        let (inventory, on_disk) = (self.now(), names(&self.file()));
        for (resource, id, device) in all(&inventory) {
            let Ok(devices) = inventory.allocate(&resource, &[id.to_string()]) else {
                assert!(!inventory.is_healthy(&device), "a Healthy device can be allocated");
                continue;
            };
            for name in inventory.inject(&resource, &devices, || [0; 16]).cdi_devices {
                let name = name.rsplit('=').next().unwrap();
                assert!(on_disk.iter().any(|there| there == name), "{name} is not in {on_disk:?}");
            }
        }
    }
}

fn apply(inventory: &watch::Sender<Arc<Inventory>>, event: InventoryEvent) {
    inventory.send_modify(|inventory| {
        Arc::make_mut(inventory).apply(Moment::default(), event);
    });
}

fn all(inventory: &Inventory) -> Vec<(ResourceName, DeviceId, device::Device)> {
    let of = |resource: &ResourceName| {
        let devices = inventory.devices(resource).into_iter().flatten();
        devices
            .map(|(id, device)| (resource.clone(), id.clone(), device.clone()))
            .collect::<Vec<_>>()
    };
    inventory.resources().flat_map(of).collect()
}

/// The names of the devices in a file.
fn names(file: &Path) -> Vec<String> {
    let Ok(bytes) = fs::read(file) else { return Vec::new() };
    let document = validate::parse(&bytes).expect("no half of a file is ever seen");
    assert_eq!(validate::problems(&document), [""; 0]);
    document.devices.into_iter().map(|device| device.name).collect()
}

fn gpus(indices: impl IntoIterator<Item = u32>) -> Vec<Gpu> {
    indices.into_iter().map(testing::gpu).collect()
}

fn cut(index: u32, slices: Vec<MigDevice>) -> Gpu {
    Gpu { mig_mode: MigMode::On, mig_devices: slices, ..testing::gpu(index) }
}

fn findings(inventory: &Inventory) -> Vec<String> {
    inventory.findings().iter().map(|finding| format!("{}: {finding}", finding.as_str())).collect()
}

async fn break_disk<P>(keeper: &Keeper<P>, is_broken: bool) {
    keeper.thread.submit(move |directory| directory.is_broken = is_broken).await.unwrap();
}

use CdiState::{Awaited, Resolvable, Unresolvable};

#[tokio::test]
async fn a_new_device_is_listed_when_the_file_has_it_and_an_unchanged_one_writes_nothing() {
    let node = Node::new();
    let mut keeper = node.keeper();
    node.list(gpus(0..2));
    assert_eq!(node.states(), [("GPU-0".into(), Awaited), ("GPU-1".into(), Awaited)]);
    assert!(!node.now().lists(&ResourceName::gpu()));
    node.update(&mut keeper).await;
    assert_eq!(node.states(), [("GPU-0".into(), Resolvable), ("GPU-1".into(), Resolvable)]);
    assert_eq!(names(&node.file()), ["GPU-0", "GPU-1"]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(node.file()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644);
    let written = FileId::of(&node.file()).unwrap();
    // Health is no part of the file.
    apply(&node.inventory, testing::answers());
    node.update(&mut keeper).await;
    assert_eq!(FileId::of(&node.file()).unwrap(), written);
    assert_eq!(fs::read_dir(node.directory()).unwrap().count(), 1, "nothing else is left there");
}

#[tokio::test]
async fn a_file_that_others_remove_or_replace_is_written_again() {
    let node = Node::new();
    let mut keeper = node.keeper();
    node.list(gpus(0..1));
    node.update(&mut keeper).await;
    let good = fs::read(node.file()).unwrap();
    let file = node.file();
    let harms: [&dyn Fn(); 5] = [
        &|| fs::remove_file(&file).unwrap(),
        &|| fs::write(&file, "{}").unwrap(),
        &|| fs::remove_dir_all(node.directory()).unwrap(),
        &|| {
            fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink("/dev/null", &file).unwrap();
        },
        &|| fs::write(&file, vec![b' '; super::super::MOST_BYTES + 1]).unwrap(),
    ];
    for harm in harms {
        harm();
        node.update(&mut keeper).await;
        assert_eq!(fs::read(&file).unwrap(), good);
        assert!(!fs::symlink_metadata(&file).unwrap().is_symlink());
        node.check();
    }
}

#[tokio::test]
async fn a_disk_that_fails_concerns_new_devices_alone_and_is_tried_again() {
    let node = Node::new();
    let mut keeper = node.keeper();
    node.list(gpus(0..2));
    node.update(&mut keeper).await;
    break_disk(&keeper, true).await;
    node.list(gpus(0..3));
    assert_eq!(node.states()[2], ("GPU-2".into(), Awaited));
    node.update(&mut keeper).await;
    let expected = [("GPU-0", Resolvable), ("GPU-1", Resolvable), ("GPU-2", Unresolvable)];
    assert_eq!(node.states(), expected.map(|(id, state)| (id.to_owned(), state)));
    let now = node.now();
    let healthy = all(&now).iter().filter(|(_, _, device)| now.is_healthy(device)).count();
    assert_eq!(healthy, 2);
    let refused = now.allocate(&ResourceName::gpu(), &["GPU-2".into()]).unwrap_err().to_string();
    assert!(
        refused.contains("in no CDI specification of this node")
            && refused.contains("no storage space"),
        "{refused}"
    );
    assert!(
        findings(&now)
            .iter()
            .any(|text| text.starts_with("cdi_not_written: ") && text.contains("no storage space"))
    );
    assert!(keeper.retry_at.is_some());
    // What becomes Unhealthy does not wait for it.
    node.list(gpus([0, 2]));
    assert!(!node.now().is_healthy(&all(&node.now())[1].2));
    node.check();
    break_disk(&keeper, false).await;
    node.list(gpus(0..3));
    node.update(&mut keeper).await;
    assert!(node.states().iter().all(|(_, state)| *state == Resolvable));
    assert!(
        keeper.retry_at.is_none()
            && !findings(&node.now()).iter().any(|text| text.starts_with("cdi_not_written"))
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named_and_names_of_removed_files_are_not_given() {
    let node = Node::new();
    let mut keeper = node.keeper();
    node.list(gpus(0..1));
    node.update(&mut keeper).await;
    fs::remove_dir_all(node.directory()).unwrap();
    fs::write(node.directory(), "").unwrap();
    node.update(&mut keeper).await;
    assert_eq!(node.states(), [("GPU-0".into(), Unresolvable)]);
    let texts = findings(&node.now());
    assert!(texts.iter().any(|text| text.contains("cdi cannot be created")), "{texts:?}");
    fs::remove_file(node.directory()).unwrap();
    node.update(&mut keeper).await;
    assert_eq!(node.states(), [("GPU-0".into(), Resolvable)]);
}

#[tokio::test]
async fn a_name_stays_while_a_pod_holds_its_device() {
    let node = Node::new();
    let mut keeper = node.keeper();
    node.list([cut(0, vec![slice(1, 1), slice(2, 2)])]);
    node.update(&mut keeper).await;
    assert_eq!(names(&node.file()), ["MIG-1", "MIG-2"]);
    // Nobody says what pods hold: it may be anything that they were ever given.
    node.list([cut(0, vec![slice(3, 3)])]);
    node.forget_withdrawn();
    node.update(&mut keeper).await;
    assert_eq!(names(&node.file()), ["MIG-1", "MIG-2", "MIG-3"]);
    node.hold(&["MIG-2"]);
    node.update(&mut keeper).await;
    assert_eq!(names(&node.file()), ["MIG-2", "MIG-3"]);
    // Another process goes on with what the file has.
    drop(keeper);
    let next = Node {
        inventory: Rc::new(
            watch::channel(Arc::new({
                let mut inventory = empty(injector());
                inventory.await_cdi();
                inventory
            }))
            .0,
        ),
        ..node
    };
    let mut keeper = next.keeper();
    next.list([cut(0, vec![slice(3, 3)])]);
    next.update(&mut keeper).await;
    assert_eq!(names(&next.file()), ["MIG-2", "MIG-3"]);
    next.hold(&[]);
    next.update(&mut keeper).await;
    assert_eq!(names(&next.file()), ["MIG-3"]);
    next.check();
}

#[tokio::test]
async fn other_names_are_given_when_they_are_in_the_file_and_no_device_is_unhealthy_for_them() {
    let node = Node::new();
    let mut keeper = node.keeper();
    node.list(gpus(0..2));
    node.update(&mut keeper).await;
    node.hold(&["GPU-0"]);
    let name = || {
        let now = node.now();
        let devices = now.allocate(&ResourceName::gpu(), &["GPU-1".into()]).unwrap();
        let injection = now.inject(&ResourceName::gpu(), &devices, || [0; 16]);
        injection.cdi_devices.first().map(|name| name.rsplit('=').next().unwrap().to_owned())
    };
    let by_index = Injector { ids: DeviceIdStrategy::Index, ..injector() };
    let by_variable = Injector { strategies: [DeviceListStrategy::Envvar].into(), ..injector() };
    break_disk(&keeper, true).await;
    node.change(|inventory| drop(inventory.set_injector(by_index.clone())));
    node.update(&mut keeper).await;
    assert_eq!(name().as_deref(), Some("GPU-1"), "the one before stays in force");
    assert!(node.states().iter().all(|(_, state)| *state == Resolvable));
    assert_eq!(*node.now().wanted_injector(), by_index);
    break_disk(&keeper, false).await;
    node.update(&mut keeper).await;
    assert_eq!(name().as_deref(), Some("1"));
    node.update(&mut keeper).await;
    assert_eq!(names(&node.file()), ["0", "1", "GPU-0"], "a pod holds it by its UUID");
    node.check();
    // Without CDI the file stays for those containers; with it again it is true at once.
    node.change(|inventory| drop(inventory.set_injector(by_variable)));
    assert_eq!(name(), None);
    node.change(|inventory| drop(inventory.set_injector(injector())));
    assert_eq!(name(), None);
    node.update(&mut keeper).await;
    assert_eq!(name().as_deref(), Some("GPU-1"));
    node.check();
}

#[tokio::test]
async fn a_driver_that_is_upgraded_has_its_files_in_the_specification() {
    let node = Node::new();
    let mut keeper = node.keeper();
    node.list(gpus(0..1));
    node.update(&mut keeper).await;
    let text = || fs::read_to_string(node.file()).unwrap();
    assert!(text().contains(VERSION));
    fs::remove_dir_all(node.root.path().join("usr")).unwrap();
    fs::remove_dir_all(node.root.path().join("run")).unwrap();
    fs::remove_file(node.root.path().join("lib64")).unwrap();
    installation(node.root.path(), "590.1.2");
    node.version.set("590.1.2");
    node.update(&mut keeper).await;
    assert!(text().contains("libcuda.so.590.1.2") && !text().contains(VERSION));
    // Files that come or go without another version are found when they are looked for again.
    fs::remove_file(node.root.path().join("usr/bin/nvidia-smi")).unwrap();
    node.update(&mut keeper).await;
    assert!(text().contains("nvidia-smi"));
    keeper.looks_again = true;
    node.update(&mut keeper).await;
    assert!(!text().contains("nvidia-smi"));
}

#[tokio::test]
async fn an_old_hook_program_stays_while_a_file_names_it() {
    let mut node = Node::new();
    let HookPaths { source, directory, .. } = node.hook();
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&source, "one").unwrap();
    node.settings.hook_mode = HookMode::Own;
    node.list(gpus(0..1));
    node.hold(&[]);
    let mut keeper = node.keeper();
    node.update(&mut keeper).await;
    let old = node.hook().installed();
    assert_eq!(old.len(), 1);
    let names_old = || fs::read_to_string(node.file()).unwrap().contains(old[0].to_str().unwrap());
    assert!(names_old());
    // Another version of the plugin, which cannot write the file at first.
    fs::write(&source, "two").unwrap();
    for (is_broken, expected) in [(true, true), (false, false)] {
        break_disk(&keeper, is_broken).await;
        keeper.looks_again = true;
        node.update(&mut keeper).await;
        assert_eq!((names_old(), old[0].exists()), (expected, expected));
    }
    assert_eq!(node.hook().installed().len(), 1);
}

#[tokio::test]
async fn files_of_classes_that_are_not_enabled_go_those_of_others_on_request() {
    let mut node = Node::new();
    let stale = |class: &str, text: &str| {
        let path = node.directory().join(file_name(class));
        write(
            node.root.path(),
            path.strip_prefix(node.root.path()).unwrap().to_str().unwrap(),
            text,
        );
        path
    };
    let own = stale("gds", "{\n  \"kind\": \"k8s.device-plugin.nvidia.com/gds\"}");
    let nvidias = stale("mofed", "{\"cdiVersion\":\"0.5.0\"}");
    let foreign = node.directory().join("nvidia.yaml");
    fs::write(&foreign, "kind: nvidia.com/gpu").unwrap();
    let mut keeper = node.keeper();
    node.list(gpus(0..1));
    for held in [None, Some(&["GPU-0"][..])] {
        held.iter().for_each(|ids| node.hold(ids));
        node.update(&mut keeper).await;
        assert!(own.exists(), "a pod may hold it");
    }
    node.hold(&[]);
    node.update(&mut keeper).await;
    assert!(!own.exists() && nvidias.exists() && foreign.exists());
    node.settings.remove_other_files = true;
    node.update(&mut keeper).await;
    assert!(!nvidias.exists() && foreign.exists());
}

/// What happens to a node, to its pods, its settings and its disk.
#[derive(Debug, Clone)]
enum Step {
    /// These GPUs are listed, each whole or with these MIG devices.
    List(Vec<(u32, Option<Vec<u32>>)>),
    Clear(u32),
    Hold(Vec<u32>),
    Forget,
    Inject {
        by_index: bool,
        uses_cdi: bool,
    },
    Break(bool),
    Remove,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slices =
        proptest::collection::btree_set(0_u32..6, 0..4).prop_map(|of| of.into_iter().collect());
    let gpu = (0_u32..4, proptest::option::of(slices));
    let step = prop_oneof![
        4 => proptest::collection::btree_map(0_u32..4, gpu.prop_map(|(_, mig)| mig), 0..5)
            .prop_map(|gpus| Step::List(gpus.into_iter().collect())),
        1 => (0_u32..4).prop_map(Step::Clear),
        2 => proptest::collection::vec(0_u32..30, 0..5).prop_map(Step::Hold),
        2 => Just(Step::Forget),
        1 => (any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(by_index, uses_cdi)| Step::Inject { by_index, uses_cdi }),
        1 => any::<bool>().prop_map(Step::Break),
        1 => Just(Step::Remove),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..25)
}

/// The devices that a number of [`Step::Hold`] may mean.
fn held(number: u32) -> String {
    if number < 4 { format!("GPU-{number}") } else { format!("MIG-{}", number - 4) }
}

impl Node {
    fn step(&self, step: &Step) {
        match step {
            Step::List(list) => self.list(list.iter().map(|(index, mig)| match mig {
                None => testing::gpu(*index),
                Some(slices) => {
                    // An instance has another UUID each time that it is made.
                    let each = |gi: &u32| slice(6 * index + gi, *gi);
                    cut(*index, slices.iter().map(each).collect())
                }
            })),
            Step::Clear(index) => {
                let gpu = testing::gpu(*index).uuid;
                let clear = NodeObservation::Clear { gpu, cause: None };
                apply(&self.inventory, InventoryEvent::Health(clear));
            }
            Step::Hold(numbers) => {
                let ids: Vec<String> = numbers.iter().map(|number| held(*number)).collect();
                self.hold(&ids.iter().map(String::as_str).collect::<Vec<_>>());
            }
            Step::Forget => self.forget_withdrawn(),
            Step::Inject { by_index, uses_cdi } => {
                let ids = if *by_index { DeviceIdStrategy::Index } else { DeviceIdStrategy::Uuid };
                let strategy =
                    if *uses_cdi { DeviceListStrategy::CdiCri } else { DeviceListStrategy::Envvar };
                let with = Injector { ids, strategies: [strategy].into(), ..injector() };
                self.change(|inventory| drop(inventory.set_injector(with)));
            }
            Step::Break(_) | Step::Remove | Step::Restart => {}
        }
    }
}

async fn random_changes(steps: Vec<Step>) {
    let node = Node::new();
    let mut keeper = node.keeper();
    let mut is_broken = false;
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Break(broken) => {
                is_broken = *broken;
                break_disk(&keeper, is_broken).await;
            }
            Step::Remove => {
                // Until it is seen nobody can know.
                let _ = fs::remove_file(node.file());
                node.update(&mut keeper).await;
            }
            Step::Restart => {
                // The inventory of the next process is empty; the pods and the file stay.
                keeper = node.keeper();
                break_disk(&keeper, is_broken).await;
                node.change(|inventory| {
                    let in_use = inventory.in_use().clone();
                    let with = inventory.wanted_injector().clone();
                    *inventory = empty(with);
                    inventory.await_cdi();
                    inventory.set_in_use(in_use);
                });
            }
            step => node.step(step),
        }
        node.check();
        // The next step happens while the files are written.
        let meanwhile = async {
            for _ in 0..number % 7 {
                yield_now().await;
                node.check();
            }
            if let Some(step) = steps.get(number + 1) {
                node.step(step);
            }
            node.check();
        };
        if node.now().cdi_injectors().next().is_some() {
            tokio::join!(node.update(&mut keeper), meanwhile);
        }
        node.check();
    }
    break_disk(&keeper, false).await;
    if node.now().cdi_injectors().next().is_some() {
        for _ in 0..3 {
            node.update(&mut keeper).await;
        }
        node.check();
        for (id, state) in node.states() {
            let (_, _, device) =
                all(&node.now()).into_iter().find(|(_, other, _)| other.to_string() == id).unwrap();
            assert!(device.withdrawn || state == Resolvable, "{id} is {state:?} in the end");
        }
    }
}

#[test]
fn a_name_that_is_given_can_be_resolved_whatever_happens() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = cases.unwrap_or(64);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(random_changes(steps));
    });
}
