//! `apply-cuda-memory-limits`: the most memory of each GPU that a container may allocate, by the
//! kernel's `dmem` controller (Documentation/admin-guide/cgroup-v2.rst, "DMEM"; Linux 6.14). Its
//! `dmem.max` has a line for each region, and NVIDIA's driver has one for the memory of each GPU
//! from R615 on (NVIDIA, Multi-Process Service, "MPS v3 Memory Partitioning").
//!
//! The limits are arguments, and so part of the specification: a pod cannot change them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use crate::error::HookError;
use crate::hook::{Host, MemoryLimit};
use crate::kernel_files::{Region, regions};
use crate::limits;

type Found<T> = Result<T, HookError>;

/// Writes the limits into the cgroup of a process.
pub(crate) fn apply(limits: &[MemoryLimit], pid: u32, host: &Host) -> Found<()> {
    if limits.is_empty() {
        return Ok(());
    }
    let capacity = host.cgroup_root.join("dmem.capacity");
    let capacity = read(&capacity).map_err(|error| no_controller(&capacity, &error))?;
    let regions = regions(&capacity);
    let lines = limits.iter().map(|limit| line(limit, &regions)).collect::<Found<Vec<_>>>()?;
    let cgroup = cgroup(pid, host)?;
    let file = host.cgroup_root.join(&cgroup).join("dmem.max");
    pass_on_controller(host, &cgroup)?;
    for line in lines {
        write(&file, &line).map_err(HookError::file("write", &file))?;
    }
    Ok(())
}

fn no_controller(path: &Path, error: &io::Error) -> HookError {
    HookError::MemoryLimit(format!(
        "{}: {error}; the kernel's dmem controller is needed, of Linux 6.14 with cgroups of \
         version 2",
        path.display()
    ))
}

/// The line that limits the memory of a GPU.
fn line(limit: &MemoryLimit, regions: &[Region<'_>]) -> Found<String> {
    let region = regions.iter().find(|region| region.is_of(&limit.address)).ok_or_else(|| {
        let address = &limit.address;
        HookError::MemoryLimit(format!("the dmem controller has no memory of the GPU {address}"))
    })?;
    Ok(format!("{} {}\n", region.name, limit.bytes.min(region.capacity)))
}

/// The cgroup of a process, below the root of the tree.
fn cgroup(pid: u32, host: &Host) -> Found<PathBuf> {
    let path = host.proc_root.join(pid.to_string()).join("cgroup");
    let text = read(&path).map_err(HookError::file("read", &path))?;
    // The line of version 2 has no controllers (cgroups(7), "/proc/pid/cgroup").
    let cgroup = text.lines().find_map(|line| line.strip_prefix("0::/")).map(Path::new);
    let is_plain =
        |path: &&Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    cgroup
        .filter(|path| !path.as_os_str().is_empty())
        .filter(is_plain)
        .map(Path::to_owned)
        .ok_or_else(|| {
            HookError::MemoryLimit(format!("{} names no cgroup of its own", path.display()))
        })
}

/// Has every cgroup above the container's pass the controller on. Runtimes do not know it.
fn pass_on_controller(host: &Host, cgroup: &Path) -> Found<()> {
    let above: Vec<_> = cgroup.ancestors().skip(1).collect();
    for parent in above.into_iter().rev() {
        let file = host.cgroup_root.join(parent).join("cgroup.subtree_control");
        let there = read(&file).map_err(HookError::file("read", &file))?;
        if there.split_whitespace().all(|controller| controller != "dmem") {
            write(&file, "+dmem").map_err(HookError::file("write", &file))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limits::KERNEL_FILE_BYTES as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes to a file of the kernel's, which takes one line with one call. It must be there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())
}
