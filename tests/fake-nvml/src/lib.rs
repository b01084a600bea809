//! A `libnvidia-ml.so.1` without a GPU, steered at run time by a state file.

pub mod state;
