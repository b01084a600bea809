//! The control daemon as a process: its directories, its lock, its log, and who connects.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::Invocation;
use crate::behaviour::{Behaviour, trace};
use crate::command::Command;
use crate::control::{Admission, Control};

/// The name of the socket in the directory of pipes.
pub(crate) const SOCKET: &str = "control";

/// What is sent to the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// A command of the control program, of this protocol.
    Command { line: String, protocol: u32 },
    /// A program that uses CUDA.
    Client { pid: u32, user: u32 },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Response {
    Done(String),
    Refused(String),
    Pending,
    Server { pid: u32, threads: f64, memory: Vec<(usize, u64)> },
}

struct Daemon {
    behaviour: PathBuf,
    control: Mutex<Control>,
    log: Mutex<File>,
    pid: u32,
    /// The protocol that it speaks.
    protocol: u32,
    pipes: PathBuf,
}

pub(crate) fn run(file: &Path, mut program: Invocation<'_>) -> i32 {
    let visible = program.environment.get("CUDA_VISIBLE_DEVICES").cloned().unwrap_or_default();
    let order = program.environment.get("CUDA_DEVICE_ORDER").cloned().unwrap_or_default();
    let words = program.arguments.join(" ");
    trace(file, &format!("start {words} CUDA_VISIBLE_DEVICES={visible} CUDA_DEVICE_ORDER={order}"));
    match start(file, &program) {
        Ok((daemon, listener)) => daemon.serve(&listener),
        Err(text) => {
            let _ = writeln!(program.error, "{text}");
            1
        }
    }
}

fn start(file: &Path, program: &Invocation<'_>) -> Result<(Arc<Daemon>, UnixListener), String> {
    let behaviour = Behaviour::read(file).map_err(|error| error.to_string())?;
    behaviour.suffer("start")?;
    let (mut foreground, mut multi_user, mut protocol) = (false, false, None);
    let mut words = program.arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-f" => foreground = true,
            "-m" | "--multiuser-server" => multi_user = true,
            "-p" => protocol = words.next().and_then(|word| word.parse().ok()),
            other => return Err(format!("Unknown option: {other}")),
        }
    }
    if !foreground {
        return Err("this fake runs in the foreground alone: -f".to_owned());
    }
    let asked = program.environment.get("CUDA_MPS_PROTOCOL_VERSION");
    let protocol = protocol.or_else(|| asked.and_then(|text| text.parse().ok()));
    let directory = |name: &str| {
        let path = program.environment.get(name).map(PathBuf::from);
        let path = path.ok_or_else(|| format!("{name} is not set"))?;
        if path.is_dir() { Ok(path) } else { Err(format!("{name} is no directory")) }
    };
    let pipes = directory("CUDA_MPS_PIPE_DIRECTORY")?;
    let logs = directory("CUDA_MPS_LOG_DIRECTORY")?;
    lock(&pipes)?;
    let text = |error: std::io::Error| error.to_string();
    let log = OpenOptions::new().create(true).append(true).open(logs.join("control.log"));
    let socket = pipes.join(SOCKET);
    // Left by a daemon that did not end by itself; the lock says that it is none of now.
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(text)?;
    let pid = std::process::id();
    fs::write(pipes.join("nvidia-cuda-mps-control.pid"), pid.to_string()).map_err(text)?;
    let devices = behaviour.devices(&program.environment);
    let daemon = Daemon {
        behaviour: file.to_owned(),
        control: Mutex::new(Control::new(devices, multi_user, 10_000)),
        log: Mutex::new(log.map_err(text)?),
        pid,
        protocol: protocol.unwrap_or(behaviour.protocol.max(2)),
        pipes,
    };
    daemon.log("Start");
    Ok((Arc::new(daemon), listener))
}

/// One daemon for each directory. The lock lasts as long as the process, whose end is its end.
fn lock(pipes: &Path) -> Result<(), String> {
    let file = File::create(pipes.join("control_lock")).map_err(|error| error.to_string())?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| "An instance of this daemon is already running".to_owned())?;
    Box::leak(Box::new(file));
    Ok(())
}

impl Daemon {
    /// Serves until it is told to quit.
    fn serve(self: Arc<Self>, listener: &UnixListener) -> i32 {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let daemon = self.clone();
            thread::spawn(move || daemon.connected(stream));
        }
        1
    }

    /// A line in the form of the real log.
    fn log(&self, text: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(log, "[2026-01-02 03:04:05.678 Control {:>5}] {text}", self.pid);
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self, stream: UnixStream) {
        self.log("Accepting connection...");
        let Ok(writer) = stream.try_clone() else { return };
        let mut lines = BufReader::new(stream).lines();
        let mut ui = false;
        while let Some(Ok(line)) = lines.next() {
            match serde_json::from_str(&line) {
                Ok(Request::Command { line, protocol }) => {
                    if !std::mem::replace(&mut ui, true) {
                        self.log("NEW UI");
                    }
                    self.command(&line, protocol, &writer);
                }
                Ok(Request::Client { pid, user }) => return self.client(pid, user, &writer),
                Err(_) => break,
            }
        }
        self.log("UI closed");
    }

    fn command(&self, line: &str, protocol: u32, stream: &UnixStream) {
        self.log(&format!("Cmd:{line}"));
        trace(&self.behaviour, &format!("command {line}"));
        let answer = self.execute(line, protocol);
        let is_quit = answer.as_ref().is_ok_and(|(quits, _)| *quits);
        let response = match answer {
            Ok((_, text)) => Response::Done(text),
            Err(text) => Response::Refused(text),
        };
        send(stream, &response);
        if is_quit {
            self.log("Exit");
            let _ = fs::remove_file(self.pipes.join(SOCKET));
            let _ = fs::remove_file(self.pipes.join("nvidia-cuda-mps-control.pid"));
            trace(&self.behaviour, "exit");
            exit();
        }
    }

    /// Whether it was told to quit, and what to print.
    fn execute(&self, line: &str, protocol: u32) -> Result<(bool, String), String> {
        if protocol != self.protocol {
            return Err(format!("Protocol version {protocol} is not {}", self.protocol));
        }
        if self.protocol != 2 {
            return Err(format!("Unknown module: {line}"));
        }
        let behaviour = Behaviour::read(&self.behaviour).map_err(|error| error.to_string())?;
        behaviour.suffer(line.split_whitespace().next().unwrap_or_default())?;
        let command = Command::parse(line)?;
        Ok((command == Command::Quit, self.control().execute(command)?))
    }

    /// A client until it goes or is terminated.
    fn client(&self, pid: u32, user: u32, stream: &UnixStream) {
        self.log(&format!(
            "NEW CLIENT {pid} from user {user}: Server is not ready, push client to pending list"
        ));
        let mut told = false;
        loop {
            // In a statement of its own, so that the lock is not held while it waits.
            let admission = self.control().admit(pid, user);
            match admission {
                Admission::Server(server, limits) => {
                    self.log(&format!("NEW CLIENT {pid} from user {user}: Server already exists"));
                    let memory = limits.memory.into_iter().collect();
                    send(
                        stream,
                        &Response::Server { pid: server, threads: limits.threads, memory },
                    );
                    break;
                }
                Admission::Pending if !std::mem::replace(&mut told, true) => {
                    send(stream, &Response::Pending);
                }
                Admission::Pending => {}
            }
            if is_gone(stream) {
                return;
            }
        }
        while self.control().has(pid) && !is_gone(stream) {}
        self.control().leave(pid);
        self.log(&format!("Client {pid} disconnected"));
    }
}

/// Whether the other end is closed, after a moment for it.
fn is_gone(stream: &UnixStream) -> bool {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(10)));
    let mut stream = stream;
    matches!(std::io::Read::read(&mut stream, &mut [0]), Ok(0))
}

fn send(stream: &UnixStream, response: &Response) {
    let Ok(mut line) = serde_json::to_vec(response) else { return };
    line.push(b'\n');
    let mut stream = stream;
    let _ = stream.write_all(&line);
}

/// The real daemon ends with its servers and their clients.
#[allow(clippy::exit, reason = "this is a program of its own, whose threads wait for others")]
fn exit() {
    std::process::exit(0);
}
