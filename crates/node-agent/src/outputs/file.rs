//! Labels in a file of node feature discovery's directory features.d.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::args::Interval;
use crate::keep::Target;
use crate::labels::Labels;
use crate::retry::Failure;

/// How long labels last that nobody renews, at least.
const MIN_LIFETIME: Duration = Duration::from_secs(3600);
/// How the line begins that says until when.
const EXPIRY: &str = "# +expiry-time=";

/// The labels, one a line, by name.
#[must_use]
pub fn label_lines(labels: &Labels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// A file in features.d. It is replaced as a whole, and stays when the agent ends: labels last over
/// a restart, and for about an hour without an agent.
pub struct FeatureFile {
    /// Standard output if it is empty.
    path: PathBuf,
    /// `None`: it never expires.
    lifetime: Option<Duration>,
}

impl FeatureFile {
    /// The file at this path, which is looked at in this interval; without one nobody renews it, so
    /// that it does not expire.
    #[must_use]
    pub fn new(path: PathBuf, interval: Interval) -> Self {
        let lifetime = interval.0.map(|interval| (3 * interval).max(MIN_LIFETIME));
        Self { path, lifetime }
    }

    fn text(&self, labels: &Labels, now: SystemTime) -> String {
        let mut text = String::new();
        if let Some(expiry) = self.lifetime.map(|lifetime| now + lifetime) {
            let _ = writeln!(text, "{EXPIRY}{}", humantime::format_rfc3339_seconds(expiry));
        }
        text + &label_lines(labels)
    }

    /// Whether a file has these labels, for at least half of their time.
    fn is_fresh(&self, text: &str, labels: &Labels, now: SystemTime) -> bool {
        let Some(lifetime) = self.lifetime else { return text == label_lines(labels) };
        let Some((first, lines)) = text.split_once('\n') else { return false };
        let expiry = first.strip_prefix(EXPIRY).map(humantime::parse_rfc3339);
        let lasts = matches!(expiry, Some(Ok(expiry)) if expiry > now + lifetime / 2);
        lasts && lines == label_lines(labels)
    }
}

impl Target for FeatureFile {
    type Wanted = Labels;
    const WHAT: &'static str = "the labels in the file";

    async fn is_there(&mut self, wanted: &Labels) -> Result<bool, Failure> {
        if self.path.as_os_str().is_empty() {
            return Ok(true);
        }
        let path = self.path.clone();
        let text = on_scratch_thread(move || fs::read_to_string(&path)).await?;
        Ok(text.is_ok_and(|text| self.is_fresh(&text, wanted, SystemTime::now())))
    }

    async fn write(&mut self, wanted: &Labels) -> Result<(), Failure> {
        let path = self.path.clone();
        if path.as_os_str().is_empty() {
            let text = label_lines(wanted);
            let printed =
                on_scratch_thread(move || io::stdout().write_all(text.as_bytes())).await?;
            return printed.map_err(|error| format!("printing: {error}").into());
        }
        let text = self.text(wanted, SystemTime::now());
        let written = on_scratch_thread(move || replace(&path, &text)).await?;
        written.map_err(|error| format!("writing {}: {error}", self.path.display()).into())
    }
}

/// Replaces a file, so that nobody sees half of it. Names that begin with a dot are not read by
/// node feature discovery.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    // One of a process that was killed.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Runs what may block on a thread of its own: the directory is the host's.
pub(crate) async fn on_scratch_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, done) = oneshot::channel();
    thread::Builder::new()
        .name("file".to_owned())
        .spawn(move || drop(sender.send(work())))
        .map_err(|error| format!("there is no thread to be had: {error}"))?;
    done.await.map_err(|_| "the thread has panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn some_labels() -> Labels {
        let labels = [("nvidia.com/gpu.count", "8"), ("nvidia.com/gpu.sharing-strategy", "")];
        labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    const MINUTE: Interval = Interval(Some(Duration::from_secs(60)));

    #[test]
    fn it_says_until_when_its_labels_last_and_has_them_by_name() {
        let file = FeatureFile::new("/f".into(), MINUTE);
        let text = file.text(&some_labels(), UNIX_EPOCH);
        let expected = "# +expiry-time=1970-01-01T01:00:00Z\nnvidia.com/gpu.count=8\n\
            nvidia.com/gpu.sharing-strategy=\n";
        assert_eq!(text, expected);
        for (minutes, fresh) in [(0, true), (29, true), (31, false), (90, false)] {
            let now = UNIX_EPOCH + Duration::from_secs(60 * minutes);
            assert_eq!(file.is_fresh(&text, &some_labels(), now), fresh, "{minutes}");
        }
        assert!(!file.is_fresh(&text, &Labels::new(), UNIX_EPOCH));
        assert!(!file.is_fresh("", &Labels::new(), UNIX_EPOCH));
        let endless = FeatureFile::new("/f".into(), Interval(None));
        assert!(!endless.text(&some_labels(), UNIX_EPOCH).contains('#'));
    }

    #[tokio::test]
    async fn it_is_replaced_as_a_whole_and_written_again_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gfd");
        fs::write(directory.path().join(".gfd.new"), "of a process that was killed").unwrap();
        let mut file = FeatureFile::new(path.clone(), MINUTE);
        assert_eq!(file.is_there(&some_labels()).await, Ok(false));
        file.write(&some_labels()).await.unwrap();
        assert_eq!(file.is_there(&some_labels()).await, Ok(true));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o444, 0o444);
        let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["gfd"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.is_there(&some_labels()).await, Ok(false));
        let mut nowhere = FeatureFile::new(directory.path().join("absent/gfd"), MINUTE);
        let error = nowhere.write(&some_labels()).await.unwrap_err();
        assert!(error.why.contains("absent/gfd: No such file"), "{error}");
    }
}
