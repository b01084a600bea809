//! Of `nvidia-smi`: reading and setting the compute mode of one GPU.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Invocation;
use crate::behaviour::{Behaviour, trace};

/// The modes, as they are set and as they are printed.
const MODES: [(&str, &str); 3] = [
    ("DEFAULT", "Default"),
    ("EXCLUSIVE_PROCESS", "Exclusive_Process"),
    ("PROHIBITED", "Prohibited"),
];

pub(crate) fn run(file: &Path, mut program: Invocation<'_>) -> i32 {
    trace(file, &format!("nvidia-smi {}", program.arguments.join(" ")));
    match answer(file, &program.arguments) {
        Ok(text) => {
            let _ = writeln!(program.output, "{text}");
            0
        }
        Err((code, text)) => {
            let _ = writeln!(program.output, "{text}");
            code
        }
    }
}

fn answer(file: &Path, arguments: &[String]) -> Result<String, (i32, String)> {
    let behaviour = Behaviour::read(file).map_err(|error| (2, error.to_string()))?;
    behaviour.suffer("nvidia-smi").map_err(|text| (4, text))?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (uuid, mode) = match words[..] {
        ["-i", uuid, "-c", mode] => (uuid, Some(mode)),
        ["-i", uuid, "--query-gpu=compute_mode", "--format=csv,noheader"] => (uuid, None),
        _ => return Err((2, "Invalid combination of input arguments.".to_owned())),
    };
    if !behaviour.gpus.iter().any(|gpu| gpu.uuid == uuid) {
        return Err((6, "No devices were found".to_owned()));
    }
    behaviour.suffer(&format!("nvidia-smi {uuid}")).map_err(|text| (4, text))?;
    let stored = mode_file(file, uuid);
    let before = fs::read_to_string(&stored).unwrap_or_else(|_| "Default".to_owned());
    let Some(mode) = mode else { return Ok(before) };
    let Some((_, printed)) = MODES.iter().find(|(set, _)| *set == mode) else {
        return Err((2, format!("Invalid compute mode: {mode}")));
    };
    fs::write(&stored, printed).map_err(|error| (255, error.to_string()))?;
    Ok(format!("Set compute mode to {mode} for GPU {uuid}.\nAll done."))
}

/// Where the mode of a GPU is kept.
fn mode_file(behaviour: &Path, uuid: &str) -> PathBuf {
    behaviour.with_file_name(format!("compute-mode-{uuid}"))
}
