//! The command language of protocol 2, word for word.

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    ServerList,
    ServerStatus(u32),
    StartServer(u32),
    ClientList(u32),
    DeviceClientList(Option<u32>),
    ShutdownServer(u32),
    DefaultThreads,
    SetDefaultThreads(f64),
    Threads(u32),
    SetThreads(u32, f64),
    DefaultMemory(usize),
    SetDefaultMemory(usize, u64),
    Memory(u32, usize),
    SetMemory(u32, usize, u64),
    TerminateClient(u32, u32),
    Ps,
    Quit,
}

impl Command {
    /// A line of standard input.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let unknown = || format!("Invalid command: {line}");
        Ok(match words[..] {
            ["get_server_list"] => Self::ServerList,
            ["get_server_status", server] => Self::ServerStatus(number(server)?),
            ["start_server", "-uid", user] => Self::StartServer(number(user)?),
            ["get_client_list", server] => Self::ClientList(number(server)?),
            ["get_device_client_list"] => Self::DeviceClientList(None),
            ["get_device_client_list", server] => Self::DeviceClientList(Some(number(server)?)),
            ["shutdown_server", server] | ["shutdown_server", server, "-f"] => {
                Self::ShutdownServer(number(server)?)
            }
            ["get_default_active_thread_percentage"] => Self::DefaultThreads,
            ["set_default_active_thread_percentage", share] => {
                Self::SetDefaultThreads(percentage(share)?)
            }
            ["get_active_thread_percentage", server] => Self::Threads(number(server)?),
            ["set_active_thread_percentage", server, share] => {
                Self::SetThreads(number(server)?, percentage(share)?)
            }
            ["get_default_device_pinned_mem_limit", device] => Self::DefaultMemory(number(device)?),
            ["set_default_device_pinned_mem_limit", device, limit] => {
                Self::SetDefaultMemory(number(device)?, mebibytes(limit)?)
            }
            ["get_device_pinned_mem_limit", server, device] => {
                Self::Memory(number(server)?, number(device)?)
            }
            ["set_device_pinned_mem_limit", server, device, limit] => {
                Self::SetMemory(number(server)?, number(device)?, mebibytes(limit)?)
            }
            ["terminate_client", server, client] => {
                Self::TerminateClient(number(server)?, number(client)?)
            }
            ["ps"] => Self::Ps,
            ["quit"] => Self::Quit,
            ["quit", "-t", time] => number::<u32>(time).map(|_| Self::Quit)?,
            _ => return Err(unknown()),
        })
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("Invalid number: {word}"))
}

fn percentage(word: &str) -> Result<f64, String> {
    let share: f64 = number(word)?;
    if share > 0.0 && share <= 100.0 {
        return Ok(share);
    }
    Err(format!("Invalid percentage: {word}"))
}

/// A limit of memory: `512M`, `2G`.
pub(crate) fn mebibytes(word: &str) -> Result<u64, String> {
    let unit = [('M', 1), ('G', 1024)].into_iter();
    let parsed = unit.filter_map(|(unit, mebi)| {
        let count: u64 = word.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(mebi)
    });
    parsed.into_iter().next().ok_or_else(|| format!("Invalid memory limit: {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_of_the_language_with_their_arguments_are_taken() {
        assert_eq!(
            Command::parse("set_default_device_pinned_mem_limit 1 2G"),
            Ok(Command::SetDefaultMemory(1, 2048))
        );
        assert_eq!(Command::parse("quit -t 5"), Ok(Command::Quit));
        for bad in [
            "",
            "server list",
            "set_default_active_thread_percentage",
            "set_default_active_thread_percentage 0",
            "set_default_active_thread_percentage 101",
            "set_default_device_pinned_mem_limit GPU-1 2G",
            "set_default_device_pinned_mem_limit 0 2",
            "get_server_list 1",
        ] {
            assert!(Command::parse(bad).is_err(), "{bad}");
        }
    }
}
