//! The C boundary: the caller's pointers as types that check for NULL and for length, and the
//! return code at the end of each exported function.

use std::ffi::{CStr, c_char, c_uint};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::code::{Answer, Code, INSUFFICIENT_SIZE, INVALID_ARGUMENT, SUCCESS, UNKNOWN};

/// The return code of one exported function. A panic becomes code 999: it must not reach the C
/// caller.
pub(crate) fn answer(body: impl FnOnce() -> Answer) -> Code {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => UNKNOWN,
    }
}

/// A pointer through which the caller takes a value, or several. Only a C caller makes one: by the
/// contract of NVML it is NULL or valid for what the function writes.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    /// Writes one value.
    pub(crate) fn set(self, value: T) -> Answer {
        self.set_at(0, value)
    }

    /// Writes the value at `index` of an array that the caller said to be longer than `index`.
    pub(crate) fn set_at(self, index: usize, value: T) -> Answer {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not NULL, and the C caller vouches for the memory behind it (see the type).
        unsafe { self.0.add(index).write(value) };
        Ok(())
    }

    /// Reads the value at `index`, which the caller filled in.
    pub(crate) fn get_at(self, index: usize) -> Result<T, Code>
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not NULL, and the C caller vouches for the memory behind it (see the type).
        Ok(unsafe { self.0.add(index).read() })
    }

    /// Reads the value that the caller filled in.
    pub(crate) fn get(self) -> Result<T, Code>
    where
        T: Copy,
    {
        self.get_at(0)
    }

    /// The same memory as another type, for structs told apart by a version word.
    pub(crate) fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }
}

impl Out<c_char> {
    /// Writes a C string into a buffer of `length` bytes.
    pub(crate) fn string(self, text: &str, length: c_uint) -> Answer {
        if self.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        if text.len() >= length as usize {
            return Err(INSUFFICIENT_SIZE);
        }
        for (index, byte) in text.bytes().chain([0]).enumerate() {
            self.set_at(index, byte as c_char)?;
        }
        Ok(())
    }
}

/// A C string of the caller. Only a C caller makes one: it is NULL or ends with a NUL.
#[repr(transparent)]
pub(crate) struct Text(*const c_char);

impl Text {
    pub(crate) fn read(&self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not NULL, and the C caller vouches for the terminating NUL (see the type).
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_| INVALID_ARGUMENT)
    }
}

/// A C string in an array of fixed size, cut where it does not fit.
pub(crate) fn c_array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (to, from) in array.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
        *to = from as c_char;
    }
    array
}

/// The version word of a struct, as nvml.h makes it.
pub(crate) fn struct_version<T>(version: c_uint) -> c_uint {
    size_of::<T>() as c_uint | version << 24
}
