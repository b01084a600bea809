//! Whose the commands are that a control daemon has in its log. Pure.

use std::collections::BTreeMap;

/// How many different commands of our own are waited for at most.
const MAX_COMMANDS: usize = 4096;

/// The commands that the supervisor sends, and those that others have sent.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// Sent and not seen in the log yet, with how often.
    own: BTreeMap<String, u32>,
    /// Whether others have sent one that changes something since this was last asked.
    changed: bool,
    /// Whether the last of theirs was to quit.
    quit: bool,
}

impl Commands {
    /// The supervisor is about to send this.
    pub(super) fn sending(&mut self, line: &str) {
        if self.own.len() < MAX_COMMANDS {
            *self.own.entry(line.to_owned()).or_default() += 1;
        }
    }

    /// It was not sent.
    pub(super) fn not_sent(&mut self, line: &str) {
        if let Some(count) = self.own.get_mut(line) {
            *count -= 1;
            if *count == 0 {
                self.own.remove(line);
            }
        }
    }

    /// Whether a command in the log is one of others that changes something.
    pub(super) fn is_foreign(&mut self, line: &str) -> bool {
        if self.own.contains_key(line) {
            self.not_sent(line);
            return false;
        }
        let only_asks = line.starts_with("get_") || line == "ps";
        if !only_asks {
            self.changed = true;
            self.quit = line.split_whitespace().next() == Some("quit");
        }
        !only_asks
    }

    /// Whether others have changed something since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether others have told the daemon to quit.
    pub(super) fn take_quit(&mut self) -> bool {
        std::mem::take(&mut self.quit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_of_others_if_it_is_seen_more_often_than_it_was_sent() {
        let mut commands = Commands::default();
        let limit = "set_default_active_thread_percentage 25";
        commands.sending(limit);
        assert!(!commands.is_foreign(limit) && !commands.take_changed());
        assert!(commands.is_foreign(limit) && commands.take_changed());
        assert!(!commands.is_foreign("get_server_list") && !commands.is_foreign("ps"));
        assert!(!commands.take_changed() && !commands.take_quit());
        commands.sending("quit");
        commands.not_sent("quit");
        assert!(commands.is_foreign("quit -t 5") && commands.take_quit());
    }
}
