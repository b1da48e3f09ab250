//! GraphQL documents: which operations a request asks for, and with which arguments.
//!
//! Reads the executable part of the language (October 2021 edition, section 2) far enough to name
//! each operation's kind, its name and its top-level fields with their arguments; what is asked of
//! the results is skipped. Must never validate, execute or follow anything: the application does,
//! and may refuse what is read here.
//!
//! The invariant: work and memory are linear in the document (a token is read once, a variable is
//! looked up and never copied in, fragments are expanded at most [`MAX_FIELDS`] times in all), and a
//! document that is not read to its end is no document.

use serde_json::Value;

/// The most top-level fields of an operation that are looked at, fragments included.
pub const MAX_FIELDS: usize = 256;
/// How deep selections and values may nest.
pub const MAX_DEPTH: usize = 64;
/// How deep fragments may stand in fragments.
const MAX_SPREADS: usize = 16;

/// What an operation does (section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// It reads.
    Query,
    /// It changes.
    Mutation,
    /// It waits for news.
    Subscription,
}

impl OperationKind {
    /// The keyword.
    pub const fn as_str(self) -> &'static str {
        match self {
            OperationKind::Query => "query",
            OperationKind::Mutation => "mutation",
            OperationKind::Subscription => "subscription",
        }
    }
}

/// A document that was read to its end.
#[derive(Clone, Debug, Default)]
pub struct Document {
    operations: Vec<Parsed>,
    fragments: Vec<(String, Vec<Selection>)>,
}

/// One operation with its top-level fields, fragments expanded.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What it does.
    pub kind: OperationKind,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its top-level fields in order.
    pub fields: Vec<Field>,
    /// True if there were more of them than [`MAX_FIELDS`].
    pub cut: bool,
    defaults: Vec<(String, Literal)>,
}

/// One top-level field.
#[derive(Clone, Debug)]
pub struct Field {
    /// What the schema calls it.
    pub name: String,
    /// What the answer calls it: its alias, or its name.
    pub key: String,
    arguments: Vec<(String, Literal)>,
}

/// A value as it stands in the document (section 2.9).
#[derive(Clone, Debug)]
enum Literal {
    /// A string, number, boolean or name of an enumeration.
    Scalar(String),
    Null,
    Variable(String),
    List(Vec<Literal>),
    Object(Vec<(String, Literal)>),
}

/// What a pointer found among arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A text.
    Text(String),
    /// `null`.
    Null,
    /// A list or an object: something, but no text.
    Nested,
}

#[derive(Clone, Debug)]
struct Parsed {
    kind: OperationKind,
    name: Option<String>,
    defaults: Vec<(String, Literal)>,
    selections: Vec<Selection>,
}

#[derive(Clone, Debug)]
enum Selection {
    Field(Field),
    Spread(String),
}

/// Reads a document; `None` if it is none, or is nested deeper than [`MAX_DEPTH`].
pub fn parse(text: &str) -> Option<Document> {
    let mut parser = Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), token: Token::End };
    parser.advance()?;
    let mut document = Document::default();
    while parser.token != Token::End {
        parser.definition(&mut document)?;
    }
    (!document.operations.is_empty()).then_some(document)
}

impl Document {
    /// The operation that is carried out: the one of that name, or the only one (section 6.1).
    pub fn operation(&self, name: Option<&str>) -> Option<Operation> {
        let parsed = match name {
            Some(name) => self.operations.iter().find(|o| o.name.as_deref() == Some(name))?,
            None => match self.operations.as_slice() {
                [only] => only,
                _ => return None,
            },
        };
        let mut operation = Operation {
            kind: parsed.kind,
            name: parsed.name.clone(),
            fields: Vec::new(),
            cut: false,
            defaults: parsed.defaults.clone(),
        };
        // Every spread costs, also one of an empty fragment, or they would multiply.
        let mut budget = MAX_FIELDS * 4;
        self.expand(&parsed.selections, 0, &mut budget, &mut operation);
        Some(operation)
    }

    fn expand(&self, selections: &[Selection], depth: usize, budget: &mut usize, into: &mut Operation) {
        for selection in selections {
            if *budget == 0 || into.fields.len() >= MAX_FIELDS {
                into.cut = true;
                return;
            }
            *budget -= 1;
            match selection {
                Selection::Field(field) => into.fields.push(field.clone()),
                Selection::Spread(_) if depth >= MAX_SPREADS => into.cut = true,
                Selection::Spread(name) => {
                    if let Some((_, inner)) = self.fragments.iter().find(|(found, _)| found == name) {
                        self.expand(inner, depth + 1, budget, into);
                    }
                }
            }
        }
    }
}

impl Operation {
    /// What stands at a JSON Pointer (RFC 6901) among a field's arguments, variables looked up in
    /// what the request sent and then among their defaults. `None` if nothing stands there.
    pub fn argument(&self, field: &Field, pointer: &str, variables: Option<&Value>) -> Option<Found> {
        let mut steps = pointer.strip_prefix('/')?.split('/');
        let first = unescaped(steps.next()?);
        let mut at = &field.arguments.iter().find(|(name, _)| *name == first)?.1;
        loop {
            if let Literal::Variable(name) = at {
                if let Some(mut value) = variables.and_then(|v| v.get(name)) {
                    for step in steps {
                        value = match value {
                            Value::Object(members) => members.get(&unescaped(step))?,
                            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                            _ => return None,
                        };
                    }
                    return Some(Found::of(value));
                }
                at = &self.defaults.iter().find(|(found, _)| found == name)?.1;
                if matches!(at, Literal::Variable(_)) {
                    // A default is a constant (section 2.10).
                    return None;
                }
                continue;
            }
            let Some(step) = steps.next() else { break };
            at = match at {
                Literal::Object(members) => &members.iter().find(|(name, _)| *name == unescaped(step))?.1,
                Literal::List(items) => items.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(match at {
            Literal::Scalar(text) => Found::Text(text.clone()),
            Literal::Null => Found::Null,
            _ => Found::Nested,
        })
    }
}

impl Found {
    fn of(value: &Value) -> Found {
        match (super::json::scalar_text(value), value) {
            (Some(text), _) => Found::Text(text.into_owned()),
            (None, Value::Null) => Found::Null,
            (None, _) => Found::Nested,
        }
    }
}

/// A step of a JSON Pointer (RFC 6901 section 4).
fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `!`, `$`, `&`, `(`, `)`, `:`, `=`, `@`, `[`, `]`, `{`, `|`, `}`.
    Punctuator(char),
    /// `...`
    Spread,
    Name(String),
    Number(String),
    Text(String),
    End,
}

struct Parser<'d> {
    rest: &'d str,
    token: Token,
}

impl Parser<'_> {
    /// Reads the next token; `None` if there is none that the language has.
    fn advance(&mut self) -> Option<()> {
        self.skip_ignored();
        let Some(first) = self.rest.chars().next() else {
            self.token = Token::End;
            return Some(());
        };
        self.token = match first {
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                self.take(1)?;
                Token::Punctuator(first)
            }
            '.' => {
                self.rest = self.rest.strip_prefix("...")?;
                Token::Spread
            }
            '"' => Token::Text(self.string()?),
            '_' | 'a'..='z' | 'A'..='Z' => {
                Token::Name(self.while_some(|b| b == b'_' || b.is_ascii_alphanumeric())?.to_owned())
            }
            '-' | '0'..='9' => {
                let number = self.while_some(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))?;
                Token::Number(number.to_owned())
            }
            _ => return None,
        };
        Some(())
    }

    /// White space, line ends, commas and comments (section 2.1).
    fn skip_ignored(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n', ',', '\u{feff}']);
            let Some(comment) = self.rest.strip_prefix('#') else { return };
            let end = comment.find(['\n', '\r']).unwrap_or(comment.len());
            self.rest = comment.get(end..).unwrap_or_default();
        }
    }

    fn take(&mut self, bytes: usize) -> Option<&str> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn while_some(&mut self, is_part: impl Fn(u8) -> bool) -> Option<&str> {
        let end = self.rest.bytes().position(|b| !is_part(b)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// A string or block string (section 2.9.4).
    fn string(&mut self) -> Option<String> {
        if let Some(block) = self.rest.strip_prefix("\"\"\"") {
            let mut from = 0;
            loop {
                let end = from + block.get(from..)?.find("\"\"\"")?;
                if block.get(..end)?.ends_with('\\') {
                    from = end + 3;
                    continue;
                }
                self.rest = block.get(end + 3..)?;
                return Some(block.get(..end)?.replace("\\\"\"\"", "\"\"\"").trim().to_owned());
            }
        }
        let inner = self.rest.strip_prefix('"')?;
        let mut text = String::new();
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = inner.get(at + 1..)?;
                    return Some(text);
                }
                '\n' | '\r' => return None,
                '\\' => match chars.next()?.1 {
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'u' => {
                        let first = hex4(&mut chars)?;
                        // Two escapes may stand for one character, as in JSON.
                        let code = match first {
                            0xd800..=0xdbff => {
                                (chars.next()?.1 == '\\' && chars.next()?.1 == 'u').then_some(())?;
                                let second = hex4(&mut chars)?;
                                (0xdc00..=0xdfff).contains(&second).then_some(())?;
                                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                            }
                            code => code,
                        };
                        text.push(char::from_u32(code)?);
                    }
                    escaped @ ('"' | '\\' | '/') => text.push(escaped),
                    _ => return None,
                },
                other => text.push(other),
            }
        }
        None
    }

    fn is(&self, punctuator: char) -> bool {
        self.token == Token::Punctuator(punctuator)
    }

    fn expect(&mut self, punctuator: char) -> Option<()> {
        if self.is(punctuator) { self.advance() } else { None }
    }

    fn name(&mut self) -> Option<String> {
        let Token::Name(name) = &mut self.token else { return None };
        let name = std::mem::take(name);
        self.advance()?;
        Some(name)
    }

    fn definition(&mut self, document: &mut Document) -> Option<()> {
        if self.is('{') {
            let selections = self.selections(0)?;
            let kind = OperationKind::Query;
            document.operations.push(Parsed { kind, name: None, defaults: Vec::new(), selections });
            return Some(());
        }
        let kind = match self.name()?.as_str() {
            "query" => OperationKind::Query,
            "mutation" => OperationKind::Mutation,
            "subscription" => OperationKind::Subscription,
            "fragment" => {
                let name = self.name()?;
                (self.name()? == "on").then_some(())?;
                self.name()?;
                self.directives()?;
                let selections = self.selections(0)?;
                document.fragments.push((name, selections));
                return Some(());
            }
            _ => return None,
        };
        let name = if matches!(self.token, Token::Name(_)) { Some(self.name()?) } else { None };
        let defaults = self.variables()?;
        self.directives()?;
        let selections = self.selections(0)?;
        document.operations.push(Parsed { kind, name, defaults, selections });
        Some(())
    }

    /// `($name: Type = default, …)`; the defaults by name.
    fn variables(&mut self) -> Option<Vec<(String, Literal)>> {
        let mut defaults = Vec::new();
        if !self.is('(') {
            return Some(defaults);
        }
        self.advance()?;
        while !self.is(')') {
            self.expect('$')?;
            let name = self.name()?;
            self.expect(':')?;
            // A type is names, brackets and exclamation marks; its sense is the schema's.
            while matches!(self.token, Token::Name(_)) || self.is('[') || self.is(']') || self.is('!') {
                self.advance()?;
            }
            if self.is('=') {
                self.advance()?;
                defaults.push((name, self.value(0)?));
            }
            self.directives()?;
        }
        self.advance()?;
        Some(defaults)
    }

    fn directives(&mut self) -> Option<()> {
        while self.is('@') {
            self.advance()?;
            self.name()?;
            self.arguments()?;
        }
        Some(())
    }

    fn arguments(&mut self) -> Option<Vec<(String, Literal)>> {
        let mut arguments = Vec::new();
        if !self.is('(') {
            return Some(arguments);
        }
        self.advance()?;
        while !self.is(')') {
            let name = self.name()?;
            self.expect(':')?;
            arguments.push((name, self.value(0)?));
        }
        self.advance()?;
        Some(arguments)
    }

    fn value(&mut self, depth: usize) -> Option<Literal> {
        if depth >= MAX_DEPTH {
            return None;
        }
        match &mut self.token {
            Token::Text(text) | Token::Number(text) => {
                let text = std::mem::take(text);
                self.advance()?;
                Some(Literal::Scalar(text))
            }
            Token::Name(name) => {
                let name = std::mem::take(name);
                self.advance()?;
                Some(if name == "null" { Literal::Null } else { Literal::Scalar(name) })
            }
            Token::Punctuator('$') => {
                self.advance()?;
                Some(Literal::Variable(self.name()?))
            }
            Token::Punctuator('[') => {
                self.advance()?;
                let mut items = Vec::new();
                while !self.is(']') {
                    items.push(self.value(depth + 1)?);
                }
                self.advance()?;
                Some(Literal::List(items))
            }
            Token::Punctuator('{') => {
                self.advance()?;
                let mut members = Vec::new();
                while !self.is('}') {
                    let name = self.name()?;
                    self.expect(':')?;
                    members.push((name, self.value(depth + 1)?));
                }
                self.advance()?;
                Some(Literal::Object(members))
            }
            _ => None,
        }
    }

    /// `{ … }`: the fields and fragments in it; those of an inline fragment count as its own.
    fn selections(&mut self, depth: usize) -> Option<Vec<Selection>> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.expect('{')?;
        let mut selections = Vec::new();
        while !self.is('}') {
            if self.token == Token::Spread {
                self.advance()?;
                let condition = match &self.token {
                    Token::Name(name) if name != "on" => {
                        selections.push(Selection::Spread(self.name()?));
                        self.directives()?;
                        continue;
                    }
                    Token::Name(_) => true,
                    _ => false,
                };
                if condition {
                    self.advance()?;
                    self.name()?;
                }
                self.directives()?;
                selections.extend(self.selections(depth + 1)?);
                continue;
            }
            let mut field = Field { name: self.name()?, key: String::new(), arguments: Vec::new() };
            if self.is(':') {
                self.advance()?;
                field.key = std::mem::replace(&mut field.name, self.name()?);
            } else {
                field.key.clone_from(&field.name);
            }
            field.arguments = self.arguments()?;
            self.directives()?;
            if self.is('{') {
                self.skip_selections()?;
            }
            selections.push(Selection::Field(field));
        }
        self.advance()?;
        Some(selections)
    }

    /// What is asked of a result: braces that match, whatever stands between them.
    fn skip_selections(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.token {
                Token::Punctuator('{') => open += 1,
                Token::Punctuator('}') => open = open.checked_sub(1)?,
                Token::End => return None,
                _ => {}
            }
            self.advance()?;
            if open == 0 {
                return Some(());
            }
        }
    }
}

fn hex4(chars: &mut std::str::CharIndices<'_>) -> Option<u32> {
    (0..4).try_fold(0, |code, _| Some(code * 16 + chars.next()?.1.to_digit(16)?))
}

#[cfg(test)]
mod tests;
