//! Words and names that programs choose, told from what somebody typed: only they may stand in a draft.

use crate::auto::words::{ACTION, Words};
use crate::event::text::looks_like_a_token;

/// The longest name of a field, cookie or key that may stand in a draft, in bytes.
pub(super) const MAX_NAME: usize = 64;

/// A word as programs choose them: no name of a person, no number, nothing typed at length.
pub fn is_word(text: &str) -> bool {
    (2..=40).contains(&text.len())
        && !looks_like_a_token(text)
        && text.bytes().all(|b| b.is_ascii_alphabetic() || b"_-./:".contains(&b))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// A field that says which of several things is done.
pub fn says_what(name: &str) -> bool {
    const ALSO: [&str; 8] = ["mode", "method", "grant_type", "operationName", "page", "type", "step", "view"];
    Words::of(name).say(&ACTION) || ALSO.contains(&name)
}

/// True for a word by which a program says how something went, under a key for such words. A code may as
/// well be one that was mailed to somebody: then it has to be written like a constant.
pub fn says_how_it_went(key: &str, word: &str) -> bool {
    const ALWAYS: [&str; 8] = ["error", "errorcode", "error_code", "type", "reason", "status", "result", "kind"];
    let constant = word.contains('_') && !word.bytes().any(|b| b.is_ascii_lowercase());
    let key = key.to_ascii_lowercase();
    is_word(word) && (ALWAYS.contains(&key.as_str()) || (key == "code" && constant))
}

/// A name that somebody chose for a field, not a value that stands in a name's place.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !looks_like_a_token(name)
        && name.chars().all(|c| c.is_alphanumeric() || "_-.[]:".contains(c))
}
