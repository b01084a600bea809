//! Tests of the allocation index. The search and the policies are tested in `tests/allocation/`.

mod index;
mod indexes;
