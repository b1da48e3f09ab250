//! The configuration as its users meet it: what is accepted, and the exact words of what is not.
//!
//! `AUTHTAP_BLESS=1` writes the expected texts anew; read the difference before committing it.

use std::fs;
use std::path::{Path, PathBuf};

use authtap::cmd::check::verdict;
use authtap::config::settings;

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder with this extension, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
    let all = entries.map(|entry| entry.expect("an entry").path());
    let mut all: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    all.sort();
    all
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

/// Holds a file equal to what it should be, or writes it.
fn hold_equal(path: &Path, wanted: &str) -> Result<(), String> {
    if std::env::var_os("AUTHTAP_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(path, wanted).expect("the file can be written");
        return Ok(());
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == wanted {
        return Ok(());
    }
    let shown = path.strip_prefix(root()).unwrap_or(path).display();
    Err(format!("{shown} is not what the program says (AUTHTAP_BLESS=1 writes it anew):\n{wanted}"))
}

fn checked(path: &Path) -> (bool, String) {
    let source = fs::read_to_string(path).expect("the file can be read");
    let (config, problems) = settings::check(name(path), &source);
    (problems.is_empty(), format!("{problems}{}\n", verdict(config.as_ref(), &problems)))
}

#[test]
fn what_is_wrong_with_a_file_is_told_in_these_words() {
    let differences: Vec<String> = files("tests/config/bad", "yaml")
        .iter()
        .filter_map(|path| {
            let (fine, report) = checked(path);
            if fine {
                return Some(format!("{} is accepted without a word", name(path)));
            }
            hold_equal(&path.with_extension("txt"), &report).err()
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
