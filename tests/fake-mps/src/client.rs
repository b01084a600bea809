//! The control program, which passes commands on; and a program that uses CUDA.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::Invocation;
use crate::behaviour::{Behaviour, trace};
use crate::command::mebibytes;
use crate::daemon::{Request, Response, SOCKET};

/// Where a daemon is, if nothing names another place.
const DEFAULT_PIPES: &str = "/tmp/nvidia-mps";

pub(crate) fn run(file: &Path, mut program: Invocation<'_>) -> i32 {
    let mut text = String::new();
    let _ = program.input.read_to_string(&mut text);
    let result = pass_on(file, &text, &program.environment, &mut program.output);
    match result {
        Ok(()) => 0,
        Err(text) => {
            let _ = writeln!(program.error, "{text}");
            1
        }
    }
}

fn pass_on(
    file: &Path,
    commands: &str,
    environment: &BTreeMap<String, String>,
    output: &mut impl Write,
) -> Result<(), String> {
    let behaviour = Behaviour::read(file).map_err(|error| error.to_string())?;
    behaviour.suffer("client")?;
    let pipes = environment.get("CUDA_MPS_PIPE_DIRECTORY").map_or(DEFAULT_PIPES, String::as_str);
    let asked = environment.get("CUDA_MPS_PROTOCOL_VERSION").and_then(|text| text.parse().ok());
    let protocol = asked.unwrap_or(behaviour.protocol.max(2));
    let Ok(stream) = UnixStream::connect(Path::new(pipes).join(SOCKET)) else {
        trace(file, "no daemon");
        return Err("Cannot find MPS control daemon process".to_owned());
    };
    for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let request = Request::Command { line: line.to_owned(), protocol };
        match call(&stream, &request).map_err(|error| error.to_string())? {
            Response::Done(text) => drop(output.write_all(text.as_bytes())),
            Response::Refused(text) => return Err(text),
            _ => return Err("the daemon answers something else".to_owned()),
        }
    }
    Ok(())
}

fn call(stream: &UnixStream, request: &Request) -> io::Result<Response> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut writer = stream;
    writer.write_all(&line)?;
    receive(stream)
}

/// One line, without reading beyond it.
fn receive(stream: &UnixStream) -> io::Result<Response> {
    let mut line = String::new();
    BufReader::with_capacity(1, stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// What a program that uses CUDA may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// The server that works for it.
    pub server: u32,
    /// The share of a GPU's threads, in percent.
    pub threads: f64,
    /// The limits of memory in MiB, by the ordinal that the daemon has for a GPU; none: no limit.
    pub memory: BTreeMap<usize, u64>,
}

/// A program that uses CUDA, until it is dropped.
pub struct CudaClient {
    stream: UnixStream,
    environment: BTreeMap<String, String>,
}

impl CudaClient {
    /// Connects to the daemon at these pipes, as a process of this id and user and with variables
    /// of its own.
    ///
    /// # Errors
    /// There is no daemon: the real library would use the GPU without MPS, or hang.
    pub fn connect(
        pipes: &Path,
        (pid, user): (u32, u32),
        environment: &[(&str, &str)],
    ) -> io::Result<Self> {
        let stream = UnixStream::connect(pipes.join(SOCKET))?;
        let mut line = serde_json::to_vec(&Request::Client { pid, user })?;
        line.push(b'\n');
        (&stream).write_all(&line)?;
        let own = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Self { stream, environment: own.collect() })
    }

    /// Waits for the next word of the daemon: what it may use; `None`: it waits for another user.
    ///
    /// # Errors
    /// The daemon has gone.
    pub fn granted(&self) -> io::Result<Option<Granted>> {
        let Response::Server { pid, threads, memory } = receive(&self.stream)? else {
            return Ok(None);
        };
        // A client can lower what its server has, and not raise it.
        let own = self.environment.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
        let own = own.and_then(|text| text.parse::<f64>().ok()).unwrap_or(100.0);
        let mut limits: BTreeMap<usize, u64> = memory.into_iter().collect();
        let text = self.environment.get("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
        for (device, limit) in
            text.into_iter().flat_map(|text| text.split(',')).filter_map(own_limit)
        {
            let known = limits.entry(device).or_insert(limit);
            *known = limit.min(*known);
        }
        Ok(Some(Granted { server: pid, threads: threads.min(own), memory: limits }))
    }

    /// Waits until the daemon, or the server, has ended the connection.
    pub fn ended(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }
}

/// `0=512M`.
fn own_limit(text: &str) -> Option<(usize, u64)> {
    let (device, limit) = text.split_once('=')?;
    Some((device.parse().ok()?, mebibytes(limit).ok()?))
}
