//! The values that a page's form was served with: what a browser would send back if nobody touched it.
//!
//! Just enough of HTML for that (WHATWG HTML section 4.10.21.4, constructing the entry set): inputs,
//! selections and text areas by name, in the form that has most of the names asked for. It must
//! never follow a page where it leads: no scripts, no nesting, one pass. The invariant: time and
//! memory grow with the page and the names asked for, and are bounded.

/// The most values of one field that are read.
const MAX_VALUES: usize = 256;
/// The longest value that is read, in bytes; of a longer one this much.
const MAX_VALUE: usize = 4096;
/// The most forms of a page that are looked at.
const MAX_FORMS: usize = 64;
/// The most attributes of a tag that are looked at.
const MAX_ATTRIBUTES: usize = 32;

/// A field of a form: its name, and the values that would be sent for it, in order.
pub type Served = Vec<(String, Vec<String>)>;

/// The fields with these names in the page's form that has most of them. A name may end in `*`.
/// A field that is there and would send nothing (a box without a tick) has no values; one that
/// cannot be changed in the page (`disabled`) is left out.
pub fn served(page: &str, names: &[String]) -> Served {
    let mut forms: Vec<Served> = vec![Vec::new()];
    let mut rest = page;
    // The selection and option that are open.
    let mut select: Option<Select> = None;
    while let Some(start) = rest.find('<') {
        rest = rest.get(start + 1..).unwrap_or_default();
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.find("-->").and_then(|end| comment.get(end + 3..)).unwrap_or_default();
            continue;
        }
        let name_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '/').unwrap_or(rest.len());
        let tag = rest.get(..name_end).unwrap_or_default().to_ascii_lowercase();
        if !matches!(
            tag.as_str(),
            "form" | "input" | "select" | "/select" | "option" | "textarea" | "script" | "style" | "/form"
        ) {
            continue;
        }
        let (attributes, after) = attributes(rest.get(name_end..).unwrap_or_default());
        rest = after;
        match tag.as_str() {
            "script" | "style" => rest = after_end(rest, &tag).1,
            "form" if forms.len() < MAX_FORMS => forms.push(Vec::new()),
            "/select" => close(&mut forms, select.take()),
            "select" => {
                close(&mut forms, select.take());
                select = field_name(&attributes, names).map(|name| Select {
                    name,
                    multiple: attributes.has("multiple"),
                    first: None,
                    chosen: Vec::new(),
                });
            }
            "option" => {
                if let Some(select) = &mut select {
                    let text = rest.find('<').and_then(|end| rest.get(..end)).unwrap_or_default();
                    let value = attributes.get("value").map_or_else(|| clean(text.trim()), str::to_owned);
                    if attributes.has("selected") && select.chosen.len() < MAX_VALUES {
                        select.chosen.push(value);
                    } else if select.first.is_none() && !attributes.has("disabled") {
                        select.first = Some(value);
                    }
                }
            }
            "textarea" => {
                let (text, after) = after_end(rest, "textarea");
                rest = after;
                if let Some(name) = field_name(&attributes, names) {
                    // One newline after the tag is not part of the value (section 13.1.2.5).
                    let text = text.strip_prefix("\r\n").or(text.strip_prefix('\n')).unwrap_or(text);
                    add(&mut forms, name, Some(clean(text)));
                }
            }
            "input" => {
                let kind = attributes.get("type").unwrap_or("text").to_ascii_lowercase();
                if matches!(kind.as_str(), "submit" | "button" | "image" | "reset" | "file") {
                    continue;
                }
                let Some(name) = field_name(&attributes, names) else { continue };
                let ticked = !matches!(kind.as_str(), "checkbox" | "radio") || attributes.has("checked");
                let default = if matches!(kind.as_str(), "checkbox" | "radio") { "on" } else { "" };
                let value = attributes.get("value").unwrap_or(default);
                add(&mut forms, name, ticked.then(|| value.to_owned()));
            }
            _ => {}
        }
    }
    close(&mut forms, select);
    // Of several forms with as many of them, the first: later ones are dialogues and footers.
    forms.into_iter().rev().max_by_key(Vec::len).unwrap_or_default()
}

/// A `select` while its options are read.
struct Select {
    name: String,
    multiple: bool,
    /// What a browser chooses if nothing is chosen.
    first: Option<String>,
    chosen: Vec<String>,
}

fn close(forms: &mut [Served], select: Option<Select>) {
    let Some(select) = select else { return };
    let chosen = match (select.multiple, select.chosen.is_empty()) {
        (false, true) => select.first.into_iter().collect(),
        // Of several in a list for one, the last.
        (false, false) => select.chosen.into_iter().next_back().into_iter().collect(),
        (true, _) => select.chosen,
    };
    add(forms, select.name.clone(), None);
    for value in chosen {
        add(forms, select.name.clone(), Some(value));
    }
}

/// Notes a field of the form that is open.
fn add(forms: &mut [Served], name: String, value: Option<String>) {
    let Some(form) = forms.last_mut() else { return };
    let at = match form.iter().position(|(known, _)| *known == name) {
        Some(at) => at,
        // Names with a `*` may fit many fields.
        None if form.len() < MAX_VALUES => {
            form.push((name, Vec::new()));
            form.len() - 1
        }
        None => return,
    };
    if let (Some((_, values)), Some(value)) = (form.get_mut(at), value)
        && values.len() < MAX_VALUES
    {
        values.push(value);
    }
}

/// The name of a field that is asked for and can be changed.
fn field_name(attributes: &Attributes, names: &[String]) -> Option<String> {
    let name = attributes.get("name")?;
    let wanted = names.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == wanted,
    });
    (wanted && !attributes.has("disabled")).then(|| name.to_owned())
}

struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// The attributes of a tag, and what comes after it.
fn attributes(mut rest: &str) -> (Attributes, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if let Some(after) = rest.strip_prefix('>') {
            return (Attributes(found), after);
        }
        // A name may begin with anything but what ends a tag; one byte of progress is made.
        let end = rest
            .char_indices()
            .skip(1)
            .find(|(_, c)| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/'))
            .map_or(rest.len(), |(at, _)| at);
        if end == 0 || rest.is_empty() {
            return (Attributes(found), "");
        }
        let name = rest.get(..end).unwrap_or_default();
        rest = rest.get(end..).unwrap_or_default().trim_start_matches(|c: char| c.is_ascii_whitespace());
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start_matches(|c: char| c.is_ascii_whitespace());
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
            let (start, stop) = match quote {
                Some(quote) => (1, after.get(1..).and_then(|t| t.find(quote)).map_or(after.len(), |at| at + 1)),
                None => (0, after.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(after.len())),
            };
            value = after.get(start..stop).unwrap_or_default();
            rest = after.get(stop + start..).unwrap_or_default();
        }
        if found.len() < MAX_ATTRIBUTES {
            found.push((name.to_ascii_lowercase(), clean(value)));
        }
    }
}

/// What stands before the end tag, and what after it.
fn after_end<'t>(text: &'t str, tag: &str) -> (&'t str, &'t str) {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find("</")).map(|at| at + from) {
        let name = text.get(at + 2..at + 2 + tag.len()).unwrap_or_default();
        if name.eq_ignore_ascii_case(tag) {
            let rest = text.get(at..).unwrap_or_default();
            let after = rest.find('>').and_then(|end| rest.get(end + 1..)).unwrap_or_default();
            return (text.get(..at).unwrap_or_default(), after);
        }
        from = at + 2;
    }
    (text, "")
}

/// A value with its character references replaced: the five of XML, and numbers.
fn clean(text: &str) -> String {
    let text = text.char_indices().nth(MAX_VALUE).and_then(|(at, _)| text.get(..at)).unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at..).unwrap_or_default();
        let end = rest.bytes().take(12).position(|b| b == b';');
        let found = end.and_then(|end| Some((reference(rest.get(1..end)?)?, end)));
        match found {
            Some((c, end)) => {
                out.push(c);
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            None => {
                out.push('&');
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        "nbsp" => return Some('\u{a0}'),
        _ => {}
    }
    let number = name.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn found(page: &str, list: &[&str]) -> Vec<(String, String)> {
        served(page, &names(list)).into_iter().map(|(name, values)| (name, values.join(","))).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn each_kind_of_field_has_the_values_a_browser_would_send() {
        let page = r#"<!-- <input name=email value=no> --><script>'<input name="email" value="no">'</script>
            <FORM method=post><input type="email" name="email" value="a&amp;b@example.test"/>
            <input type=checkbox name=is_staff><input type=checkbox name=active value=1 checked>
            <select name='role'><option value="subscriber">S</option><option selected="selected" value='editor'>E</option></select>
            <select name="lang"><option>en</option><option>de</option></select>
            <select name="groups" multiple><option value=1 selected>a<option value=2>b<option value=3 selected></select>
            <textarea name=bio>
line &lt;b&gt;</textarea><input name=login value=alice disabled><input type=submit name=email value=Send></form>"#;
        assert_eq!(
            found(page, &["email", "is_staff", "active", "role", "lang", "groups", "bio", "login"]),
            [
                pair("email", "a&b@example.test"),
                pair("is_staff", ""),
                pair("active", "1"),
                pair("role", "editor"),
                pair("lang", "en"),
                pair("groups", "1,3"),
                pair("bio", "line <b>"),
            ]
        );
    }

    #[test]
    fn of_several_forms_the_one_with_most_of_the_names_counts() {
        let page = "<form><input name=email value=newsletter></form><form><input name=email value=mine><input name=role value=x></form>";
        assert_eq!(found(page, &["email", "role"]), [pair("email", "mine"), pair("role", "x")]);
        assert_eq!(found(page, &["email"]), [pair("email", "newsletter")]);
        assert!(found(page, &["nothing"]).is_empty());
    }

    proptest! {
        #[test]
        fn any_page_is_survived(page in ".{0,400}", tags in proptest::collection::vec(
            prop_oneof![Just("<input name=a value='"), Just("<select name=a>"), Just("<option"), Just("'"), Just(">"),
                Just("</select>"), Just("<textarea name=a>"), Just("&#x41;"), Just("</"), Just("=\""), Just("é")], 0..40)) {
            let _ = served(&page, &names(&["a"]));
            let _ = served(&tags.concat(), &names(&["*"]));
        }
    }
}
