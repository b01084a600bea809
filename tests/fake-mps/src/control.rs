//! What the control daemon knows: its servers, their clients, the limits. Without processes: a
//! server is a number, and a client a connection.

use std::collections::BTreeMap;

use crate::behaviour::Gpu;
use crate::command::Command;

/// The state of a control daemon.
pub(crate) struct Control {
    devices: Vec<Gpu>,
    /// Whether one server is for all users.
    multi_user: bool,
    default: Limits,
    servers: BTreeMap<u32, Server>,
    next_pid: u32,
}

/// Limits, which a server takes over when it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limits {
    pub(crate) threads: f64,
    /// In MiB, by ordinal.
    pub(crate) memory: BTreeMap<usize, u64>,
}

struct Server {
    user: u32,
    limits: Limits,
    clients: Vec<u32>,
}

/// What a new client gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Admission {
    /// A server, with its limits.
    Server(u32, Limits),
    /// Another user's server has clients: it waits until that one ends.
    Pending,
}

/// The answer to a command.
pub(crate) type Answer = Result<String, String>;

impl Control {
    pub(crate) fn new(devices: Vec<Gpu>, multi_user: bool, first_pid: u32) -> Self {
        let default = Limits { threads: 100.0, memory: BTreeMap::new() };
        Self { devices, multi_user, default, servers: BTreeMap::new(), next_pid: first_pid }
    }

    /// Executes a command other than `quit`.
    pub(crate) fn execute(&mut self, command: Command) -> Answer {
        Ok(match command {
            Command::ServerList => lines(self.servers.keys()),
            Command::ServerStatus(server) => self.server(server).map(|_| "ACTIVE\n".to_owned())?,
            Command::StartServer(user) => {
                self.start_server(user);
                String::new()
            }
            Command::ClientList(server) => lines(self.server(server)?.clients.iter()),
            Command::DeviceClientList(server) => self.device_clients(server)?,
            Command::ShutdownServer(server) => {
                self.server(server)?;
                self.servers.remove(&server);
                String::new()
            }
            Command::DefaultThreads => format!("{:.1}\n", self.default.threads),
            Command::SetDefaultThreads(share) => {
                self.default.threads = share;
                format!("{share:.1}\n")
            }
            Command::Threads(server) => format!("{:.1}\n", self.server(server)?.limits.threads),
            Command::SetThreads(server, share) => {
                self.server(server)?.limits.threads = share;
                format!("{share:.1}\n")
            }
            Command::DefaultMemory(device) => {
                self.device(device)?;
                limit(self.default.memory.get(&device))
            }
            Command::SetDefaultMemory(device, limit) => {
                self.device(device)?;
                self.default.memory.insert(device, limit);
                String::new()
            }
            Command::Memory(server, device) => {
                self.device(device)?;
                limit(self.server(server)?.limits.memory.get(&device))
            }
            Command::SetMemory(server, device, limit) => {
                self.device(device)?;
                self.server(server)?.limits.memory.insert(device, limit);
                String::new()
            }
            Command::TerminateClient(server, client) => {
                let clients = &mut self.server(server)?.clients;
                let place = clients.iter().position(|known| *known == client);
                clients.remove(place.ok_or_else(|| format!("No client {client}"))?);
                String::new()
            }
            Command::Ps => self.ps(),
            Command::Quit => String::new(),
        })
    }

    /// A new client of a user.
    pub(crate) fn admit(&mut self, client: u32, user: u32) -> Admission {
        let is_idle = |server: &Server| server.clients.is_empty();
        let others = self.servers.iter().filter(|(_, server)| server.user != user);
        if !self.multi_user {
            if others.clone().any(|(_, server)| !is_idle(server)) {
                return Admission::Pending;
            }
            let idle: Vec<u32> = others.map(|(pid, _)| *pid).collect();
            idle.iter().for_each(|pid| drop(self.servers.remove(pid)));
        }
        let known = self.servers.keys().next().copied();
        let pid = known.unwrap_or_else(|| self.start_server(user));
        match self.servers.get_mut(&pid) {
            Some(server) => {
                server.clients.push(client);
                Admission::Server(pid, server.limits.clone())
            }
            None => Admission::Pending,
        }
    }

    /// A client has gone.
    pub(crate) fn leave(&mut self, client: u32) {
        self.servers.values_mut().for_each(|server| server.clients.retain(|of| *of != client));
    }

    /// Whether a client is still on its server.
    pub(crate) fn has(&self, client: u32) -> bool {
        self.servers.values().any(|server| server.clients.contains(&client))
    }

    fn start_server(&mut self, user: u32) -> u32 {
        let pid = self.next_pid;
        self.next_pid += 1;
        let limits = self.default.clone();
        self.servers.insert(pid, Server { user, limits, clients: Vec::new() });
        pid
    }

    fn server(&mut self, pid: u32) -> Result<&mut Server, String> {
        self.servers.get_mut(&pid).ok_or_else(|| format!("Server {pid} not found"))
    }

    fn device(&self, ordinal: usize) -> Result<&Gpu, String> {
        self.devices.get(ordinal).ok_or_else(|| format!("Invalid device ordinal: {ordinal}"))
    }

    fn device_clients(&mut self, server: Option<u32>) -> Answer {
        if let Some(server) = server {
            self.server(server)?;
        }
        let clients: Vec<u32> = (self.servers.iter())
            .filter(|(pid, _)| server.is_none_or(|server| server == **pid))
            .flat_map(|(_, server)| server.clients.clone())
            .collect();
        let of = |gpu: &Gpu| {
            clients.iter().map(move |client| format!("{} {client}\n", gpu.uuid)).collect::<String>()
        };
        Ok(self.devices.iter().map(of).collect())
    }

    fn ps(&self) -> String {
        let mut text =
            "PID       ID    SERVER    DEVICE             NAMESPACE  COMMAND  ATTRIBUTES\n"
                .to_owned();
        for (pid, server) in &self.servers {
            for (id, client) in server.clients.iter().enumerate() {
                let device = self.devices.first().map_or("-", |gpu| &gpu.uuid);
                text.push_str(&format!("{client} {id} {pid} {device} 4026531836 client\n"));
            }
        }
        text
    }
}

fn lines<'a>(numbers: impl Iterator<Item = &'a u32>) -> String {
    numbers.map(|number| format!("{number}\n")).collect()
}

/// 0 is no limit.
fn limit(mebibytes: Option<&u64>) -> String {
    format!("{}M\n", mebibytes.copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(multi_user: bool) -> Control {
        let gpu = |uuid: &str| Gpu { uuid: uuid.to_owned(), memory_mib: 1000, ..Gpu::default() };
        Control::new(vec![gpu("GPU-a"), gpu("GPU-b")], multi_user, 100)
    }

    #[test]
    fn limits_bind_only_servers_that_start_later() {
        let mut control = control(false);
        let Admission::Server(first, limits) = control.admit(1, 0) else { panic!("no server") };
        assert_eq!((limits.threads, limits.memory.len()), (100.0, 0));
        control.execute(Command::SetDefaultThreads(25.0)).unwrap();
        control.execute(Command::SetDefaultMemory(1, 250)).unwrap();
        let Admission::Server(same, limits) = control.admit(2, 0) else { panic!("no server") };
        assert_eq!((same, limits.threads), (first, 100.0));
        control.execute(Command::ShutdownServer(first)).unwrap();
        let Admission::Server(_, limits) = control.admit(3, 0) else { panic!("no server") };
        assert_eq!((limits.threads, limits.memory[&1]), (25.0, 250));
        assert!(control.execute(Command::SetDefaultMemory(2, 250)).is_err());
    }

    #[test]
    fn a_user_waits_for_the_clients_of_another_one_unless_the_server_is_for_all() {
        let mut one = control(false);
        assert!(matches!(one.admit(1, 0), Admission::Server(..)));
        assert_eq!(one.admit(2, 1000), Admission::Pending);
        one.leave(1);
        assert!(matches!(one.admit(2, 1000), Admission::Server(..)));
        let mut all = control(true);
        assert!(matches!(all.admit(1, 0), Admission::Server(..)));
        assert!(matches!(all.admit(2, 1000), Admission::Server(..)));
    }
}
