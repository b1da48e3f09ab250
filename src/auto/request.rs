//! What a request carries: fields with what they seem to be, whatever their encoding.
//!
//! Forms, JSON (nested), GraphQL (arguments and variables), JSON-RPC and XML-RPC become one flat
//! list of fields. Values are borrowed or copied for the time of one exchange only: passwords and
//! codes among them are looked at for being empty or equal, and go no further. Nothing here prints.

use std::borrow::Cow;

use serde_json::Value;

use super::page::Asks;
use super::words::{
    ABOUT_PASSWORD, ACTION, AGAIN, CODE, CREDENTIAL, DESTINATION, EMAIL, IDENTIFIER, LOGIN_PLACE, MACHINERY, NEW, OLD,
    OTHER_PASSWORDS, PASSWORD, RESET, SIGN_UP, TOKEN, Words,
};
use crate::body;
use crate::rules::facts::Facts;

/// The most fields that are looked at.
const MAX_FIELDS: usize = 256;
/// How deep JSON is looked into.
const MAX_DEPTH: usize = 6;
/// The longest text of a GraphQL or XML-RPC call that is looked at, in bytes.
const MAX_CALL: usize = 16 << 10;

/// What a field seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A password, nothing more being said.
    Password,
    /// The old one.
    Old,
    /// The new one.
    New,
    /// The same once more.
    Again,
    /// Who somebody says to be.
    Identifier,
    /// A short code.
    Code,
    /// A long secret, as links carry it.
    Token,
    /// Something of the form's machinery.
    Machinery,
    /// Anything else.
    Other,
}

/// One field.
pub struct Carried<'a> {
    /// Its name; of nested ones all labels.
    pub name: Cow<'a, str>,
    /// Its value.
    pub value: Cow<'a, str>,
    /// What it seems to be.
    pub role: Role,
}

/// How the fields came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No body that can be read.
    None,
    /// A form.
    Form,
    /// JSON.
    Json,
    /// A GraphQL mutation.
    GraphQl,
    /// A GraphQL read.
    GraphQlRead,
    /// An XML-RPC call.
    XmlRpc,
}

/// What a request carries.
pub struct Request<'a> {
    /// How.
    pub shape: Shape,
    /// The fields, in order.
    pub fields: Vec<Carried<'a>>,
    /// Fields of the query.
    pub query: Vec<Carried<'a>>,
    /// The words of the path.
    pub place: Words,
    /// The words of what explicitly says which of several things is done: an `action` of the query
    /// or body, a GraphQL field, an RPC method.
    pub action: Words,
    /// True if the path has a segment that looks like a secret of a link.
    pub token_in_path: bool,
    /// True if only the place says that an old and a new value are passwords.
    pub passwords_by_place: bool,
}

impl<'a> Request<'a> {
    /// Reads a request. `asks` says what the application's own pages ask for under a name.
    pub fn read(facts: &'a Facts<'_>, asks: &dyn Fn(&str) -> Option<Asks>) -> Request<'a> {
        let mut place = Words::default();
        place.add_path(&facts.path);
        let mut request = Request {
            shape: Shape::None,
            fields: Vec::new(),
            query: Vec::new(),
            place,
            action: Words::default(),
            passwords_by_place: false,
            token_in_path: facts.path.split('/').any(crate::event::text::looks_like_a_token),
        };
        for (name, value) in facts.query().iter().take(64) {
            request.note_action(name, value, value.len() <= 64);
            let role = role(name, value, None);
            request.query.push(Carried { name: Cow::Borrowed(name), value: Cow::Borrowed(value), role });
        }
        let Some(body) = facts.request_body() else { return request };
        if let Some(fields) = body.fields() {
            request.shape = Shape::Form;
            for (name, value) in fields.iter().take(MAX_FIELDS) {
                request.note_action(name, value, false);
                let role = role(name, value, asks(name));
                request.fields.push(Carried { name: Cow::Borrowed(name), value: Cow::Borrowed(value), role });
            }
        } else if let Some(json) = readable_json(facts) {
            request.shape = Shape::Json;
            let first = match json {
                Value::Array(items) => items.first().filter(|i| i.is_object()).unwrap_or(json),
                other => other,
            };
            match first.get("query").and_then(Value::as_str) {
                Some(text) if looks_like_graphql(text) => request.graphql(text, first.get("variables")),
                _ => request.json(first),
            }
        } else if body.decoded().trim_ascii_start().starts_with(b"<") {
            request.xml_rpc(&String::from_utf8_lossy(
                body.decoded().get(..MAX_CALL.min(body.decoded().len())).unwrap_or_default(),
            ));
        }
        for field in &mut request.fields {
            if field.role == Role::Password && field.value.len() > 4096 {
                field.role = Role::Other;
            }
        }
        request.old_and_new();
        request.pair();
        request
    }

    /// Fields with this role that are not empty.
    pub fn with(&self, role: Role) -> impl Iterator<Item = &Carried<'a>> {
        self.fields.iter().filter(move |f| f.role == role && !f.value.trim().is_empty())
    }

    /// The best single identifier: an address before a name, and what was typed before what was not.
    pub fn identifier(&self) -> Option<&str> {
        let mut found = self.with(Role::Identifier).filter(|f| f.value.len() <= 254);
        let first = found.next()?;
        Some(first.value.trim())
    }

    /// The first identifier of the query (`?login=alice&key=…`).
    pub fn identifier_in_query(&self) -> Option<&str> {
        let found = self.query.iter().filter(|f| f.role == Role::Identifier);
        let mut values = found.map(|f| f.value.trim());
        values.find(|v| !v.is_empty() && v.len() <= 254)
    }

    /// True if it carries a secret as links have it.
    pub fn has_token(&self) -> bool {
        self.token_in_path
            || self.with(Role::Token).next().is_some()
            || self.query.iter().any(|f| f.role == Role::Token)
    }

    /// True if the query names a secret as that of a reset (`?reset_token=…`).
    pub fn link_of_reset(&self) -> bool {
        self.query.iter().any(|f| f.role == Role::Token && Words::of(&f.name).say(&RESET))
    }

    /// True if the action says this, or, where no action is named, the path does.
    pub fn says(&self, meaning: &super::words::Meaning) -> bool {
        if self.action.is_empty() { self.place.say(meaning) } else { self.action.say(meaning) }
    }

    /// True if action or path say this.
    pub fn hints(&self, meaning: &super::words::Meaning) -> bool {
        self.place.say(meaning) || self.action.say(meaning)
    }

    fn note_action(&mut self, name: &str, value: &str, in_query: bool) {
        let words = Words::of(name);
        if words.say(&DESTINATION) || value.len() > 64 {
            return;
        }
        if words.say(&ACTION) {
            self.action.add_path(value);
        } else if in_query && (value.is_empty() || value.starts_with('/')) {
            // `?logout`, `?/users/5`: the query is the path.
            self.place.add_path(if value.is_empty() { name } else { value });
        } else if in_query && value.bytes().all(|b| b.is_ascii_alphabetic() || b"_-:./".contains(&b)) {
            // `?title=Special:UserLogin`, `?page=login`: a place among others.
            self.place.add_path(value);
        }
    }

    fn json(&mut self, json: &'a Value) {
        let method = json.get("method").and_then(Value::as_str).filter(|m| m.len() <= 64);
        if let (Some(method), Some(params)) = (method, json.get("params")) {
            self.action.add_path(method);
            return flatten("", params, 0, &mut self.fields);
        }
        for name in ["action", "operation", "operationName", "_action", "command", "cmd"] {
            if let Some(value) = json.get(name).and_then(Value::as_str).filter(|v| v.len() <= 64) {
                self.action.add_path(value);
            }
        }
        flatten("", json, 0, &mut self.fields);
    }

    fn graphql(&mut self, text: &str, variables: Option<&'a Value>) {
        let text = text.get(..text.floor_char_boundary(MAX_CALL)).unwrap_or_default();
        let call = GraphQl::read(text);
        self.shape = if call.mutation { Shape::GraphQl } else { Shape::GraphQlRead };
        for field in &call.fields {
            self.action.add(field);
        }
        for (name, argument) in call.arguments.into_iter().take(MAX_FIELDS) {
            match argument {
                Argument::Text(value) => {
                    let role = role(&name, &value, None);
                    self.fields.push(Carried { name: Cow::Owned(name), value: Cow::Owned(value), role });
                }
                Argument::Variable(variable) => match variables.and_then(|v| v.get(&variable)) {
                    Some(value @ (Value::Object(_) | Value::Array(_))) => flatten(&name, value, 1, &mut self.fields),
                    Some(value) => push_scalar(&name, value, &mut self.fields),
                    None => {}
                },
            }
        }
    }

    fn xml_rpc(&mut self, text: &str) {
        let Some(method) = between(text, "<methodName>", "</methodName>") else { return };
        self.shape = Shape::XmlRpc;
        self.action.add_path(method.trim());
        let mut texts: Vec<String> = Vec::new();
        for param in text.split("<param>").skip(1).take(16) {
            let Some(value) = between(param, "<value>", "</value>") else { continue };
            let value = between(value, "<string>", "</string>").unwrap_or(value);
            if !value.contains('<') {
                texts.push(unescape(value));
            }
        }
        // By position: a number is a place, then comes who, then what proves it.
        let who = texts.iter().position(|t| !t.trim().is_empty() && !t.trim().bytes().all(|b| b.is_ascii_digit()));
        for (at, value) in texts.into_iter().enumerate() {
            let role = match who {
                Some(who) if at == who => Role::Identifier,
                Some(who) if at == who + 1 => Role::Password,
                _ => Role::Other,
            };
            self.fields.push(Carried { name: Cow::Borrowed("param"), value: Cow::Owned(value), role });
        }
    }

    /// `{"old": …, "new": …}`: where names leave the password's word to the place, or to a field beside.
    fn old_and_new(&mut self) {
        if !matches!(self.shape, Shape::Json | Shape::GraphQl) {
            return;
        }
        let bare = |field: &Carried<'_>, meaning, other| {
            let words = Words::of(&field.name);
            let text = !field.value.is_empty() && !matches!(&*field.value, "true" | "false");
            let of_others = [&PASSWORD, &EMAIL, &IDENTIFIER, other, &AGAIN].iter().any(|of| words.say(of));
            text && words.say(meaning) && !of_others
        };
        let (mut old, mut new, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let (mut plain, mut others) = (0_usize, 0_usize);
        for (at, field) in self.fields.iter().enumerate() {
            match field.role {
                Role::Old | Role::New => return,
                Role::Password => plain += 1,
                Role::Again | Role::Machinery => {}
                _ if bare(field, &OLD, &NEW) => old.push(at),
                _ if bare(field, &NEW, &OLD) => new.push(at),
                _ if Words::of(&field.name).say(&AGAIN) => again.push(at),
                _ => others += 1,
            }
        }
        match (plain, old.len(), new.len()) {
            (0, 1, 1) => {
                let place = self.hints(&PASSWORD) || self.hints(&CREDENTIAL);
                if !place || self.hints(&OTHER_PASSWORDS) || others > 1 {
                    return;
                }
                self.passwords_by_place = true;
            }
            // The other of the two has the password's word.
            (1, 1, 0) | (1, 0, 1) => {
                let mut names = old.iter().chain(&new).filter_map(|at| self.fields.get(*at));
                if others > 0 || !names.all(|field| Words::of(&field.name).is_one()) {
                    return;
                }
            }
            _ => return,
        }
        for (places, role) in [(old, Role::Old), (new, Role::New), (again, Role::Again)] {
            for at in places {
                if let Some(field) = self.fields.get_mut(at) {
                    field.role = role;
                }
            }
        }
    }

    /// What fields are becomes clearer beside each other.
    fn pair(&mut self) {
        // A form with a password and nothing that is named like somebody: the last text before it.
        if self.with(Role::Password).next().is_some()
            && self.with(Role::Identifier).next().is_none()
            && matches!(self.shape, Shape::Form | Shape::Json)
        {
            let password = self.fields.iter().position(|f| f.role == Role::Password).unwrap_or_default();
            let typed = |f: &Carried<'_>| {
                f.role == Role::Other
                    && (1..=100).contains(&f.value.trim().len())
                    && f.name != "_method"
                    && !Words::of(&f.name).say(&DESTINATION)
                    && !Words::of(&f.name).say(&ACTION)
                    && !crate::event::text::looks_like_a_token(&f.value)
                    && !matches!(&*f.value, "true" | "false" | "on" | "off" | "1" | "0" | "yes" | "no")
                    && !f.value.starts_with('/')
            };
            let named = |f: &Carried<'_>| {
                let words = Words::of(&f.name);
                ["name", "u", "id", "un", "l", "usr", "key"].iter().any(|n| words.last() == Some(n))
                    || f.value.contains('@')
            };
            let before = self.fields.get(..password).unwrap_or_default();
            let found = before.iter().rposition(|f| typed(f) && named(f)).or_else(|| before.iter().rposition(typed));
            let found = found.or_else(|| self.fields.iter().position(|f| typed(f) && named(f)));
            if let Some(field) = found.and_then(|at| self.fields.get_mut(at)) {
                field.role = Role::Identifier;
            }
        }
        // A place of forgetting asks one thing: who.
        let passwords =
            self.fields.iter().any(|f| matches!(f.role, Role::Password | Role::Old | Role::New | Role::Again));
        if !passwords && self.with(Role::Identifier).next().is_none() && (self.says(&RESET) || self.says(&PASSWORD)) {
            let mut asked = self.fields.iter_mut().filter(|f| {
                f.role == Role::Other
                    && (2..=100).contains(&f.value.trim().len())
                    && Words::of(&f.name).last().is_some_and(|l| ["name", "u", "who", "value", "input"].contains(&l))
            });
            if let (Some(field), None) = (asked.next(), asked.next()) {
                field.role = Role::Identifier;
            }
        }
        // A name that some page declares new is used where one signs in as well.
        let mut passwords =
            self.fields.iter().filter(|f| matches!(f.role, Role::Password | Role::Old | Role::New | Role::Again));
        let lone = passwords.next().is_some_and(|f| f.role == Role::New && !Words::of(&f.name).say(&NEW))
            && passwords.next().is_none();
        if lone
            && self.with(Role::Identifier).next().is_some()
            && self.says(&LOGIN_PLACE)
            && !self.says(&SIGN_UP)
            && !self.says(&RESET)
        {
            self.fields.iter_mut().filter(|f| f.role == Role::New).for_each(|f| f.role = Role::Password);
        }
        // A new password beside another one: the other is the old one.
        let new = self.fields.iter().filter(|f| f.role == Role::New).count();
        let plain = self.fields.iter().filter(|f| f.role == Role::Password).count();
        if new > 0 && plain == 1 {
            for field in self.fields.iter_mut().filter(|f| f.role == Role::Password) {
                field.role = Role::Old;
            }
        }
        // Two of one kind: the second says the first once more.
        if plain > 1 {
            let mut passwords = self.fields.iter_mut().filter(|f| f.role == Role::Password && !f.value.is_empty());
            if passwords.next().is_some() {
                passwords.for_each(|f| f.role = Role::Again);
            }
        }
    }
}

/// What a field seems to be, by its name, its value, and what a page asked for under its name.
fn role(name: &str, value: &str, asks: Option<Asks>) -> Role {
    let words = Words::of(name);
    if words.say(&MACHINERY) || name.starts_with("__") {
        return Role::Machinery;
    }
    let password = match asks {
        Some(Asks::Password | Asks::NewPassword) => true,
        Some(Asks::Switch | Asks::Code | Asks::Identifier) => false,
        Some(Asks::Hidden | Asks::Text) | None => {
            words.say(&PASSWORD)
                && !words.say(&ABOUT_PASSWORD)
                && !matches!(value, "true" | "false" | "on" | "off" | "yes" | "no" | "1" | "0")
        }
    };
    if password {
        return match asks {
            // The word for another secret: it is asked for like a password.
            _ if words.say(&AGAIN) => Role::Again,
            _ if words.say(&OLD) => Role::Old,
            _ if words.say(&NEW) || asks == Some(Asks::NewPassword) => Role::New,
            _ => Role::Password,
        };
    }
    if words.say(&PASSWORD) && words.say(&ABOUT_PASSWORD) && asks != Some(Asks::Identifier) {
        return Role::Other;
    }
    let short =
        (3..=12).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b' ');
    if asks == Some(Asks::Code) || (words.say(&CODE) && (short || value.is_empty())) {
        return Role::Code;
    }
    if words.say(&TOKEN) && value.len() >= 12 && value.bytes().all(|b| b.is_ascii_graphic()) {
        return Role::Token;
    }
    if asks == Some(Asks::Switch) {
        return Role::Other;
    }
    let address = looks_like_an_address(value);
    if asks == Some(Asks::Identifier)
        || words.say(&IDENTIFIER) && !words.say(&DESTINATION)
        || (address && words.say(&EMAIL))
    {
        return Role::Identifier;
    }
    if address && value.len() <= 254 { Role::Identifier } else { Role::Other }
}

/// True for something like an e-mail address.
pub fn looks_like_an_address(value: &str) -> bool {
    let value = value.trim();
    let Some((local, domain)) = value.rsplit_once('@') else { return false };
    !local.is_empty()
        && value.len() <= 254
        && domain.contains('.')
        && !domain.starts_with('.')
        && !value.contains(|c: char| c.is_whitespace() || c == '/' || c == '<')
}

/// The JSON body, under whatever name it was sent.
fn readable_json<'a>(facts: &'a Facts<'_>) -> Option<&'a Value> {
    let kind = body::media_type(body::content_type(facts.headers));
    let body = facts.request_body()?;
    let may_be =
        kind.is_empty() || kind.to_ascii_lowercase().contains("json") || kind.eq_ignore_ascii_case("text/plain");
    let begins = body.decoded().trim_ascii_start().first().is_some_and(|b| matches!(b, b'{' | b'['));
    if may_be && begins { body.json() } else { None }
}

fn flatten<'a>(name: &str, value: &'a Value, depth: usize, into: &mut Vec<Carried<'a>>) {
    if into.len() >= MAX_FIELDS || depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(members) => {
            // `{"password": {"old": …, "new": …}}`: the label above says of what.
            let of_password = depth > 0 && {
                let words = Words::of(name);
                words.say(&PASSWORD) && !words.say(&ABOUT_PASSWORD) && !words.say(&OTHER_PASSWORDS)
            };
            for (key, value) in members.iter().take(MAX_FIELDS) {
                match value {
                    Value::String(_) if of_password && is_of_change(key) => {
                        push_scalar(&format!("{name} {key}"), value, into);
                    }
                    Value::Object(_) | Value::Array(_) => flatten(key, value, depth + 1, into),
                    // The last label says what it is; the one before it where (`variables.email`).
                    _ => push_scalar(key, value, into),
                }
            }
        }
        Value::Array(items) => items.iter().take(8).for_each(|item| match item {
            Value::Object(_) | Value::Array(_) => flatten(name, item, depth + 1, into),
            _ => push_scalar(name, item, into),
        }),
        _ => push_scalar(name, value, into),
    }
}

/// True for the name of one of the values of a change.
fn is_of_change(name: &str) -> bool {
    let words = Words::of(name);
    words.say(&OLD) || words.say(&NEW) || words.say(&AGAIN)
}

fn push_scalar<'a>(name: &str, value: &'a Value, into: &mut Vec<Carried<'a>>) {
    if into.len() >= MAX_FIELDS || name.len() > 128 {
        return;
    }
    let text = body::json::scalar_text(value).unwrap_or_default();
    let role = match value {
        Value::Bool(_) | Value::Null => Role::Other,
        _ => role(name, &text, None),
    };
    into.push(Carried { name: Cow::Owned(name.to_owned()), value: text, role });
}

fn looks_like_graphql(text: &str) -> bool {
    let text = text.trim_start();
    ["{", "query", "mutation", "subscription", "fragment"].iter().any(|s| text.starts_with(s)) && text.contains('{')
}

enum Argument {
    Text(String),
    Variable(String),
}

/// The little of a GraphQL document that matters: its first fields, and arguments wherever they are.
#[derive(Default)]
struct GraphQl {
    mutation: bool,
    fields: Vec<String>,
    arguments: Vec<(String, Argument)>,
}

impl GraphQl {
    fn read(text: &str) -> GraphQl {
        let mut call = GraphQl { mutation: text.contains("mutation"), ..GraphQl::default() };
        let (mut braces, mut parens) = (0_usize, 0_usize);
        let mut name = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' => {
                    if parens == 0 {
                        braces += 1;
                    }
                    name.clear();
                }
                '}' => {
                    if parens == 0 {
                        call.end_field(&mut name, braces);
                        braces = braces.saturating_sub(1);
                    }
                    name.clear();
                }
                '(' => {
                    call.end_field(&mut name, braces);
                    parens += 1;
                }
                ')' => parens = parens.saturating_sub(1),
                '#' => while chars.next_if(|c| *c != '\n').is_some() {},
                '"' => {
                    let value = quoted(&mut chars);
                    if parens > 0 && !name.is_empty() {
                        call.arguments.push((std::mem::take(&mut name), Argument::Text(value)));
                    }
                }
                '$' => {
                    let mut variable = String::new();
                    while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                        variable.push(c);
                    }
                    if parens > 0 && braces > 0 && !name.is_empty() {
                        call.arguments.push((std::mem::take(&mut name), Argument::Variable(variable)));
                    }
                }
                c if c.is_alphanumeric() || c == '_' => {
                    if parens == 0 {
                        call.end_field(&mut name, braces);
                    }
                    name.clear();
                    name.push(c);
                    while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                        name.push(c);
                    }
                }
                // What stands before a colon outside of arguments is an alias.
                ':' if parens == 0 => name.clear(),
                _ => {}
            }
            if call.arguments.len() >= MAX_FIELDS {
                break;
            }
        }
        call
    }

    fn end_field(&mut self, name: &mut String, braces: usize) {
        if braces == 1 && !name.is_empty() && self.fields.len() < 16 {
            self.fields.push(std::mem::take(name));
        }
    }
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    value
}

fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    Some(text.split_once(open)?.1.split_once(close)?.0)
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests;
