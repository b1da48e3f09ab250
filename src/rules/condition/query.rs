//! Whether a query can have a field at all, told without reading its fields.
//!
//! It runs on the traffic path and must never allocate. The invariant: a field that is there is never
//! looked past.

use crate::body::wanted::Wanted;

/// False if the query certainly has no such field: so that the requests no route is about are told
/// without reading their fields, which allocates.
pub(in crate::rules) fn may_have(query: Option<&str>, name: &str) -> bool {
    query.is_some_and(|query| !is_plain(name) || query.contains('%') || query.contains(name))
}

/// The same of many names at once: of [`is_plain`] ones, or `*`.
pub(in crate::rules) fn may_have_any(query: &str, names: &Wanted) -> bool {
    let mut fields = query.as_bytes().split(|b| *b == b'&');
    memchr::memchr(b'%', query.as_bytes()).is_some()
        || fields
            .any(|field| names.has(field.get(..memchr::memchr(b'=', field).unwrap_or(field.len())).unwrap_or(field)))
}

/// True if a name is written in one way only, but for escapes.
pub(in crate::rules) fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::body::form;

    proptest! {
        #[test]
        fn a_query_field_that_is_there_is_never_looked_past(
            query in "([ab+%\\[\\]=&.-]|%61|%62){0,12}",
            names in proptest::collection::vec("[ab-]{1,3}", 0..4),
        ) {
            let fields = form::parse(query.as_bytes(), false);
            let there: Vec<_> = names.iter().filter(|name| fields.all(name).next().is_some()).collect();
            prop_assert!(there.iter().all(|name| may_have(Some(&query), name)));
            prop_assert!(there.is_empty() || may_have_any(&query, &Wanted::new(names.clone())));
        }
    }
}
