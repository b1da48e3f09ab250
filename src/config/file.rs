//! The text of a configuration file, or why it has none.
//!
//! Must never show what stands in the file: what cannot be read may be anything.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file has no text.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there or not readable.
    #[error("cannot read {}: {source}; name the file, or begin with the routes.yaml of the project", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// It begins with the byte order mark of UTF-16.
    #[error("cannot read {}: it is UTF-16; save it as UTF-8", .0.display())]
    Utf16(PathBuf),
    /// It is in another encoding, or no text at all.
    #[error("cannot read {}: line {line} is not UTF-8; save the file as UTF-8", .file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// The first line that is not, from 1.
        line: usize,
    },
}

/// Reads a file.
///
/// # Errors
/// It is not there, not readable or not UTF-8.
pub fn read(file: &Path) -> Result<String, ReadError> {
    let bytes = std::fs::read(file).map_err(|source| ReadError::Io { file: file.to_owned(), source })?;
    text(file, bytes)
}

fn text(file: &Path, bytes: Vec<u8>) -> Result<String, ReadError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ReadError::Utf16(file.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        ReadError::NotUtf8 { file: file.to_owned(), line: 1 + before.filter(|byte| **byte == b'\n').count() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(bytes: &[u8]) -> String {
        text(Path::new("r.yaml"), bytes.to_vec()).map_or_else(|error| error.to_string(), |_| "text".into())
    }

    #[test]
    fn another_encoding_is_named_with_its_line_and_nothing_of_the_text() {
        assert_eq!(why("version: 1\n# für\n".as_bytes()), "text");
        let latin = why(b"version: 1\n# f\xfcr hunter22\n");
        assert_eq!(latin, "cannot read r.yaml: line 2 is not UTF-8; save the file as UTF-8");
        let utf16 = why(b"\xff\xfev\0e\0r\0");
        assert_eq!(utf16, "cannot read r.yaml: it is UTF-16; save it as UTF-8");
    }
}
