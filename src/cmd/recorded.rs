//! What `replay`, `explain`, `learn` and `test` share: a configuration, or none, and a recording.
//!
//! Says what was left out, and never what stood in it.

use std::path::{Path, PathBuf};

use super::{FAILED, USAGE, check, complain};
use crate::app::{self, StartError};
use crate::capture::Limits;
use crate::config::settings::{self, Config};
use crate::exchange::Exchange;
use crate::har;

/// The configuration to read a recording with: the file, or capture without routes.
///
/// # Errors
/// The exit code; what is wrong has been said.
pub fn config(file: Option<&Path>) -> Result<Config, u8> {
    let Some(file) = file else {
        let (config, _) = settings::check("defaults", "version: 1\nauto: on\n");
        return config.ok_or(FAILED);
    };
    match app::load(file) {
        Ok((config, _)) => Ok(config),
        Err(StartError::Config(problems)) => {
            check::show(&problems, false);
            complain(&check::verdict(None, &problems));
            Err(USAGE)
        }
        Err(error) => {
            complain(&error.to_string());
            Err(USAGE)
        }
    }
}

/// The exchanges of a HAR file, or of every one in a folder, in the order of their names.
///
/// # Errors
/// The exit code; what is wrong has been said.
pub fn exchanges(from: &Path, limits: Limits) -> Result<Vec<Exchange>, u8> {
    let files = if from.is_dir() { files_of(from)? } else { vec![from.to_owned()] };
    let mut all = Vec::new();
    for file in files {
        match har::read_file(&file, limits) {
            Ok(recorded) => {
                if recorded.skipped > 0 {
                    let what = "that never reached an application (caches, extensions, WebSockets) are left out";
                    complain(&format!("{}: {} entries {what}", file.display(), recorded.skipped));
                }
                all.extend(recorded.exchanges);
            }
            Err(error) => {
                complain(&error.to_string());
                return Err(USAGE);
            }
        }
    }
    Ok(all)
}

/// The recordings of a folder.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, u8> {
    let listed = std::fs::read_dir(folder).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    let mut files: Vec<PathBuf> = match listed {
        Ok(files) => files,
        Err(error) => {
            complain(&format!("cannot read {}: {error}", folder.display()));
            return Err(USAGE);
        }
    };
    files.retain(|file| file.extension().is_some_and(|e| e.eq_ignore_ascii_case("har")));
    files.sort();
    if files.is_empty() {
        complain(&format!("{} has no recording: a file whose name ends in .har", folder.display()));
        return Err(USAGE);
    }
    Ok(files)
}
