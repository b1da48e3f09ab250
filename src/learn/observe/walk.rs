//! A walk through a JSON document, no further than a draft looks.

use serde_json::Value as Json;

use super::MAX_PLACES;
use crate::learn::words::is_name;

/// How deep they may lie.
const MAX_DEPTH: usize = 4;

pub(super) fn last(pointer: &str) -> &str {
    pointer.rsplit('/').next().unwrap_or_default()
}

/// Every place of a document whose names are names, by its pointer.
pub(super) fn walk(json: Option<&Json>, found: &mut dyn FnMut(&str, &Json)) {
    let mut left: Vec<(String, &Json)> = json.map(|json| (String::new(), json)).into_iter().collect();
    let mut looked_at = 0;
    while let Some((pointer, value)) = left.pop() {
        let members = match value {
            Json::Object(members) => members,
            // What one entry has, the others have.
            Json::Array(items) => {
                left.extend(items.first().map(|first| (format!("{pointer}/*"), first)));
                continue;
            }
            _ => continue,
        };
        for (name, value) in members {
            looked_at += 1;
            if looked_at > MAX_PLACES {
                return;
            }
            if !is_name(name) {
                continue;
            }
            let pointer = format!("{pointer}/{name}");
            found(&pointer, value);
            if pointer.matches('/').count() < MAX_DEPTH {
                left.push((pointer, value));
            }
        }
    }
}
