//! A page or XML document without its secrets: tags, and names in them, stay; texts and values are read
//! as what they are.
//!
//! One pass over strangers' text, linear, no tree. Comments are left out, since nobody knows what stands
//! in them.

use super::scrub::{As, Scrubber};

/// Attributes that name something or say how something is meant.
const NAMES: [&str; 24] = [
    "name",
    "id",
    "class",
    "type",
    "for",
    "method",
    "rel",
    "autocomplete",
    "role",
    "lang",
    "dir",
    "charset",
    "http-equiv",
    "media",
    "target",
    "enctype",
    "scope",
    "wrap",
    "inputmode",
    "formmethod",
    "formcontrolname",
    "aria-invalid",
    "aria-hidden",
    "xmlns",
];
/// Attributes that hold an address.
const ADDRESSES: [&str; 9] =
    ["href", "src", "action", "formaction", "data-url", "data-href", "poster", "cite", "srcset"];
/// The most attributes of a tag; further ones are left out.
const MAX_ATTRIBUTES: usize = 64;

/// One attribute as it stood.
struct Attribute<'t> {
    name: &'t str,
    value: Option<&'t str>,
}

/// A page without its secrets. Texts of an XML request are secrets, but for those of `named` elements.
pub fn page(text: &str, request: bool, scrubber: &mut Scrubber) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside = String::new();
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        out.push_str(&content(before, &inside, request, scrubber));
        if let Some(comment) = tag.strip_prefix("<!--") {
            rest = comment.find("-->").and_then(|end| comment.get(end + 3..)).unwrap_or_default();
            continue;
        }
        let (name, attributes, closed, after) = read(tag);
        if name.is_empty() {
            // No tag: the sign itself.
            out.push_str("&lt;");
            rest = tag.get(1..).unwrap_or_default();
            continue;
        }
        out.push('<');
        out.push_str(&scrubber.name(name));
        let owner = attributes.iter().find(|a| a.name.eq_ignore_ascii_case("name")).and_then(|a| a.value);
        let password = attributes.iter().any(|a| {
            a.name.eq_ignore_ascii_case("type") && a.value.is_some_and(|kind| kind.eq_ignore_ascii_case("password"))
        });
        for attribute in &attributes {
            out.push(' ');
            out.push_str(&scrubber.name(attribute.name));
            let Some(value) = attribute.value else { continue };
            let made = value_of(&attribute.name.to_ascii_lowercase(), &unescaped(value), (owner, password), scrubber);
            out.push_str(&format!("=\"{}\"", escaped(&made)));
        }
        if closed {
            out.push('/');
        }
        out.push('>');
        inside = name.to_ascii_lowercase();
        rest = after;
    }
    out.push_str(&content(rest, &inside, request, scrubber));
    out
}

/// Text between tags.
fn content(text: &str, inside: &str, request: bool, scrubber: &mut Scrubber) -> String {
    if text.trim().is_empty() {
        return text.to_owned();
    }
    // Not escaped there (HTML, section 13.1.2).
    if !request && (inside == "script" || inside == "style") {
        return scrubber.text(text, As::Text);
    }
    let made = match request {
        true if inside == "methodname" || inside == "name" => scrubber.name(&unescaped(text)),
        true => scrubber.secret(&unescaped(text)),
        false => scrubber.text(&unescaped(text), As::Text),
    };
    made.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn value_of(name: &str, value: &str, (owner, password): (Option<&str>, bool), scrubber: &mut Scrubber) -> String {
    match name {
        _ if NAMES.contains(&name) => scrubber.name(value),
        _ if ADDRESSES.contains(&name) => scrubber.url(value),
        "value" if password => scrubber.secret(value),
        "value" => scrubber.named(owner.unwrap_or_default(), value),
        // What a script reads under a name of a secret is one.
        _ if scrubber.is_secret(name) => scrubber.secret(value),
        "content" if value.starts_with("http") => scrubber.url(value),
        "content" if owner.is_some_and(|owner| scrubber.is_secret(owner)) => scrubber.secret(value),
        _ => scrubber.text(value, As::Text),
    }
}

/// A tag that begins with `<`: its name (with a slash before it if it ends an element), attributes,
/// whether it ends itself, and what comes after it.
fn read(tag: &str) -> (&str, Vec<Attribute<'_>>, bool, &str) {
    let body = tag.get(1..).unwrap_or_default();
    let starts = body.strip_prefix(['/', '!', '?']).unwrap_or(body).starts_with(|c: char| c.is_ascii_alphabetic());
    if !starts {
        return ("", Vec::new(), false, body);
    }
    let end = body.char_indices().skip(1).find(|(_, c)| c.is_whitespace() || matches!(c, '>' | '/'));
    let (name, mut rest) = body.split_at(end.map_or(body.len(), |(at, _)| at));
    let mut attributes = Vec::new();
    let mut closed = false;
    loop {
        rest = rest.trim_start_matches(char::is_whitespace);
        if let Some(after) = rest.strip_prefix('>') {
            return (name, attributes, closed, after);
        }
        if let Some(after) = rest.strip_prefix(['/', '?']) {
            (closed, rest) = (true, after);
            continue;
        }
        let end = rest.char_indices().skip(1).find(|(_, c)| c.is_whitespace() || matches!(c, '=' | '>' | '/'));
        let (attribute, after) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        if attribute.is_empty() {
            return (name, attributes, closed, "");
        }
        rest = after.trim_start_matches(char::is_whitespace);
        let mut value = None;
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start_matches(char::is_whitespace);
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
            (value, rest) = match quote {
                Some(quote) => {
                    let inner = after.get(1..).unwrap_or_default();
                    let end = inner.find(quote).unwrap_or(inner.len());
                    (inner.get(..end), inner.get(end + 1..).unwrap_or_default())
                }
                None => {
                    let end = after.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(after.len());
                    (after.get(..end), after.get(end..).unwrap_or_default())
                }
            };
        }
        if attributes.len() < MAX_ATTRIBUTES {
            attributes.push(Attribute { name: attribute, value });
        }
    }
}

/// Character references of XML and numbers, as the characters they stand for.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let end = after.bytes().take(12).position(|b| b == b';');
        let name = end.and_then(|end| after.get(1..end)).unwrap_or_default();
        let number = name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        });
        let found = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => number.and_then(char::from_u32),
        };
        match (found, end) {
            (Some(c), Some(end)) => {
                out.push(c);
                rest = after.get(end + 1..).unwrap_or_default();
            }
            _ => {
                out.push('&');
                rest = after.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vocabulary::Vocabulary;
    use super::*;

    fn made(text: &str) -> String {
        page(text, false, &mut Scrubber::new([1; 32], Vocabulary::default()))
    }

    #[test]
    fn forms_stay_forms_and_what_stands_in_them_goes() {
        let made = made(
            "<!-- token 9f8e7d6c5b4a --><p class=\"errorlist hint\">Hello Zenobia, wrong password</p>\
             <form action='/konto/login?next=%2Fx&k=hunter22-a' method=post><input type=password name=pw value=hunter22>\
             <input name=csrf value='a&amp;b-77aa88bb99'><a href=/logout>x</a>",
        );
        for gone in ["9f8e", "Zenobia", "hunter22", "77aa88"] {
            assert!(!made.contains(gone), "{gone} in {made}");
        }
        for kept in [
            "class=\"errorlist hint\"",
            "type=\"password\"",
            "name=\"pw\"",
            "wrong password",
            "href=\"/logout\"",
            "/konto/login?next",
        ] {
            assert!(made.contains(kept), "{kept} not in {made}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(<[a-z!/]{0,3}|[a-z=\"' >/&;#-]|é){0,200}") {
            let _ = made(&text);
        }
    }
}
