//! Sessions and tokens by declaration: what the configuration itself calls one is never extracted,
//! whatever its name looks like. The names that give themselves away are [`super::source`]'s matter.

use crate::body::wanted::fits;
use crate::config::node::{Node, Value, clip};
use crate::config::problem::Problems;
use crate::session::SessionConfig;

/// What the file itself calls a session or a token is one, whatever its name looks like: no source
/// may carry it into an event. `parts` are allowed where it is known that a cookie holds a name
/// beside its secret: in presets.
pub fn check(route: &Node, session: &SessionConfig, parts: bool, problems: &mut Problems) {
    let session_of = route.child("session");
    let declared = ["token", "carried"].into_iter().filter_map(|key| session_of?.child(key));
    let tokens: Vec<&str> = declared.flat_map(Node::items).filter_map(Node::scalar).collect();
    for key in ["actor", "target", "organization", "method", "provider", "fields"] {
        let mut rest: Vec<&Node> = route.child(key).into_iter().collect();
        while let Some(node) = rest.pop() {
            match &node.value {
                Value::Map(entries) => rest.extend(entries.iter().map(|(_, value)| value)),
                Value::Seq(items) => rest.extend(items),
                Value::Null => {}
                Value::Scalar { text, .. } => {
                    let source = text.strip_prefix("response.").unwrap_or(text);
                    let cookie = source.strip_prefix("cookie.").filter(|name| !parts || !name.contains(':'));
                    let cookie = cookie.map(|name| name.split(':').next().unwrap_or_default());
                    let header = source.strip_prefix("header.");
                    let declared = tokens.contains(&text.as_str())
                        || cookie.is_some_and(|n| session.cookies.iter().any(|c| fits(c, n.as_bytes())))
                        || header.is_some_and(|n| session.headers.iter().any(|h| h.as_str().eq_ignore_ascii_case(n)));
                    if declared {
                        problems.error_hint(
                            node,
                            format!("`{}` is declared as a session or token and is never extracted", clip(text)),
                            "events carry its keyed hash as metadata.session_id",
                        );
                    }
                }
            }
        }
    }
}
