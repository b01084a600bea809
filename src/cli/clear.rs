//! `clear`: tells the running daemon that a GPU is repaired.

use std::process::ExitCode;
use std::time::Duration;

use super::{print, print_error, run};
use crate::config::ConfigSource;
use crate::control::{Answer, Request, client, socket_path};

/// How long the daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The exit code if no daemon answered.
const UNREACHABLE: u8 = 2;

/// Clears a GPU, of all causes or of those of one kind.
pub fn clear(gpu: String, cause: Option<String>, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    let answer = run(async {
        let state_dir = config.process.state_dir.ok_or("no --state-dir is set")?;
        let request = Request::Clear { gpu, cause };
        let call = client::call(&socket_path(&state_dir), &request, TIMEOUT).await;
        call.map_err(|error| error.to_string())
    });
    match answer {
        Ok(Answer::Refused { reason }) => {
            print_error(&format!("nothing was changed: {reason}"));
            ExitCode::FAILURE
        }
        Ok(cleared) => print(&text(&cleared), 0),
        Err(error) => {
            print_error(&format!(
                "{error}; run this in the plugin's pod (kubectl -n kube-system exec POD -- \
                 gpu-device-plugin clear GPU), or as root on the node with the plugin's \
                 --state-dir. Without a control socket a file named clear-GPU in the quarantine \
                 directory does the same"
            ));
            ExitCode::from(UNREACHABLE)
        }
    }
}

/// What was taken back, in lines.
fn text(answer: &Answer) -> String {
    let Answer::Cleared { gpu, causes, forgotten } = answer else { return String::new() };
    let head = if *forgotten {
        format!("{gpu} is forgotten, since NVML does not list it. Held against it until now:\n")
    } else {
        format!("{gpu} is taken to be repaired, once clean polls confirm it. Cleared:\n")
    };
    causes.iter().fold(head, |text, cause| format!("{text}  {cause}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cleared_is_a_line_for_each_cause() {
        let (gpu, causes) = ("GPU-1".to_owned(), vec!["Xid 95".to_owned(), "lost".to_owned()]);
        let cleared = text(&Answer::Cleared { gpu, causes, forgotten: false });
        assert!(cleared.starts_with("GPU-1 is taken to be repaired"), "{cleared}");
        assert!(cleared.ends_with("Cleared:\n  Xid 95\n  lost\n"), "{cleared}");
    }
}
