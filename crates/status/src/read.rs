//! Reads a status that an older or newer plugin may have written.

use serde::Deserialize;

use super::schema::{SCHEMA_VERSION, Status};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    schema_version: u32,
}

/// Reads a status. One of a newer version is read as far as this program knows it, and says so by
/// [`Status::newer`].
///
/// # Errors
/// In words: it is no status, or a newer one that this program cannot read.
pub fn read(text: &str) -> Result<Status, String> {
    let no_status = |error| format!("what answers is no gpu-device-plugin: {error}");
    // The version first: another one may have parts that this program cannot read.
    let Version { schema_version } = serde_json::from_str(text).map_err(no_status)?;
    serde_json::from_str(text).map_err(|error| match schema_version {
        newer if newer > SCHEMA_VERSION => format!(
            "the plugin's status is of version {newer}, newer than this program, which knows \
             version {SCHEMA_VERSION}: use the program of the plugin's own image, or -o json \
             ({error})"
        ),
        SCHEMA_VERSION => no_status(error),
        older => format!(
            "the plugin's status is of version {older}, older than this program, which knows \
             version {SCHEMA_VERSION}: use the program of the plugin's own image ({error})"
        ),
    })
}
