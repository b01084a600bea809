//! Unix sockets of ours in the file system: how one is made without ever touching what is not ours,
//! and that it is made again when it is removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::Notify;
use tokio::time::{sleep, sleep_until};
use tracing::{error, info, warn};

use super::dir_watch::{Watch, Watches};
use crate::util::log_rate_limit::LogRateLimit;
use crate::util::random;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;
/// The mode of a socket for its own user alone, and of one for a group too.
const OWNER_ONLY: u32 = 0o600;
const OWNER_AND_GROUP: u32 = 0o660;
/// The bit by which others may write, and the one by which only owners may remove what is theirs.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// How long another process may take to accept a connection.
const PROBE: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that is to be there: where, for whom, and what it is for.
#[derive(Debug, Clone)]
pub struct SocketSpec {
    /// The path.
    pub path: PathBuf,
    /// The group whose members may connect too, by number.
    pub group: Option<u32>,
    /// Whether it is refused where others could put a socket of theirs in its place.
    pub guarded: bool,
    /// What it is, in messages: "control socket".
    pub name: &'static str,
    /// What does not work without it, in messages.
    pub without: &'static str,
}

/// Our socket, listening; removed on drop if the file is still ours.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
    id: FileId,
}

/// Device and inode number. As long as we listen, no other file can have those of ours.
type FileId = (u64, u64);

impl BoundSocket {
    /// Makes the socket under another name, and gives it its own once it is complete. The mode is
    /// set before there is a file, so nobody else can ever connect, whatever the umask.
    ///
    /// # Errors
    /// `AddrInUse`: another process listens at the path. `AlreadyExists`: what is there is no
    /// socket. `PermissionDenied`: it is a socket of another user. A directory in which others
    /// could replace it, or the file system's.
    pub async fn bind(spec: &SocketSpec) -> io::Result<Self> {
        let path = &spec.path;
        let socket = UnixSocket::new_stream()?;
        fchmod(&socket, Mode::from_raw_mode(OWNER_ONLY))?;
        let unnamed = Unnamed(beside(path));
        socket.bind(&unnamed.0)?;
        let file = fs::symlink_metadata(&unnamed.0)?;
        check(spec, &file)?;
        if let Some(group) = spec.group {
            lchown(&unnamed.0, None, Some(group))?;
            fs::set_permissions(&unnamed.0, fs::Permissions::from_mode(OWNER_AND_GROUP))?;
        }
        let listener = socket.listen(BACKLOG)?;
        remove_if_dead(path, file.uid()).await?;
        // A rename would replace what somebody has put there since; a link does not.
        fs::hard_link(&unnamed.0, path)?;
        Ok(Self { listener, path: path.clone(), id: id(&file) })
    }

    /// The next connection.
    ///
    /// # Errors
    /// The operating system's: out of descriptors, mostly.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Whether the file at the path is still this socket.
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| id(&file) == self.id)
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if self.is_there() {
            // Best effort: the next process replaces one that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The name of a socket that has not got its own yet, removed on drop.
struct Unnamed(PathBuf);

impl Drop for Unnamed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A path in the same directory that nobody else uses, and short: the path of a socket has at most
/// 107 bytes.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{:08x}", random::number() & 0xffff_ffff))
}

fn id(file: &fs::Metadata) -> FileId {
    (file.dev(), file.ino())
}

/// Looks at what was bound: it has to be for us alone, and where that is asked for, in a directory
/// where nobody else can put another in its place.
fn check(spec: &SocketSpec, file: &fs::Metadata) -> io::Result<()> {
    if !file.file_type().is_socket() || file.mode() & 0o777 & !OWNER_ONLY != 0 {
        return Err(io::Error::other("it cannot be made for its own user alone"));
    }
    let directory = fs::metadata(spec.path.parent().unwrap_or(Path::new(".")))?;
    let open = directory.mode() & (OTHERS_WRITE | STICKY) == OTHERS_WRITE;
    if spec.guarded && (open || ![0, file.uid()].contains(&directory.uid())) {
        return Err(io::Error::other("others may write to its directory"));
    }
    Ok(())
}

/// Removes a socket of this user on which nobody listens.
async fn remove_if_dead(path: &Path, user: u32) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if !file.file_type().is_socket() {
        let problem = "there is a file that is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
    }
    match tokio::time::timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // It is gone by now.
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // One that is too busy to accept listens as well.
        _ => return Err(io::ErrorKind::AddrInUse.into()),
    }
    if file.uid() != user {
        let problem = format!("there is a socket of another user, {}", file.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    match fs::symlink_metadata(path) {
        Ok(now) if id(&now) == id(&file) => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// A socket that is served: made again when it is removed, and tried again without end where it
/// cannot be made, since serving GPUs does not depend on it.
pub struct ServedSocket {
    spec: SocketSpec,
    watches: Watches,
    changed: Arc<Notify>,
    bound: Option<(BoundSocket, Option<Watch>)>,
    /// The last failure that was logged.
    failure: String,
    accept_failed: LogRateLimit,
}

impl ServedSocket {
    /// A socket that is made with the first call of a method.
    #[must_use]
    pub fn new(spec: SocketSpec, watches: Watches) -> Self {
        Self {
            spec,
            watches,
            changed: Arc::new(Notify::new()),
            bound: None,
            failure: String::new(),
            accept_failed: LogRateLimit::new(),
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.spec.path
    }

    /// Returns once the socket is there. Nothing is lost when it is dropped before.
    pub async fn ready(&mut self) {
        while self.bound.is_none() {
            // Watched first, so that a removal is noticed from the beginning.
            let watch = self.watch();
            match BoundSocket::bind(&self.spec).await {
                Ok(socket) => {
                    self.failure.clear();
                    info!(socket = %self.path().display(), "serving the {}", self.spec.name);
                    self.bound = Some((socket, watch));
                }
                Err(error) => {
                    self.log_once(&error);
                    sleep_until(self.watches.next_check()).await;
                }
            }
        }
    }

    /// The next connection. Nothing is lost when it is dropped before.
    pub async fn accept(&mut self) -> UnixStream {
        loop {
            self.ready().await;
            let Some((socket, _)) = &self.bound else { continue };
            let accepted = tokio::select! {
                accepted = socket.accept() => Some(accepted),
                () = self.changed.notified() => None,
                () = sleep_until(self.watches.next_check()) => None,
            };
            if !socket.is_there() {
                info!(
                    socket = %self.path().display(),
                    "the {} was removed, making it again", self.spec.name
                );
                self.bound = None;
            }
            match accepted {
                Some(Ok(stream)) => return stream,
                Some(Err(error)) => {
                    if self.accept_failed.allow() {
                        warn!(%error, "cannot accept a connection on the {}", self.spec.name);
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
                None => {}
            }
        }
    }

    /// Without inotify its absence is noticed at the next check.
    fn watch(&self) -> Option<Watch> {
        let changed = self.changed.clone();
        let on_event = move |event: &notify::Event| {
            if !event.kind.is_access() {
                changed.notify_one();
            }
        };
        let directory = self.path().parent()?;
        self.watches.watch(directory, on_event).ok()
    }

    fn log_once(&mut self, error: &io::Error) {
        let text = error.to_string();
        if self.failure == text {
            return;
        }
        let (socket, SocketSpec { name, without, .. }) = (self.path().display(), &self.spec);
        if error.kind() == io::ErrorKind::AddrInUse {
            error!(
                %socket,
                "another process serves the {name}, and keeps it: do two plugins run with one \
                 path? Going on without it: {without}"
            );
        } else {
            warn!(%socket, %error, "cannot make the {name}, will retry; until then {without}");
        }
        self.failure = text;
    }
}

#[cfg(test)]
mod tests;
