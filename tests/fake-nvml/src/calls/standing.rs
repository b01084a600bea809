//! Not of NVML: what a test asks about the library itself.

use std::ffi::c_uint;

use crate::driver::{Why, standing};

/// How many calls hang although they have looked at the state file as it is now.
#[unsafe(no_mangle)]
extern "C" fn fakeNvmlHanging() -> c_uint {
    count(Why::Hanging)
}

/// How many calls wait for an event although they have looked at the state file as it is now.
#[unsafe(no_mangle)]
extern "C" fn fakeNvmlWaiting() -> c_uint {
    count(Why::Waiting)
}

fn count(why: Why) -> c_uint {
    c_uint::try_from(standing(why)).unwrap_or(c_uint::MAX)
}
