//! Secrets of sinks: named in the configuration by variable or file, read when the sink is built.
//!
//! A secret is never written in the configuration itself and never printed: its `Debug` hides it,
//! and no error repeats it. A changed file is read at the next reload.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use http::HeaderValue;

use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::sinks::SinkError;

/// The largest secret, in bytes.
const MAX: u64 = 16 * 1024;

/// Where a secret is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file; a line end at its end does not count.
    File(PathBuf),
}

impl SecretSource {
    /// Reads `<name>_env` or `<name>_file`. `Some(None)` if neither is there, `None` after an error.
    pub fn check(map: &Map<'_>, env: &str, file: &str, problems: &mut Problems) -> Option<Option<SecretSource>> {
        match (map.get(env), map.get(file)) {
            (None, None) => Some(None),
            (Some(at), None) => SecretSource::env(at, problems).map(Some),
            (None, Some(at)) => SecretSource::file(at, problems).map(Some),
            (Some(_), Some(at)) => {
                problems.error_hint(at, format!("both `{env}` and `{file}`"), "leave one of the two out");
                None
            }
        }
    }

    /// The name of a variable.
    pub fn env(at: &Node, problems: &mut Problems) -> Option<SecretSource> {
        let name = at.str(problems)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
            // Not repeated: it may be the secret itself.
            let hint = "write the name of the variable, such as WEBHOOK_SECRET, and put the secret into it";
            problems.error_blotted(at, "this is no name of an environment variable".into(), hint);
            return None;
        }
        Some(SecretSource::Env(name.to_owned()))
    }

    /// The path of a file.
    pub fn file(at: &Node, problems: &mut Problems) -> Option<SecretSource> {
        let path = at.str(problems)?;
        if path.trim().is_empty() {
            problems.error_hint(at, "the path is empty".into(), "name a file");
            return None;
        }
        Some(SecretSource::File(path.into()))
    }

    /// Reads it. Relative paths are relative to `base`.
    ///
    /// # Errors
    /// It is not there, empty, too long or no text; the error names the place, never the secret.
    pub fn read(&self, base: &Path) -> Result<Secret, SinkError> {
        let (text, place) = match self {
            SecretSource::Env(name) => (std::env::var(name).ok(), format!("the variable {name}")),
            SecretSource::File(path) => {
                let path = base.join(path);
                let place = format!("the file {}", path.display());
                let cannot = |source| SinkError::Io { what: format!("cannot read {place}"), source };
                if !std::fs::metadata(&path).map_err(cannot)?.is_file() {
                    return Err(SinkError::Other(format!("{place} is no file")));
                }
                let mut bytes = Vec::new();
                let file = std::fs::File::open(&path).map_err(cannot)?;
                file.take(MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
                (String::from_utf8(bytes).ok(), place)
            }
        };
        let text = text.unwrap_or_default();
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.len() as u64 > MAX {
            return Err(SinkError::Other(format!(
                "{place} holds no secret; put one into it, as text of at most 16 KiB"
            )));
        }
        Ok(Secret { text: text.to_owned(), place })
    }
}

/// A secret and where it came from.
#[derive(Clone)]
pub struct Secret {
    text: String,
    place: String,
}

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Where it came from, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The secret after `prefix` as the value of a header that is never printed.
    ///
    /// # Errors
    /// It has characters that a header cannot carry.
    pub fn header(&self, prefix: &str) -> Result<HeaderValue, SinkError> {
        let value = HeaderValue::from_str(&format!("{prefix}{}", self.text));
        let mut value = value
            .map_err(|_| SinkError::Other(format!("{} holds characters that a header cannot carry", self.place)))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_from_a_file_has_no_line_end_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s"), "hunter2hunter2\n").unwrap();
        let secret = SecretSource::File("s".into()).read(folder.path()).unwrap();
        assert_eq!(secret.reveal(), "hunter2hunter2");
        let header = secret.header("Bearer ").unwrap();
        assert_eq!(header.as_bytes(), b"Bearer hunter2hunter2");
        assert!(!format!("{secret:?} {header:?}").contains("hunter2"));
    }

    #[test]
    fn what_holds_no_secret_is_named_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bad"), "hun\nter2").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let read = |name: &str| SecretSource::File(name.into()).read(folder.path());
        for name in ["none", "empty", "."] {
            assert!(read(name).is_err(), "{name}");
        }
        let error = read("bad").unwrap().header("").unwrap_err().to_string();
        assert!(error.contains("bad") && !error.contains("ter2"), "{error}");
        let error = SecretSource::Env("AUTHTAP_TEST_THIS_IS_NOT_SET".into()).read(folder.path()).unwrap_err();
        assert!(error.to_string().contains("AUTHTAP_TEST_THIS_IS_NOT_SET"), "{error}");
    }
}
