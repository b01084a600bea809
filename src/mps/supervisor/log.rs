//! The logs of a control daemon: followed into ours, and searched for commands that are not the
//! supervisor's. Whoever has the directory of pipes can send commands: every client has it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device::names::ResourceName;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::commands::Commands;
use crate::host::dir_watch::{Watch, Watches};
use crate::host::file::{self, Links};
use crate::util::lock;

/// The files of the daemon and of its servers (NVIDIA, "Multi-Process Service", 4.2).
const FILES: [&str; 2] = ["control.log", "server.log"];
/// The most bytes of a file that are read at once, and the most lines of it that are passed on.
const MAX_BYTES: u64 = 256 << 10;
const MAX_LINES: usize = 100;
/// The longest line that is passed on, in characters.
const MAX_LINE: usize = 500;
/// A file that is larger at a start makes room for a new one, in bytes.
const ROTATE_AT: u64 = 1 << 20;
/// A file that takes more bytes while its daemon runs is emptied, since it may be in memory.
const EMPTY_AT: u64 = 4 << 20;
/// How often the files are looked at where nothing tells of a change.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What precedes a command in a line of control.log.
const COMMAND: &str = "Cmd:";
/// What every look at the daemon makes it write.
const ROUTINE: [&str; 3] = ["Accepting connection...", "NEW UI", "UI closed"];

/// Follows the files of one daemon.
pub(super) struct LogFollower {
    resource: ResourceName,
    directory: PathBuf,
    commands: Arc<Mutex<Commands>>,
    files: [Followed; 2],
    changed: Arc<Notify>,
    watch: Option<Watch>,
    watches: Watches,
}

/// One file.
#[derive(Debug, Default)]
struct Followed {
    /// Up to where it was read.
    offset: u64,
    /// The beginning of a line that is not ended yet.
    rest: Vec<u8>,
}

impl LogFollower {
    /// The files of the daemon of a resource, in this directory. What is in them is of before.
    pub(super) fn new(
        resource: ResourceName,
        directory: PathBuf,
        commands: Arc<Mutex<Commands>>,
        watches: Watches,
    ) -> Self {
        let of = |name: &str| Followed {
            offset: std::fs::metadata(directory.join(name)).map_or(0, |file| file.len()),
            rest: Vec::new(),
        };
        let files = FILES.map(of);
        let changed = Arc::new(Notify::new());
        Self { resource, directory, commands, files, changed, watch: None, watches }
    }

    /// Waits until there may be more to read. Nothing is lost when it is dropped.
    pub(super) async fn changed(&mut self) {
        if !self.watch.as_ref().is_some_and(Watch::is_live) {
            let changed = self.changed.clone();
            let on_event = move |event: &notify::Event| {
                if !event.kind.is_access() {
                    changed.notify_one();
                }
            };
            self.watch = self.watches.watch(&self.directory, on_event).ok();
        }
        let _ = tokio::time::timeout(LOOK_INTERVAL, self.changed.notified()).await;
    }

    /// Passes on what was written since the last time.
    pub(super) fn read(&mut self) {
        for (name, followed) in FILES.into_iter().zip(&mut self.files) {
            let path = self.directory.join(name);
            let mut lines = 0;
            // A file that grows faster than it is read is read on the next time.
            for _ in 0..4 {
                let Ok(bytes) = followed.more(&path) else { break };
                if bytes.is_empty() {
                    break;
                }
                for line in followed.lines(&bytes) {
                    lines += 1;
                    pass_on(&self.resource, name, &line, lines <= MAX_LINES, &self.commands);
                }
            }
            followed.empty(&path);
            if lines > MAX_LINES {
                let (resource, left_out) = (&self.resource, lines - MAX_LINES);
                warn!(%resource, file = name, left_out, "lines of the MPS log are left out here; \
                    the file has them");
            }
        }
    }
}

impl Followed {
    fn more(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let file: File = file::open(path, Links::Refuse)?;
        if file.metadata()?.len() < self.offset {
            *self = Self::default();
        }
        // A hole is passed over.
        match seek(&file, SeekFrom::Data(self.offset)) {
            Ok(offset) => self.offset = offset,
            Err(Errno::NXIO) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }

    /// Empties a file that has become large and is read to its end, and keeps a copy. The daemon
    /// has it open and writes on: at its end, or where it was, with a hole before that, which takes
    /// no room.
    fn empty(&self, path: &Path) {
        let is_due = std::fs::metadata(path)
            .is_ok_and(|file| file.blocks() * 512 > EMPTY_AT && file.len() <= self.offset);
        if is_due && keep(path).is_ok() {
            let opened = File::options().write(true).open(path);
            let _ = opened.and_then(|file| file.set_len(0));
        }
    }

    /// The lines that have ended.
    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        // The block in which a hole ends begins with zeros.
        self.rest.extend(bytes.iter().filter(|byte| **byte != 0));
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // A line without end is cut.
        let end =
            if end == 0 && self.rest.len() as u64 > MAX_BYTES { self.rest.len() } else { end };
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

fn pass_on(
    resource: &ResourceName,
    file: &str,
    line: &str,
    is_shown: bool,
    commands: &Mutex<Commands>,
) {
    let text: String = line.chars().take(MAX_LINE).collect();
    let text = status::escaped(text.trim_end()).to_string();
    // "[2026-01-02 03:04:05.678 Control 12345] text"
    let message = line.split_once("] ").map_or(line, |(_, message)| message).trim();
    let command = message.strip_prefix(COMMAND).filter(|_| file == FILES[0]).map(str::trim);
    if let Some(command) = command.filter(|line| lock(commands).is_foreign(line)) {
        let command: String = command.chars().take(MAX_LINE).collect();
        let command = status::escaped(&command).to_string();
        warn!(%resource, %command, "a command that is not the supervisor's was sent to the MPS \
            control daemon: any of its clients can; its limits are set again");
    }
    if !is_shown {
        return;
    }
    if command.is_some() || ROUTINE.contains(&message) {
        debug!(%resource, file, "{text}");
    } else {
        info!(%resource, file, "{text}");
    }
}

/// Makes room for new files where those of before are large.
pub(super) fn rotate(directory: &Path) {
    for name in FILES {
        let file = directory.join(name);
        if std::fs::metadata(&file).is_ok_and(|of| of.len() > ROTATE_AT) {
            let _ = std::fs::rename(&file, kept(&file));
        }
    }
}

/// Keeps what is in a file, without a hole before it.
fn keep(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    seek(&file, SeekFrom::Data(0))?;
    io::copy(&mut file, &mut File::create(kept(path))?)
}

/// Where what was in a file before is kept.
fn kept(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".1");
    path.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_come_whole_and_once_also_over_several_reads_and_a_new_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("control.log");
        let mut followed = Followed::default();
        let mut write = |text: &str| {
            let mut file = File::options().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let bytes = followed.more(&path).unwrap();
            followed.lines(&bytes)
        };
        assert_eq!(write("one\ntw"), ["one"]);
        assert_eq!(write("o\nthree\n"), ["two", "three"]);
        assert!(write("").is_empty());
        std::fs::write(&path, "").unwrap();
        assert_eq!(write("four\n"), ["four"]);
    }

    #[test]
    fn a_file_that_has_become_large_is_emptied_under_its_daemon_and_none_of_its_lines_is_lost() {
        for appends in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("control.log");
            let mut file =
                File::options().create(true).append(appends).write(true).open(&path).unwrap();
            let mut followed = Followed::default();
            let mut seen = 0;
            for _ in 0..3 * EMPTY_AT / MAX_BYTES {
                file.write_all(&vec![b'x'; MAX_BYTES as usize - 1]).unwrap();
                file.write_all(b"\n").unwrap();
                while let Some(bytes) = followed.more(&path).ok().filter(|read| !read.is_empty()) {
                    seen += followed.lines(&bytes).len() as u64;
                }
                followed.empty(&path);
                assert!(followed.more(&path).unwrap().is_empty());
                let bytes = std::fs::metadata(&path).unwrap().blocks() * 512;
                assert!(bytes <= EMPTY_AT + 2 * MAX_BYTES, "{bytes}");
            }
            assert_eq!(seen, 3 * EMPTY_AT / MAX_BYTES);
            let kept = std::fs::metadata(kept(&path)).unwrap().len();
            assert!((EMPTY_AT..=EMPTY_AT + 2 * MAX_BYTES).contains(&kept), "{kept}");
        }
    }
}
