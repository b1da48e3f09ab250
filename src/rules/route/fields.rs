//! The keys of one entry of `routes:`, and of what stands inside it.

use crate::config::shape::{Field, Kind};
use crate::rules::{case, condition, follow, sample};

pub(in crate::rules) const OUTCOMES: &[&str] =
    &["success", "failure", "challenge", "requested", "rejected", "unknown", "ignore"];
const SOURCES: Kind = Kind::OneOrList(&Kind::Str);

pub(super) const ACTOR: &[Field] = &[
    Field::new("id", SOURCES, "", "the application's immutable id; the first source with a value wins"),
    Field::new("login", SOURCES, "", "what was typed into the user field"),
    Field::new("email", SOURCES, "", "an address"),
    Field::new("type", Kind::Str, "", "user, service, admin, …"),
];

pub(super) const TARGET: &[Field] = &[
    Field::new("type", Kind::Str, "", "user, api_key, team, …"),
    Field::new("id", SOURCES, "", "whom or what it was done to"),
    Field::new("email", SOURCES, "", "its address"),
];

pub(super) const SESSION: &[Field] = &[
    Field::new(
        "token",
        SOURCES,
        "",
        "where the answer hands out tokens that later requests carry; kept only as a keyed hash",
    ),
    Field::new(
        "carried",
        SOURCES,
        "",
        "where this request carries such a token, beside the headers and cookies of the file's `session`: json:/refresh_token",
    ),
];

pub(super) const COMPARE: &[Field] = &[
    Field::required(
        "fields",
        Kind::OneOrList(&Kind::Str),
        "fields whose served values are remembered, as keyed hashes",
    ),
    Field::new(
        "key",
        SOURCES,
        "",
        "what tells one form of the path from another: a source of the page's request or of this one",
    ),
];

pub(super) const EMIT: &[Field] = &[
    Field::new("success", Kind::Str, "", "event type of this outcome"),
    Field::new("failure", Kind::Str, "", "event type of this outcome"),
    Field::new("challenge", Kind::Str, "", "event type of this outcome"),
    Field::new("requested", Kind::Str, "", "event type of this outcome"),
    Field::new("rejected", Kind::Str, "", "event type of this outcome"),
    Field::new("unknown", Kind::Str, "", "event type of this outcome"),
];

pub(super) const RULE: &[Field] = &[
    Field::new("name", Kind::Str, "rule-N", "what `source.rule` of the event says"),
    Field::new("when", condition::CONDITION, "always", "what must hold for this rule to decide"),
    Field::new(
        "outcome",
        Kind::Word(OUTCOMES),
        "",
        "what it decides: success, failure, challenge, requested, rejected, unknown or ignore; required without `follow`",
    ),
    Field::new("follow", Kind::Map(follow::FIELDS), "", "instead of an outcome: the client's next request decides"),
    Field::new("reason", Kind::Str, "", "one word why"),
    Field::new("emit", Kind::Str, "", "event type, instead of what the route's `emit` says"),
    Field::new("also", Kind::OneOrList(&Kind::Str), "", "further event types of the same exchange"),
];

/// The keys of a route.
pub const FIELDS: &[Field] = &[
    Field::required("id", Kind::Str, "a name of your choice, unique in the file"),
    Field::required(
        "match",
        Kind::Map(condition::MATCH),
        "which requests the route is about, for example { method: POST, path: /login }",
    ),
    Field::new("actor", Kind::Map(ACTOR), "", "who did it"),
    Field::new("target", Kind::Map(TARGET), "", "whom or what it was done to"),
    Field::new("organization", SOURCES, "", "the tenant"),
    Field::new("method", Kind::Str, "", "how the person proved themselves: password, sso, mfa, … or a source"),
    Field::new("provider", Kind::Str, "", "the identity provider, or a source"),
    Field::new("fields", Kind::Dict(&SOURCES), "", "further values to keep, at most 32"),
    Field::new("session", Kind::Map(SESSION), "", "tokens this route hands out"),
    Field::new("flow", Kind::Map(follow::FLOW), "", "the steps of one login, over several requests"),
    Field::new(
        "compare",
        Kind::Map(COMPARE),
        "",
        "hold form fields against the page as the same session was last served it (GET of the same path): `form_changed`",
    ),
    Field::new(
        "sample",
        sample::KIND,
        "per key, every 1h, where api_key.used is emitted; else off",
        "say a success once per key and interval, and refusals always",
    ),
    Field::new("rules", Kind::List(&Kind::Map(RULE)), "", "tried in order; the first that holds decides"),
    Field::new("default", Kind::Word(OUTCOMES), "unknown", "the outcome if no rule holds"),
    Field::new(
        "when",
        condition::CONDITION,
        "status 2xx or 3xx",
        "short form without `rules`: success when this holds, else ignore",
    ),
    Field::new("outcome", Kind::Word(OUTCOMES), "success", "short form: another outcome than success"),
    Field::required("emit", Kind::Any(&[Kind::Str, Kind::Map(EMIT)]), "the event type, or one for each outcome"),
    Field::new("also", Kind::OneOrList(&Kind::Str), "", "further event types on success"),
    Field::new(
        "tests",
        Kind::List(&Kind::Map(case::FIELDS)),
        "[]",
        "exchanges and the events they must give, for `authtap test`",
    ),
];
