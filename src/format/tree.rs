//! An event as a tree that keeps the order of its keys.
//!
//! The public event has its keys in a fixed order, and leaving some of them out must not shuffle
//! the others. It must never grow beyond the event it was read from.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

/// A JSON value whose objects keep the order in which they were written.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// An object.
    Object(Vec<(String, Tree)>),
    /// An array.
    Array(Vec<Tree>),
    /// Anything else.
    Leaf(Value),
}

impl Tree {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(line: &str) -> Result<Tree, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// The value at a pointer of plain keys (`/actor/email`); arrays are not entered.
    pub fn at(&self, pointer: &str) -> Option<&Tree> {
        pointer.split('/').skip(1).try_fold(self, |tree, key| tree.get(key))
    }

    /// The text at a pointer.
    pub fn str(&self, pointer: &str) -> Option<&str> {
        match self.at(pointer)? {
            Tree::Leaf(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The text, number or truth value at a pointer.
    pub fn leaf(&self, pointer: &str) -> Option<&Value> {
        match self.at(pointer)? {
            Tree::Leaf(value) => Some(value),
            _ => None,
        }
    }

    /// The number at a pointer.
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.leaf(pointer).and_then(Value::as_f64)
    }

    /// The entries of the object at a pointer; none if there is no object.
    pub fn entries(&self, pointer: &str) -> &[(String, Tree)] {
        match self.at(pointer) {
            Some(Tree::Object(entries)) => entries,
            _ => &[],
        }
    }

    fn get(&self, key: &str) -> Option<&Tree> {
        let Tree::Object(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, tree)| tree)
    }

    /// Writes a text at a key of the object itself: in place of what stands there, else after
    /// `after`, else at the end.
    pub fn set(&mut self, key: &str, text: &str, after: &str) {
        let Tree::Object(entries) = self else { return };
        let value = Tree::Leaf(Value::String(text.to_owned()));
        if let Some((_, old)) = entries.iter_mut().find(|(name, _)| name == key) {
            *old = value;
            return;
        }
        let at = entries.iter().position(|(name, _)| name == after).map_or(entries.len(), |at| at + 1);
        entries.insert(at, (key.to_owned(), value));
    }

    /// Leaves out every part for which `kept` is false, and every object that this empties. Parts
    /// are named by their pointers; what is inside of a part that goes is not asked for.
    pub fn retain(&mut self, kept: &dyn Fn(&str) -> bool) {
        self.retain_below(&mut String::new(), kept);
    }

    fn retain_below(&mut self, pointer: &mut String, kept: &dyn Fn(&str) -> bool) {
        let Tree::Object(entries) = self else { return };
        entries.retain_mut(|(name, tree)| {
            let length = pointer.len();
            pointer.push('/');
            pointer.push_str(name);
            let stays = kept(pointer) && {
                let was_empty = tree.is_empty();
                tree.retain_below(pointer, kept);
                was_empty || !tree.is_empty()
            };
            pointer.truncate(length);
            stays
        });
    }

    fn is_empty(&self) -> bool {
        matches!(self, Tree::Object(entries) if entries.is_empty())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Object(entries) => to.collect_map(entries.iter().map(|(key, tree)| (key, tree))),
            Tree::Array(items) => to.collect_seq(items),
            Tree::Leaf(value) => value.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Tree, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_reading_and_leaving_out() {
        let line = r#"{"z":1,"a":{"y":"é\n","b":{"c":null}},"k":[{"q":1,"p":2}],"e":{}}"#;
        let mut tree = Tree::parse(line).unwrap();
        assert_eq!(tree.to_string(), line);
        tree.set("reason", "user", "z");
        tree.set("z", "2", "");
        tree.retain(&|pointer| pointer != "/a/b/c" && pointer != "/k");
        assert_eq!(tree.to_string(), r#"{"z":"2","reason":"user","a":{"y":"é\n"},"e":{}}"#);
        assert_eq!((tree.str("/a/y"), tree.str("/a/b"), tree.str("/a/y/x")), (Some("é\n"), None, None));
    }
}
