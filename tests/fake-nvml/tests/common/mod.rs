//! A library of its own for each test: the fake keeps its state per loaded file, so each test loads
//! a copy.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unsafe_code, reason = "the C functions are called as C does")]

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fake_nvml::state::{Event, Gpu, State};
use nvml_wrapper::Nvml;
use nvml_wrapper_sys::bindings::nvmlFieldValue_t;
use tempfile::TempDir;

pub(crate) const SUCCESS: u32 = 0;
pub(crate) const UNINITIALIZED: u32 = 1;
pub(crate) const INVALID_ARGUMENT: u32 = 2;
pub(crate) const NOT_SUPPORTED: u32 = 3;
pub(crate) const NO_PERMISSION: u32 = 4;
pub(crate) const NOT_FOUND: u32 = 6;
pub(crate) const INSUFFICIENT_SIZE: u32 = 7;
pub(crate) const DRIVER_NOT_LOADED: u32 = 9;
pub(crate) const TIMEOUT: u32 = 10;
pub(crate) const GPU_IS_LOST: u32 = 15;
pub(crate) const VERSION_MISMATCH: u32 = 18;
pub(crate) const UNKNOWN: u32 = 999;

/// A copy of the library with its state file beside it.
pub(crate) struct Node {
    directory: TempDir,
    pub(crate) state: State,
}

impl Node {
    pub(crate) fn new(state: State) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::copy(built_library(), directory.path().join("libnvidia-ml.so.1"))
            .expect("the library");
        let node = Self { directory, state };
        node.state.write(&node.state_path()).expect("the state file");
        node
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.directory.path().join("libnvidia-ml.so.1")
    }

    pub(crate) fn state_path(&self) -> PathBuf {
        self.directory.path().join("fake-nvml.json")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn nvml(&self) -> Nvml {
        self.try_nvml().expect("nvmlInit")
    }

    pub(crate) fn try_nvml(&self) -> Result<Nvml, nvml_wrapper::error::NvmlError> {
        Nvml::builder().lib_path(self.library().as_os_str()).init()
    }

    /// The library as C sees it.
    pub(crate) fn raw(&self) -> Raw {
        // SAFETY: the library's constructors are Rust's own and do nothing.
        Raw(unsafe { libloading::Library::new(self.library()) }.expect("dlopen"))
    }

    /// Changes the state file.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(&mut self.state);
        self.state.write(&self.state_path()).expect("the state file");
    }

    pub(crate) fn gpu(&mut self, index: usize, change: impl FnOnce(&mut Gpu)) {
        self.change(|state| change(&mut state.gpus[index]));
    }

    /// Writes an Xid of a GPU.
    pub(crate) fn xid(&mut self, gpu: usize, xid: u64) -> u64 {
        let mut seq = 0;
        self.change(|state| seq = state.push_event(xid_event(&state.gpus[gpu].uuid, xid)));
        seq
    }
}

pub(crate) fn xid_event(gpu: &str, xid: u64) -> Event {
    Event::xid(gpu, xid)
}

/// Long enough that only a failure takes it, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

fn built_library() -> PathBuf {
    let program = std::env::current_exe().expect("the test's own path");
    program.with_file_name("libfake_nvml.so")
}

/// `nvmlEventData_t`
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventData {
    pub(crate) device: usize,
    pub(crate) event_type: u64,
    pub(crate) data: u64,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
}

/// The C functions, with handles as plain numbers.
pub(crate) struct Raw(libloading::Library);

impl Raw {
    /// Whether there is a function of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        // SAFETY: it is not called.
        unsafe { self.0.get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_ok()
    }

    pub(crate) fn init(&self) -> u32 {
        self.call0("nvmlInit_v2")
    }

    pub(crate) fn shutdown(&self) -> u32 {
        self.call0("nvmlShutdown")
    }

    pub(crate) fn call0(&self, name: &str) -> u32 {
        // SAFETY: the function takes nothing and returns a code.
        unsafe { self.0.get::<unsafe extern "C" fn() -> u32>(name.as_bytes()).expect(name)() }
    }

    /// Waits until so many calls hang that have looked at the state file as it is now.
    pub(crate) fn until_hanging(&self, calls: u32) {
        self.until("fakeNvmlHanging", calls);
    }

    /// Waits until so many calls wait for an event that have looked at the state file as it is now.
    pub(crate) fn until_waiting(&self, calls: u32) {
        self.until("fakeNvmlWaiting", calls);
    }

    fn until(&self, count: &str, calls: u32) {
        let begun = Instant::now();
        while self.call0(count) != calls {
            assert!(begun.elapsed() < PATIENCE, "{count} is {} and not {calls}", self.call0(count));
            std::thread::yield_now();
        }
    }

    /// A function of a handle alone.
    pub(crate) fn call1(&self, name: &str, handle: usize) -> u32 {
        // SAFETY: the function takes a handle and returns a code.
        unsafe {
            self.0.get::<unsafe extern "C" fn(usize) -> u32>(name.as_bytes()).expect(name)(handle)
        }
    }

    /// A function of a handle and an out pointer, with NULL for the latter.
    pub(crate) fn null(&self, name: &str, handle: usize) -> u32 {
        type Function = unsafe extern "C" fn(usize, *mut c_void) -> u32;
        // SAFETY: NVML answers NULL with a code.
        unsafe {
            self.0.get::<Function>(name.as_bytes()).expect(name)(handle, std::ptr::null_mut())
        }
    }

    /// A function of one out pointer.
    pub(crate) fn out<T: Default>(&self, name: &str) -> Result<T, u32> {
        type Function = unsafe extern "C" fn(*mut c_void) -> u32;
        let mut value = T::default();
        // SAFETY: the function writes a T, as the test says.
        let code = unsafe {
            self.0.get::<Function>(name.as_bytes()).expect(name)((&raw mut value).cast())
        };
        answer(code, value)
    }

    /// A function of a handle and one out pointer.
    pub(crate) fn of<T: Default>(&self, name: &str, handle: usize) -> Result<T, u32> {
        self.fill(name, handle, T::default())
    }

    /// The same with a value that the caller filled in.
    pub(crate) fn fill<T>(&self, name: &str, handle: usize, mut value: T) -> Result<T, u32> {
        type Function = unsafe extern "C" fn(usize, *mut c_void) -> u32;
        // SAFETY: the function writes a T, as the test says.
        let code = unsafe {
            self.0.get::<Function>(name.as_bytes()).expect(name)(handle, (&raw mut value).cast())
        };
        answer(code, value)
    }

    /// A function of a handle, a number, and one out pointer.
    pub(crate) fn nth<T: Default>(&self, name: &str, handle: usize, index: u32) -> Result<T, u32> {
        self.nth_fill(name, handle, index, T::default())
    }

    /// The same with a value that the caller filled in.
    pub(crate) fn nth_fill<T>(
        &self,
        name: &str,
        handle: usize,
        index: u32,
        mut value: T,
    ) -> Result<T, u32> {
        type Function = unsafe extern "C" fn(usize, u32, *mut c_void) -> u32;
        // SAFETY: the function writes a T, as the test says.
        let code = unsafe {
            self.0.get::<Function>(name.as_bytes()).expect(name)(
                handle,
                index,
                (&raw mut value).cast(),
            )
        };
        answer(code, value)
    }

    /// A function of a handle and two out pointers.
    pub(crate) fn pair(&self, name: &str, handle: usize) -> Result<(u32, u32), u32> {
        type Function = unsafe extern "C" fn(usize, *mut u32, *mut u32) -> u32;
        let (mut one, mut other) = (0, 0);
        // SAFETY: the function writes two numbers.
        let code = unsafe {
            self.0.get::<Function>(name.as_bytes()).expect(name)(handle, &mut one, &mut other)
        };
        answer(code, (one, other))
    }

    /// A function of a handle and four out pointers.
    pub(crate) fn four(&self, name: &str, handle: usize) -> Result<[u32; 4], u32> {
        type Function = unsafe extern "C" fn(usize, *mut u32, *mut u32, *mut u32, *mut u32) -> u32;
        let [mut a, mut b, mut c, mut d] = [0; 4];
        // SAFETY: the function writes four numbers.
        let code = unsafe {
            self.0.get::<Function>(name.as_bytes()).expect(name)(
                handle, &mut a, &mut b, &mut c, &mut d,
            )
        };
        answer(code, [a, b, c, d])
    }

    /// What a link can do.
    pub(crate) fn capability(&self, handle: usize, link: u32, capability: u32) -> Result<u32, u32> {
        type Function = unsafe extern "C" fn(usize, u32, u32, *mut u32) -> u32;
        let name = b"nvmlDeviceGetNvLinkCapability";
        let mut can = 0;
        // SAFETY: the function writes one number.
        let code = unsafe {
            self.0.get::<Function>(name).expect("symbol")(handle, link, capability, &mut can)
        };
        answer(code, can)
    }

    /// One field value.
    pub(crate) fn field(&self, handle: usize, mut asked: nvmlFieldValue_t) -> nvmlFieldValue_t {
        type Function = unsafe extern "C" fn(usize, i32, *mut nvmlFieldValue_t) -> u32;
        let name = b"nvmlDeviceGetFieldValues";
        // SAFETY: the function reads and writes one value.
        let code = unsafe { self.0.get::<Function>(name).expect("symbol")(handle, 1, &mut asked) };
        assert_eq!(code, SUCCESS);
        asked
    }

    /// The return code of one field value.
    pub(crate) fn field_code(&self, handle: usize, field: u32) -> u32 {
        // SAFETY: all zeros is a value.
        let mut asked: nvmlFieldValue_t = unsafe { std::mem::zeroed() };
        asked.fieldId = field;
        self.field(handle, asked).nvmlReturn
    }

    pub(crate) fn by_index(&self, index: u32) -> Result<usize, u32> {
        type Function = unsafe extern "C" fn(u32, *mut usize) -> u32;
        let mut handle = 0;
        // SAFETY: the function writes a handle.
        let code = unsafe {
            self.0.get::<Function>(b"nvmlDeviceGetHandleByIndex_v2").expect("symbol")(
                index,
                &mut handle,
            )
        };
        answer(code, handle)
    }

    pub(crate) fn by_uuid(&self, uuid: &str) -> Result<usize, u32> {
        self.by_text("nvmlDeviceGetHandleByUUID", uuid)
    }

    pub(crate) fn by_text(&self, name: &str, text: &str) -> Result<usize, u32> {
        type Function = unsafe extern "C" fn(*const std::ffi::c_char, *mut usize) -> u32;
        let text = std::ffi::CString::new(text).expect("no NUL");
        let mut handle = 0;
        // SAFETY: the text ends with a NUL, the function writes a handle.
        let code = unsafe {
            self.0.get::<Function>(name.as_bytes()).expect(name)(text.as_ptr(), &mut handle)
        };
        answer(code, handle)
    }

    /// A string function with a buffer of `length` bytes; no handle if it is None.
    pub(crate) fn text(
        &self,
        name: &str,
        handle: Option<usize>,
        length: u32,
    ) -> Result<String, u32> {
        type OnNode = unsafe extern "C" fn(*mut u8, u32) -> u32;
        type OnDevice = unsafe extern "C" fn(usize, *mut u8, u32) -> u32;
        let mut buffer = vec![0xAA_u8; length as usize + 1];
        let name = name.as_bytes();
        // SAFETY: the buffer has the length that is passed.
        let code = unsafe {
            match handle {
                None => self.0.get::<OnNode>(name).expect("symbol")(buffer.as_mut_ptr(), length),
                Some(handle) => self.0.get::<OnDevice>(name).expect("symbol")(
                    handle,
                    buffer.as_mut_ptr(),
                    length,
                ),
            }
        };
        assert_eq!(buffer[length as usize], 0xAA, "written past the buffer");
        let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(0);
        answer(code, String::from_utf8_lossy(&buffer[..end]).into_owned())
    }

    pub(crate) fn event_set(&self) -> Result<usize, u32> {
        self.out("nvmlEventSetCreate")
    }

    pub(crate) fn register(&self, device: usize, types: u64, set: usize) -> u32 {
        type Function = unsafe extern "C" fn(usize, u64, usize) -> u32;
        // SAFETY: handles are numbers to the library.
        unsafe {
            self.0.get::<Function>(b"nvmlDeviceRegisterEvents").expect("symbol")(device, types, set)
        }
    }

    pub(crate) fn wait(&self, set: usize, timeout_ms: u32) -> Result<EventData, u32> {
        type Function = unsafe extern "C" fn(usize, *mut EventData, u32) -> u32;
        let mut data = EventData::default();
        // SAFETY: the function writes one nvmlEventData_t.
        let code = unsafe {
            self.0.get::<Function>(b"nvmlEventSetWait_v2").expect("symbol")(
                set, &mut data, timeout_ms,
            )
        };
        answer(code, data)
    }
}

fn answer<T>(code: u32, value: T) -> Result<T, u32> {
    if code == SUCCESS { Ok(value) } else { Err(code) }
}
