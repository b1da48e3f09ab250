//! YAML in one line, as a draft has it.
//!
//! Text is quoted as JSON has it, which YAML reads alike, so that nothing in it can end its place.

use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yaml {
    /// Written as it is: a constant of ours, a number.
    Word(String),
    /// Quoted.
    Text(String),
    /// A mapping, in its order.
    Map(Vec<(String, Yaml)>),
    /// A list.
    List(Vec<Yaml>),
}

impl Yaml {
    /// A constant of ours, or a number.
    pub fn word(word: &str) -> Yaml {
        Yaml::Word(word.to_owned())
    }

    /// A text.
    pub fn text(text: &str) -> Yaml {
        Yaml::Text(text.to_owned())
    }

    /// An empty mapping.
    pub fn map() -> Yaml {
        Yaml::Map(Vec::new())
    }

    /// True for an empty mapping or list.
    pub fn is_empty(&self) -> bool {
        match self {
            Yaml::Map(entries) => entries.is_empty(),
            Yaml::List(items) => items.is_empty(),
            Yaml::Word(_) | Yaml::Text(_) => false,
        }
    }

    /// The same with this key.
    #[must_use]
    pub fn with(mut self, key: &str, value: Yaml) -> Yaml {
        self.put(&[key], value);
        self
    }

    /// Puts a value under keys, of which each holds a mapping; false if something else is there already.
    pub fn put(&mut self, keys: &[&str], value: Yaml) -> bool {
        let (Yaml::Map(entries), Some((first, rest))) = (self, keys.split_first()) else { return false };
        let at = entries.iter().position(|(key, _)| key == first);
        match (at.and_then(|at| entries.get_mut(at)), rest.is_empty()) {
            (Some((_, there)), true) => *there == value,
            (Some((_, there)), false) => there.put(rest, value),
            (None, true) => {
                entries.push(((*first).to_owned(), value));
                true
            }
            (None, false) => {
                let mut inner = Yaml::map();
                let fits = inner.put(rest, value);
                entries.push(((*first).to_owned(), inner));
                fits
            }
        }
    }
}

impl fmt::Display for Yaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Yaml::Word(word) => f.write_str(word),
            Yaml::Text(text) => f.write_str(&quoted(text)),
            Yaml::Map(entries) if entries.is_empty() => f.write_str("{}"),
            Yaml::Map(entries) => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    f.write_str(if i == 0 { "{ " } else { ", " })?;
                    let other = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
                    let plain =
                        key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !other.contains(&key.as_str());
                    if plain {
                        f.write_str(key)?
                    } else {
                        f.write_str(&quoted(key))?
                    }
                    write!(f, ": {value}")?;
                }
                f.write_str(" }")
            }
            Yaml::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A text as YAML; JSON's quotes are YAML's too.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text that cannot end its comment.
pub fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_under_one_key_come_together_and_contradictions_are_told() {
        let mut made = Yaml::map();
        assert!(
            made.put(&["form", "a"], Yaml::word("present")) && made.put(&["form", "b c"], Yaml::text("x: \"y\" #"))
        );
        assert!(made.put(&["form", "a"], Yaml::word("present")), "said twice");
        assert!(!made.put(&["form", "a"], Yaml::word("absent")));
        assert_eq!(made.to_string(), r##"{ form: { a: present, "b c": "x: \"y\" #" } }"##);
    }
}
