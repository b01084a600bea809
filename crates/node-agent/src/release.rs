//! Has the plugin release NVML while a label of the Node says that somebody else needs the GPUs for
//! themselves: NVIDIA's MIG manager sets it before it changes MIG devices
//! (k8s-mig-manager, `reconfigure-mig.sh`).

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::info;

use crate::args::Interval;
use crate::keep::Target;
use crate::outputs::{on_scratch_thread, replace};
use crate::retry::Failure;

/// The value of the label that says so.
pub const PAUSED: &str = "paused-for-mig-change";
/// How often the time is renewed.
pub const RENEWAL: Interval = Interval(Some(Duration::from_secs(20)));
/// For how long it is written: an agent that is gone holds NVML up no longer.
const TERM: Duration = Duration::from_secs(90);

/// The plugin's release file.
pub struct ReleaseFile {
    path: PathBuf,
}

impl ReleaseFile {
    /// The file at this path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    async fn replace(&self, text: String) -> Result<(), Failure> {
        let path = self.path.clone();
        let written = on_scratch_thread(move || replace(&path, &text)).await?;
        written.map_err(|error| format!("writing {}: {error}", self.path.display()).into())
    }

    async fn renew(&self) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.replace(format!("{}\n", (now + TERM).as_secs())).await
    }
}

impl Target for ReleaseFile {
    /// Whether NVML is to be released.
    type Wanted = bool;
    const WHAT: &'static str = "the contents of --release-file";
    // Somebody waits for it.
    const BETWEEN_WRITES: Duration = Duration::from_secs(1);

    async fn is_there(&mut self, wanted: &bool) -> Result<bool, Failure> {
        if *wanted {
            self.renew().await?;
        }
        Ok(true)
    }

    async fn write(&mut self, wanted: &bool) -> Result<(), Failure> {
        if *wanted {
            self.renew().await?;
            info!("the label of this node has NVML released");
        } else {
            self.replace("0\n".to_owned()).await?;
        }
        Ok(())
    }
}
