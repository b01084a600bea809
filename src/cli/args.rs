//! What the program is to do: the subcommands and their arguments.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Subcommand};
use clap_complete::Shell;

use super::cleanup::CleanupArgs;
use crate::config::parse_duration;
use crate::doctor::check::Rule;
use crate::nvml::LONGEST_RELEASE;

/// What the program is to do. The comments on what can be given are the help of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Action {
    /// Serve the kubelet.
    #[command(skip)]
    Serve,
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(ConfigAction),
    /// Print what the running plugin knows: devices, health with reason, who holds them.
    #[command(
        after_help = "It asks at the status socket in --state-dir, and at --http-address. Exit \
                      code: 0 it answered, 1 it did not; with --exit-code 0 there is no problem, 1 \
                      there is one, 2 it cannot be told."
    )]
    Status {
        /// The format.
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        #[arg(value_parser = one_of(&OutputFormat::WORDS))]
        output: OutputFormat,
        /// End with 1 if there is a problem, and with 2 if it cannot be told; warnings do not
        /// count.
        #[arg(long)]
        exit_code: bool,
    },
    /// Find why pods on this node do not get GPUs, and how to correct it; changes nothing.
    #[command(
        after_help = "Exit code: 0 nothing is wrong, 1 something keeps GPUs from pods, 2 not all \
                      could be checked."
    )]
    Doctor(DoctorArgs),
    /// Answer one question in one line, for node problem detector's custom plugin monitor.
    #[command(
        after_help = "It asks the running plugin, at the status socket in --state-dir and at \
                      --http-address, for less than a second; without it, it says what can be \
                      seen from outside. Exit code: 0 OK, 1 NonOK, 2 Unknown."
    )]
    Check(CheckArgs),
    /// Tell the running plugin that a GPU is repaired, and clear its health causes.
    #[command(
        after_help = "It asks at the control socket in --state-dir, as the plugin's own user. The \
                      GPU is Healthy after clean polls, unless something else is wrong with it; \
                      one that NVML does not list is forgotten. Exit code: 0 it is cleared, 1 the \
                      plugin refused and says why, 2 no plugin answered."
    )]
    Clear {
        /// The GPU: its UUID, PCI bus id or index, as `status` shows them.
        #[arg(value_name = "GPU")]
        gpu: String,
        /// Clear the causes of this kind alone, such as xid.
        #[arg(long, value_name = "KIND")]
        cause: Option<String>,
    },
    /// Have the running plugin release NVML for a time, so that a GPU can be reset; said when done.
    #[command(
        after_help = "It asks at the control socket in --state-dir, as the plugin's own user. It \
                      can be repeated: the later end counts. Meanwhile the kubelet is served from \
                      memory and no GPU is watched. Exit code: 0 NVML is released, 1 it is not, \
                      and will not be by this request, 2 no plugin answered."
    )]
    Release {
        /// For how long, at most an hour; without it, health.releaseFor of the config file (30s).
        #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
        seconds: Option<u64>,
    },
    /// Have the running plugin initialise NVML again, before the time of a release is over.
    #[command(
        after_help = "It asks at the control socket in --state-dir, as the plugin's own user. It \
                      can be repeated. Exit code: 0 NVML is in use, 1 it is not, 2 no plugin \
                      answered."
    )]
    TakeUp,
    /// Print values for the Helm chart of this plugin, from the values or manifests of NVIDIA's.
    #[command(
        after_help = "The values go to standard output, with everything that will be different \
                      in comments above them. Exit code: 0 they are printed, 64 the input is \
                      neither."
    )]
    Migrate {
        /// Values files, or manifests; - or nothing: standard input.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print, list or check CDI specifications, by which container runtimes add devices.
    #[command(subcommand)]
    Cdi(CdiAction),
    /// Remove what the plugin has written on this node, after it was uninstalled; says what stays.
    #[command(
        after_help = "CDI specifications and hook programs stay while containers hold GPUs, and \
                      while the plugin runs nothing is removed. Files of other programs stay, and \
                      links are not followed. Exit code: 0 nothing of the plugin's is left but \
                      what was to stay, 1 something is."
    )]
    Cleanup(CleanupArgs),
    /// Start and supervise the MPS control daemon of each resource that the plugin shares by MPS.
    #[command(
        after_help = "It follows the status of the plugin at a socket in --mps-dir, and runs in a \
                      container of its own, as this program under the name \
                      mps-control-daemon does. SIGTERM ends the daemons, and with them their \
                      clients, and restores the compute mode of the GPUs."
    )]
    MpsControlDaemon {
        /// What to do instead.
        #[command(subcommand)]
        action: Option<MpsAction>,
    },
    /// Explain an Xid, the number of an error that the driver reports.
    #[command(
        after_help = "Exit code: 0 it is in NVIDIA's catalogue, 1 it is not, and the rule for such \
                      numbers is printed."
    )]
    Xid {
        /// The number; without one, all of them.
        #[arg(value_name = "NUMBER")]
        number: Option<u32>,
        /// Print all of them in Markdown, for the documentation.
        #[arg(long, hide = true, conflicts_with = "number")]
        markdown: bool,
    },
    /// Print the commands with which a shell completes command lines of this program.
    #[command(
        after_help = "For bash: source <(gpu-device-plugin completions bash), in ~/.bashrc for \
                      every shell."
    )]
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the version and the git commit.
    Version,
    /// Print the GPUs that answer a new initialisation of NVML, for the daemon.
    #[command(hide = true)]
    ListGpus {
        /// Where the driver's root is mounted.
        driver_root: PathBuf,
        /// The library, if it is named.
        library: Option<PathBuf>,
    },
}

/// What `cdi` is to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CdiAction {
    /// Print the specifications of the devices that the driver lists now, as the plugin would write
    /// them; what they lack goes to standard error.
    Generate {
        /// Write them to this directory instead, one file a kind.
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// List the names of the devices in the plugin's files in --cdi-spec-dir.
    List,
    /// Check that container runtimes can read these files, or the plugin's in --cdi-spec-dir.
    #[command(after_help = "Exit code: 0 they can, 1 they cannot, or there is no such file.")]
    Validate {
        /// The files, in JSON.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// What `mps-control-daemon` is to do instead of supervising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum MpsAction {
    /// Mount the shared memory of clients, at shm in --mps-dir; needs CAP_SYS_ADMIN.
    MountShm,
}

/// What `config` is to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigAction {
    /// Report every mistake and warning in config files, and start nothing.
    ///
    /// Of a ConfigMap and of the values of a Helm chart each configuration in it is checked:
    /// those under `data` of a ConfigMap, and under `config.map` of NVIDIA's chart.
    #[command(
        after_help = "Exit code: 0 there is no mistake, and with --strict no warning; 64 there is \
                      one."
    )]
    Check(CheckConfigArgs),
    /// Print the configuration in force as YAML, with the origin of each value.
    ///
    /// What it prints is a valid config file.
    Show {
        /// Also print the keys that are left out where nothing sets them.
        #[arg(long)]
        defaults: bool,
    },
    /// Print the table of settings in Markdown, for the documentation.
    #[command(hide = true)]
    Reference,
}

/// The arguments of `config check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckConfigArgs {
    /// The files to check; - is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Fail on warnings too.
    #[arg(long)]
    pub strict: bool,
    /// The format.
    #[arg(id = "output", short, long, value_name = "FORMAT", default_value = "text")]
    #[arg(action = ArgAction::Set, value_parser = one_of(&[("text", false), ("json", true)]))]
    pub json: bool,
}

/// How `status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// A table.
    Table,
    /// A table with more columns.
    Wide,
    /// JSON, as the daemon gives it.
    Json,
    /// The same as YAML.
    Yaml,
}

impl OutputFormat {
    const WORDS: [(&'static str, Self); 4] =
        [("table", Self::Table), ("wide", Self::Wide), ("json", Self::Json), ("yaml", Self::Yaml)];
}

/// The arguments of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// The format.
    #[arg(id = "output", short, long, value_name = "FORMAT", default_value = "text")]
    #[arg(action = ArgAction::Set, value_parser = one_of(&[("text", false), ("json", true)]))]
    pub json: bool,
    /// Where the root of the host is mounted; found automatically where the driver root is at or
    /// below it.
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// How long to wait for each call of the driver, in seconds. Without persistence mode a driver
    /// takes long to start.
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub driver_timeout: u64,
    /// Ask the driver and nothing else, for the doctor that has started this process.
    #[arg(long = SURVEY, hide = true)]
    pub survey: bool,
}

/// The hidden flag that sets [`DoctorArgs::survey`].
pub const SURVEY: &str = "ask-driver";

/// The arguments of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckArgs {
    /// Is every GPU Healthy, every resource registered with the kubelet, does NVML answer; or all.
    #[arg(value_name = "RULE", default_value = "all", value_parser = one_of(&Rule::WORDS))]
    pub rule: Rule,
    /// The most bytes of the line.
    // By default what node problem detector keeps of a line (max_output_length).
    #[arg(long, value_name = "BYTES", default_value = "80")]
    pub max_output: u16,
}

/// Parses one of these words as what it means.
fn one_of<T: Copy + Send + Sync>(
    words: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words.iter().map(|(word, _)| *word)).try_map(|word| {
        let known = words.iter().find(|(known, _)| *known == word);
        known.map(|(_, meaning)| *meaning).ok_or("no such word")
    })
}

/// The seconds of `--for`.
fn seconds(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text).filter(|duration| *duration <= LONGEST_RELEASE);
    let seconds = duration.map(|duration| duration.as_secs()).filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| {
        format!("is not a duration such as 30s or 5m, from 1s to {} s", LONGEST_RELEASE.as_secs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_for_a_second_at_least_and_an_hour_at_most() {
        for (text, expected) in [("1s", 1), ("30s", 30), ("1m30s", 90), ("1h", 3600)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in ["", "30", "0s", "500ms", "61m", "-1s", "forever"] {
            assert!(seconds(text).is_err_and(|why| why.contains("from 1s to 3600 s")), "{text}");
        }
    }
}
