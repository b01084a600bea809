//! `clear`, `release` and `take-up`: requests to the running daemon, over its control socket.

use std::process::ExitCode;
use std::time::Duration;

use super::output::{print, print_error};
use super::run;
use crate::config::ConfigSource;
use crate::control::{Answer, Request, client, socket_path};
use crate::nvml::RELEASE_DEADLINE;

/// How long the daemon may take to answer beyond what it may take itself.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The exit code if no daemon answered, or none that this program understands.
const UNREACHABLE: u8 = 2;

/// Clears a GPU, of all causes or of those of one kind.
pub fn clear(gpu: String, cause: Option<String>, source: &mut ConfigSource) -> ExitCode {
    send(
        Request::Clear { gpu, cause },
        "clear GPU",
        ". Without a control socket a file named clear-GPU in the quarantine directory does the \
         same",
        source,
    )
}

/// Has NVML released for a time, or for as long as is configured.
pub fn release(seconds: Option<u64>, source: &mut ConfigSource) -> ExitCode {
    let otherwise = ". Without a control socket SIGUSR1 does the same";
    send(Request::Release { seconds }, "release", otherwise, source)
}

/// Has NVML taken up again.
pub fn take_up(source: &mut ConfigSource) -> ExitCode {
    let otherwise = ". Without a control socket SIGUSR2 does the same";
    send(Request::TakeUp {}, "take-up", otherwise, source)
}

/// Sends a request and prints what came of it. `words` are those of the subcommand, and `otherwise`
/// says what can be done without it.
fn send(request: Request, words: &str, otherwise: &str, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    let answer = run(async {
        let state_dir = config.process.state_dir.ok_or("no --state-dir is set")?;
        let patience = RELEASE_DEADLINE + TIMEOUT;
        let call = client::call(&socket_path(&state_dir), &request, patience).await;
        call.map_err(|error| error.to_string())
    });
    match answer {
        Ok(Answer::Refused { reason }) => {
            print_error(&format!("nothing was changed: {reason}"));
            ExitCode::FAILURE
        }
        Ok(Answer::Other) => {
            print_error(&text(&Answer::Other));
            ExitCode::from(UNREACHABLE)
        }
        Ok(done) => print(&text(&done), 0),
        Err(error) => {
            print_error(&format!(
                "{error}; run this in the plugin's pod (kubectl -n kube-system exec POD -- \
                 gpu-device-plugin {words}), or as root on the node with the plugin's \
                 --state-dir{otherwise}"
            ));
            ExitCode::from(UNREACHABLE)
        }
    }
}

/// What came of it, in lines.
fn text(answer: &Answer) -> String {
    match answer {
        Answer::Cleared { gpu, causes, forgotten } => {
            let head = if *forgotten {
                format!("{gpu} is forgotten, since NVML does not list it. Cleared:")
            } else {
                format!("{gpu} is taken to be repaired, once clean polls confirm it. Cleared:")
            };
            causes.iter().fold(head + "\n", |text, cause| format!("{text}  {cause}\n"))
        }
        Answer::Released { seconds } => format!(
            "NVML is released for {seconds} s: the plugin has no GPU open. `gpu-device-plugin \
             take-up` ends that before\n"
        ),
        Answer::TakenUp {} => "NVML is in use\n".to_owned(),
        Answer::Refused { reason } => format!("{reason}\n"),
        Answer::Other => "the plugin is newer than this program, which does not know its \
                          answer: `gpu-device-plugin status` says what came of it"
            .to_owned(),
    }
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
