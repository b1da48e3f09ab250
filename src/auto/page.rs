//! What an HTML page shows of forms: which fields it asks for, and whether somebody is signed in.
//!
//! A single pass over a bounded prefix, made for strangers' bytes: no tree, no entity tables, no
//! scripts. Must never keep a value that a page shows; what is kept are names and kinds of fields.
//! The invariant: work is linear in the input, and what is kept is bounded by [`MAX_FORMS`] and
//! [`MAX_FIELDS`].

use super::words::{AGAIN, AGAIN_IN_SESSION, CODE, IDENTIFIER, LOGOUT, NEW, NO, OLD, Words};

/// The most forms of a page that are kept.
pub const MAX_FORMS: usize = 32;
/// The most fields of a page that are kept.
pub const MAX_FIELDS: usize = 400;
/// The longest name of a field that is kept, in bytes.
const MAX_NAME: usize = 128;
/// How many pieces of text after the beginning of a message are looked at.
const MESSAGE_TEXTS: u8 = 3;

/// What a field asks for, by its `type` and `autocomplete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// `type=password`, an old or unspecified one.
    Password,
    /// `type=password` with `autocomplete=new-password`.
    NewPassword,
    /// `type=email`, `tel`, or `autocomplete=username|email`.
    Identifier,
    /// `autocomplete=one-time-code`.
    Code,
    /// Text of another kind.
    Text,
    /// Nothing: hidden.
    Hidden,
    /// A box, a button, a file.
    Switch,
}

/// One field of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub asks: Asks,
}

/// One form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Its fields, in the order of the page.
    pub fields: Vec<Input>,
    /// True if its action names the end of a session.
    logout: bool,
    /// How many of its texts and identifiers a person can write into.
    typed: usize,
}

impl Form {
    fn passwords(&self) -> impl Iterator<Item = &Input> {
        self.fields.iter().filter(|f| matches!(f.asks, Asks::Password | Asks::NewPassword))
    }

    /// True for a form that signs somebody in: one password, and at most a few things beside it.
    pub fn is_login(&self) -> bool {
        let mut passwords = self.passwords();
        let one = passwords.next().is_some_and(|p| p.asks == Asks::Password) && passwords.next().is_none();
        one && self.fields.iter().filter(|f| matches!(f.asks, Asks::Text | Asks::Identifier)).count() <= 4
    }

    /// True for a form that asks for a new password, twice, and for nothing else: no old one, no name.
    pub fn is_new_password(&self) -> bool {
        let named = |p: &Input, meaning| Words::of(&p.name).say(meaning);
        let old = |p: &Input| p.asks == Asks::Password && named(p, &OLD);
        let new = |p: &Input| p.asks == Asks::NewPassword || named(p, &NEW) || named(p, &AGAIN);
        self.typed == 0 && self.passwords().count() == 2 && self.passwords().any(new) && !self.passwords().any(old)
    }

    /// True for a form that asks for nothing but a code.
    pub fn is_code(&self) -> bool {
        if self.passwords().next().is_some() {
            return false;
        }
        if self.fields.iter().any(|f| f.asks == Asks::Code) {
            return true;
        }
        let asked: Vec<&Input> =
            self.fields.iter().filter(|f| matches!(f.asks, Asks::Text | Asks::Identifier)).collect();
        matches!(asked[..], [one] if Words::of(&one.name).say(&CODE) && !Words::of(&one.name).say(&IDENTIFIER))
    }
}

/// What a page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its forms; fields outside of forms make one more.
    pub forms: Vec<Form>,
    /// True if it offers a way to end the session.
    pub offers_logout: bool,
    /// True if something in it is marked as an error.
    pub marks_error: bool,
    /// True if what it says in the place of a message says no.
    pub says_no: bool,
    /// True if its text, not its machinery, speaks of cross-site request forgery.
    pub speaks_of_csrf: bool,
    /// True if it was read to its end.
    pub whole: bool,
}

impl Page {
    /// Reads a page, or its beginning.
    pub fn read(html: &str, whole: bool) -> Page {
        let mut page = Page { whole, ..Page::default() };
        let mut loose = Form::default();
        let mut open: Option<Form> = None;
        let mut kept = 0;
        let mut message = 0;
        let mut tags = Tags { rest: html, csrf: false };
        for tag in tags.by_ref() {
            if message > 0 && !tag.before.trim_ascii().is_empty() {
                message -= 1;
                page.says_no = page.says_no || says_no(tag.before);
            }
            if ["class", "id", "role"].iter().any(|a| tag.attribute(a).is_some_and(names_a_message)) {
                message = MESSAGE_TEXTS;
            }
            match tag.name.as_str() {
                "form" => {
                    page.take(open.take());
                    let logout = tag.attribute("action").is_some_and(names_logout);
                    open = Some(Form { logout, ..Form::default() });
                }
                "/form" => page.take(open.take()),
                "input" | "textarea" | "select" | "button" => {
                    let name = tag
                        .attribute("name")
                        .or_else(|| tag.attribute("formcontrolname"))
                        .or_else(|| tag.attribute("id"));
                    let Some(name) = name.filter(|n| !n.is_empty() && n.len() <= MAX_NAME) else { continue };
                    let asks = asks(&tag);
                    let leads_out =
                        ["formaction", "data-url"].iter().any(|a| tag.attribute(a).is_some_and(names_logout));
                    page.offers_logout |= leads_out || (asks == Asks::Switch && Words::of(name).say(&LOGOUT));
                    if kept < MAX_FIELDS {
                        kept += 1;
                        let form = open.as_mut().unwrap_or(&mut loose);
                        let writable = tag.attribute("readonly").or(tag.attribute("disabled")).is_none();
                        form.typed += usize::from(writable && matches!(asks, Asks::Text | Asks::Identifier));
                        form.fields.push(Input { name: name.to_owned(), asks });
                    }
                }
                "a" if ["href", "data-url", "data-href"].iter().any(|a| tag.attribute(a).is_some_and(names_logout)) => {
                    page.offers_logout = true;
                }
                _ => {}
            }
            // A template that waits to be shown marks nothing.
            if !page.marks_error && tag.attribute("hidden").is_none() && tag.name != "input" {
                let marked =
                    tag.attribute("class").is_some_and(marks_error) || tag.attribute("id").is_some_and(marks_error);
                page.marks_error = marked && !tag.attribute("style").is_some_and(|s| s.contains("none"));
            }
            page.marks_error |= tag.attribute("aria-invalid") == Some("true");
        }
        page.speaks_of_csrf = tags.csrf;
        page.take(open);
        if !loose.fields.is_empty() {
            page.take(Some(loose));
        }
        page
    }

    fn take(&mut self, form: Option<Form>) {
        let Some(form) = form else { return };
        self.offers_logout |= form.logout;
        if self.forms.len() < MAX_FORMS {
            self.forms.push(form);
        }
    }

    /// True if it shows a form that signs somebody in.
    pub fn shows_login(&self) -> bool {
        self.forms.iter().any(Form::is_login)
    }

    /// True if all that it asks for a password is a new one: nobody can sign in here again.
    pub fn demands_new_password(&self) -> bool {
        let mut forms = self.forms.iter().filter(|f| f.passwords().next().is_some()).peekable();
        forms.peek().is_some() && forms.all(Form::is_new_password)
    }

    /// True if it shows any field for a password.
    pub fn shows_password(&self) -> bool {
        self.forms.iter().any(|f| f.passwords().next().is_some())
    }

    /// True if it asks for a code and for no password.
    pub fn asks_code(&self) -> bool {
        !self.shows_password() && self.forms.iter().any(Form::is_code)
    }

    /// True if it has a field of this name that somebody fills in.
    pub fn asks_for(&self, name: &str) -> bool {
        let mut fields = self.forms.iter().flat_map(|f| &f.fields);
        fields.any(|f| f.name == name && !matches!(f.asks, Asks::Hidden | Asks::Switch))
    }

    /// Every field.
    pub fn fields(&self) -> impl Iterator<Item = &Input> {
        self.forms.iter().flat_map(|f| &f.fields)
    }
}

fn names_logout(address: &str) -> bool {
    let mut words = Words::default();
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    words.add_path(path.split('#').next().unwrap_or_default());
    for pair in query.split('&').take(8) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        words.add(name.trim_start_matches("amp;"));
        if value.len() < 40 {
            words.add(value);
        }
    }
    words.say(&LOGOUT) && !words.say(&AGAIN_IN_SESSION)
}

/// Where pages put what they have to say of what was just done.
fn names_a_message(names: &str) -> bool {
    const MARKS: [&str; 9] =
        ["message", "result", "notice", "notification", "flash", "alert", "status", "feedback", "toast"];
    let names = names.get(..names.floor_char_boundary(200)).unwrap_or_default().to_ascii_lowercase();
    MARKS.iter().any(|m| names.contains(m))
}

fn says_no(text: &str) -> bool {
    Words::of(text).say(&NO)
}

fn marks_error(names: &str) -> bool {
    const MARKS: [&str; 8] =
        ["error", "invalid", "danger", "failure", "failed", "fehler", "alert-warning", "flash-alert"];
    let names = names.get(..names.floor_char_boundary(200)).unwrap_or_default().to_ascii_lowercase();
    MARKS.iter().any(|m| names.contains(m))
}

fn asks(tag: &Tag<'_>) -> Asks {
    let kind = tag.attribute("type").unwrap_or_default().to_ascii_lowercase();
    let complete = tag.attribute("autocomplete").unwrap_or_default().to_ascii_lowercase();
    match (tag.name.as_str(), kind.as_str()) {
        ("button" | "select", _) => Asks::Switch,
        ("input", "hidden") => Asks::Hidden,
        ("input", "password") if complete.contains("new-password") => Asks::NewPassword,
        ("input", "password") => Asks::Password,
        (
            "input",
            "submit" | "button" | "image" | "checkbox" | "radio" | "file" | "reset" | "range" | "color" | "date",
        ) => Asks::Switch,
        ("input", _) if complete.contains("one-time-code") => Asks::Code,
        ("input", "email" | "tel") => Asks::Identifier,
        ("input", _) if complete.contains("username") || complete.contains("email") => Asks::Identifier,
        _ => Asks::Text,
    }
}

/// One tag with its attributes.
struct Tag<'h> {
    /// In lower case, with its slash if it closes.
    name: String,
    attributes: &'h str,
    /// The text before it, from the end of the tag before.
    before: &'h str,
}

/// The longest list of attributes that is read, in bytes.
const MAX_ATTRIBUTES: usize = 4096;

impl<'h> Tag<'h> {
    /// The value of an attribute; empty if it has none.
    fn attribute(&self, wanted: &str) -> Option<&'h str> {
        let mut rest = self.attributes;
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '=' || c == '/').unwrap_or(rest.len());
            if end == 0 {
                // A lone `=`, or the end.
                rest = rest.strip_prefix('=')?;
                continue;
            }
            let (name, after) = rest.split_at_checked(end)?;
            let after_space = after.trim_start();
            let (value, after) = match after_space.strip_prefix('=') {
                Some(value) => attribute_value(value.trim_start()),
                None => ("", after),
            };
            if name.eq_ignore_ascii_case(wanted) {
                return Some(value);
            }
            rest = after;
        }
    }
}

fn attribute_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            return inner.split_once(quote).unwrap_or((inner, ""));
        }
    }
    let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The tags of a page, without comments and the insides of scripts.
struct Tags<'h> {
    rest: &'h str,
    /// True once a text between tags spoke of cross-site request forgery.
    csrf: bool,
}

impl<'h> Iterator for Tags<'h> {
    type Item = Tag<'h>;

    fn next(&mut self) -> Option<Tag<'h>> {
        loop {
            let (text, after) = self.rest.split_once('<')?;
            self.csrf = self.csrf || speaks_of_csrf(text);
            if let Some(comment) = after.strip_prefix("!--") {
                self.rest = comment.split_once("-->").map_or("", |(_, rest)| rest);
                continue;
            }
            let name_end =
                after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '/' || c == '-')).unwrap_or(after.len());
            let (name, tail) = after.split_at_checked(name_end)?;
            if !name.bytes().any(|b| b.is_ascii_alphabetic()) || name.len() > 32 {
                self.rest = after;
                continue;
            }
            let end = tag_end(tail);
            let (attributes, rest) = tail.split_at_checked(end)?;
            self.rest = rest.strip_prefix('>').unwrap_or(rest);
            let name = name.trim_end_matches('/').to_ascii_lowercase();
            if name == "script" || name == "style" {
                let close = if name == "script" { "</script" } else { "</style" };
                // Written in lower case by nearly everybody; without an end, nothing follows.
                self.rest = self.rest.split_once(close).map_or("", |(_, rest)| rest);
                continue;
            }
            let shown = attributes.floor_char_boundary(MAX_ATTRIBUTES);
            return Some(Tag { name, attributes: attributes.get(..shown).unwrap_or_default(), before: text });
        }
    }
}

fn speaks_of_csrf(text: &str) -> bool {
    let text = text.as_bytes();
    text.len() >= 4 && text.windows(4).any(|w| w.eq_ignore_ascii_case(b"csrf"))
}

/// Where a tag ends: at the first `>` outside of quotes, or at the end of the text.
fn tag_end(text: &str) -> usize {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_login_form_is_known_by_its_fields_not_by_its_words() {
        let page = Page::read(
            "<FORM action='/x'><input name=f1 type=text><input type=\"password\" name=\"f2\"><button name=go>Los</button></form>",
            true,
        );
        assert!(page.shows_login() && page.asks_for("f1") && !page.asks_code());
        assert_eq!(page.forms[0].fields[1], Input { name: "f2".into(), asks: Asks::Password });
        let profile = "<form><input name=a type=password autocomplete=new-password><input name=b type=password></form>";
        assert!(!Page::read(profile, true).shows_login(), "two passwords are no login");
    }

    #[test]
    fn only_a_message_says_no() {
        for html in [
            "<ul class='action-results'><li>Password: has not been set</li></ul>",
            "<div role=alert><b>Hinweis</b> <span>Das Passwort ist falsch</span></div>",
            "<p id=flash_notice>密码错误</p>",
        ] {
            assert!(Page::read(html, true).says_no, "{html}");
        }
        for html in [
            "<p>Do not tell anybody</p>",
            "<div class=flash>Password changed</div><p>a</p><p>b</p><p>Why not</p>",
            "<div class=message><script>not()</script>Saved</div>",
        ] {
            assert!(!Page::read(html, true).says_no, "{html}");
        }
    }

    #[test]
    fn a_way_out_shows_that_somebody_is_signed_in() {
        for html in [
            "<a href=\"/users/sign_out\">x</a>",
            "<form method=post action='/logout'><button>x</button></form>",
            "<a href='/index.php?do=x&amp;action=logout'>x</a>",
        ] {
            assert!(Page::read(html, true).offers_logout, "{html}");
        }
        assert!(!Page::read("<script>var a='<a href=/logout>'</script><!-- <a href=/logout> -->", true).offers_logout);
    }

    #[test]
    fn a_page_that_asks_for_a_code_is_told_from_one_that_asks_for_a_password() {
        assert!(Page::read("<form><input type=hidden name=t><input name=otp></form>", true).asks_code());
        assert!(Page::read("<form><input name=x autocomplete='one-time-code'></form>", true).asks_code());
        assert!(!Page::read("<form><input name=q></form>", true).asks_code());
    }

    #[test]
    fn what_is_marked_as_an_error_is_seen_in_any_language() {
        assert!(Page::read("<p class='alert alert-danger'>忘</p>", true).marks_error);
        assert!(Page::read("<input name=a aria-invalid=true>", true).marks_error);
        assert!(!Page::read("<p class=error style='display:none'></p><p class=terror hidden></p>", true).marks_error);
    }

    proptest! {
        #[test]
        fn any_text_is_some_page(html in "(<|>|\"|'|=|/|form|input|type=password|name=| |a href|script|!--|ü|x){0,60}") {
            let page = Page::read(&html, false);
            prop_assert!(page.forms.len() <= MAX_FORMS + 1);
        }
    }
}
