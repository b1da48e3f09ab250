//! `resource:`: whom a collector is told that logs and spans come from (opentelemetry-proto,
//! `resource.proto`). The invariant: there is always a `service.name`.

use crate::config::node::{Node, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

/// The key.
pub const FIELD: Field =
    Field::new("resource", Kind::Dict(&Kind::Str), "{ service.name: authtap }", "attributes of the resource");

/// The most attributes of the resource.
const MAX: usize = 32;
/// The longest name of one, in bytes.
const MAX_NAME: usize = 128;

/// The attributes, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource(pub Vec<(String, String)>);

impl Resource {
    /// Checks `resource:`. `None` if there was an error.
    pub fn check(node: Option<&Node>, problems: &mut Problems) -> Option<Resource> {
        let mut found: Vec<(String, String)> = Vec::new();
        if let Some(at) = node {
            for (key, value) in at.entries(problems) {
                if key.text.is_empty() || key.text.len() > MAX_NAME || found.len() == MAX {
                    let message = format!("`{}` cannot be an attribute", clip(&key.text));
                    problems.error_key(at, key, message, "at most 32 of them");
                    return None;
                }
                found.push((key.text.clone(), value.str(problems)?.to_owned()));
            }
        }
        if !found.iter().any(|(key, _)| key == "service.name") {
            found.push(("service.name".into(), "authtap".into()));
        }
        Some(Resource(found))
    }
}
