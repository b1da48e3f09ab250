//! Conditions about GraphQL: what one field of an operation asks for, and what became of it.
//!
//! GraphQL answers 200 whatever happened, so the outcome stands in `errors` and in the field's part
//! of `data`. Must never take the error of one field for that of another: an error that names a path
//! concerns the field that the path begins with, one without a path concerns them all.

use std::borrow::Cow;

use serde_json::Value;

use super::calls::Asked;
use super::condition::{BY_POINTER, MATCHER, Needs, compared_text, pointers};
use super::facts::{Facts, Truth, select};
use super::matcher::Matcher;
use crate::body::graphql::{Field as Asking, Found, OperationKind};
use crate::body::json::scalar_text;
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};

const OPERATIONS: &[&str] = &["query", "mutation", "subscription"];

const OPERATION: Field = Field::new("operation", Kind::Word(OPERATIONS), "", "what the operation does");
const NAME: Field = Field::new("name", MATCHER, "", "`operationName`, all that is known of a persisted query");
const FIELD: Field =
    Field::new("field", MATCHER, "", "a top-level field by its name in the schema, whatever its alias");
const ARGUMENT: Field =
    Field::new("argument", BY_POINTER, "", "the field's arguments by pointer, literal or by variable");

/// The keys under `match`.
pub const MATCH: &[Field] = &[OPERATION, NAME, FIELD, ARGUMENT];

/// The keys under `when`.
pub const WHEN: &[Field] = &[
    OPERATION,
    NAME,
    FIELD,
    ARGUMENT,
    Field::new(
        "errors",
        Kind::Word(&["present", "absent"]),
        "",
        "whether the answer has errors that concern the field",
    ),
    Field::new("code", MATCHER, "", "`extensions.code` of such an error"),
    Field::new("data", Kind::Word(&["present", "absent"]), "", "present: the field has a result that is not null"),
    Field::new("result", BY_POINTER, "", "the field's result by pointer"),
];

/// One demand on a call.
#[derive(Clone, Debug)]
pub enum Demand {
    /// What the operation does.
    Operation(OperationKind),
    /// The operation's name.
    Name(Matcher),
    /// The field's name.
    Field(Matcher),
    /// A value among its arguments.
    Argument(String, Matcher),
    /// Whether errors concern it.
    Errors(bool),
    /// The code of one of them.
    Code(Matcher),
    /// Whether it has a result.
    Data(bool),
    /// A value of its result.
    Result(String, Matcher),
}

/// Reads `graphql:` of a `match` or a `when`; `make` wraps each demand.
pub(super) fn check<C>(
    node: &Node,
    fields: &'static [Field],
    make: fn(Demand) -> C,
    all: &mut Vec<C>,
    problems: &mut Problems,
) {
    let Some(map) = node.map(fields, problems) else { return };
    let before = all.len();
    if let Some(word) = map.one_of("operation", OPERATIONS, problems) {
        let kinds = [OperationKind::Query, OperationKind::Mutation, OperationKind::Subscription];
        all.extend(kinds.into_iter().find(|k| k.as_str() == word).map(|k| make(Demand::Operation(k))));
    }
    let mut one = |map: &Map<'_>, key: &str, demand: fn(Matcher) -> Demand, problems: &mut Problems| {
        all.extend(map.get(key).and_then(|at| Matcher::check(at, problems)).map(|m| make(demand(m))));
    };
    one(&map, "name", Demand::Name, problems);
    one(&map, "field", Demand::Field, problems);
    one(&map, "code", Demand::Code, problems);
    for (key, demand) in [("errors", Demand::Errors as fn(bool) -> Demand), ("data", Demand::Data)] {
        all.extend(map.one_of(key, &["present", "absent"], problems).map(|word| make(demand(word == "present"))));
    }
    let mut found = Vec::new();
    pointers(&map, "argument", Demand::Argument, &mut found, problems);
    pointers(&map, "result", Demand::Result, &mut found, problems);
    all.extend(found.into_iter().map(make));
    if all.len() == before && node.entries(problems).is_empty() {
        let hint = "say what of it: { operation: mutation, field: login }";
        problems.error_hint(node, "the condition demands nothing".into(), hint);
    }
}

impl Demand {
    /// Which bodies it reads.
    pub fn needs(&self) -> Needs {
        match self {
            Demand::Operation(_) | Demand::Name(_) | Demand::Field(_) | Demand::Argument(..) => {
                Needs { request_body: true, response_body: false }
            }
            // To know which part of the answer is meant, the request has to be read.
            _ => Needs { request_body: true, response_body: true },
        }
    }

    /// Whether it holds of the call that is looked at.
    pub fn holds(&self, facts: &Facts<'_>) -> Truth {
        let body = facts.request_body()?;
        let Some(asked) = facts.graphql() else { return if body.cut() { None } else { Some(false) } };
        let field = facts.graphql_field();
        match self {
            Demand::Operation(kind) => Some(asked.operation.as_ref().is_some_and(|o| o.kind == *kind)),
            Demand::Name(matcher) => Some(matcher.matches(asked.name.as_deref())),
            Demand::Field(matcher) => Some(field.is_some_and(|f| matcher.matches(Some(&f.name)))),
            Demand::Argument(pointer, matcher) => Some(argument_matches(facts, pointer, matcher)),
            answered => {
                let answer = facts.response_body()?;
                let Some(json) = facts.response_json() else {
                    return if answer.cut() { None } else { Some(answered.holds_of_nothing()) };
                };
                Some(answered.holds_of(json, asked, field))
            }
        }
    }

    /// Whether it holds of an answer that is no JSON.
    fn holds_of_nothing(&self) -> bool {
        match self {
            Demand::Errors(wanted) | Demand::Data(wanted) => !wanted,
            Demand::Code(matcher) | Demand::Result(_, matcher) => matcher.accepts_absence(),
            _ => false,
        }
    }

    fn holds_of(&self, answer: &Value, asked: &Asked, field: Option<&Asking>) -> bool {
        let key = field.map(|f| f.key.as_str());
        match self {
            Demand::Errors(wanted) => concerning(answer, key).next().is_some() == *wanted,
            Demand::Code(matcher) => {
                let codes: Vec<Cow<'_, str>> =
                    concerning(answer, key).filter_map(|e| scalar_text(e.pointer("/extensions/code")?)).collect();
                matcher.matches_any(codes.iter().map(|c| &**c))
            }
            Demand::Data(wanted) => result(answer, asked, key).is_some_and(|v| !v.is_null()) == *wanted,
            Demand::Result(pointer, matcher) => {
                let found = result(answer, asked, key).map(|v| select(v, pointer)).unwrap_or_default();
                let texts: Vec<Cow<'_, str>> = found.into_iter().map(compared_text).collect();
                matcher.matches_any(texts.iter().map(|t| &**t))
            }
            _ => false,
        }
    }
}

/// The errors of an answer that concern a field (October 2021 edition, section 7.1.2).
fn concerning<'v>(answer: &'v Value, key: Option<&str>) -> impl Iterator<Item = &'v Value> {
    const MAX_ERRORS: usize = 1000;
    let errors = answer.get("errors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    errors.iter().take(MAX_ERRORS).filter(move |error| {
        let first = error.pointer("/path/0").and_then(Value::as_str);
        first.is_none() || key.is_none() || first == key
    })
}

/// A field's part of `data`; all of it for a persisted query, whose fields are not known.
fn result<'v>(answer: &'v Value, asked: &Asked, key: Option<&str>) -> Option<&'v Value> {
    let data = answer.get("data")?;
    match key {
        Some(key) => data.get(key),
        None if asked.operation.is_none() => Some(data),
        None => None,
    }
}

/// The text of a value among the arguments of the field that is looked at, or else among the
/// variables of its request.
pub(crate) fn argument(facts: &Facts<'_>, pointer: &str) -> Option<String> {
    match found(facts, pointer) {
        Some(Found::Text(text)) => Some(text),
        Some(_) => None,
        None => {
            select(facts.graphql_variables()?, pointer).into_iter().find_map(|v| scalar_text(v).map(Cow::into_owned))
        }
    }
}

/// The text of a value in the result of the field that is looked at.
pub(super) fn result_text(facts: &Facts<'_>, pointer: &str) -> Option<String> {
    let (asked, key) = (facts.graphql()?, facts.graphql_field().map(|f| f.key.as_str()));
    let result = result(facts.response_json()?, asked, key)?;
    select(result, pointer).into_iter().find_map(|v| scalar_text(v).map(Cow::into_owned))
}

fn found(facts: &Facts<'_>, pointer: &str) -> Option<Found> {
    let operation = facts.graphql()?.operation.as_ref()?;
    operation.argument(facts.graphql_field()?, pointer, facts.graphql_variables())
}

fn argument_matches(facts: &Facts<'_>, pointer: &str, matcher: &Matcher) -> bool {
    match found(facts, pointer) {
        Some(Found::Text(text)) => matcher.matches(Some(&text)),
        Some(Found::Null) => matcher.matches(Some("null")),
        Some(Found::Nested) => matcher.matches(Some("\u{0}")),
        None => matcher.accepts_absence(),
    }
}
