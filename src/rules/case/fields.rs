//! The keys of one entry of a route's `tests`, and of what stands inside it.

use crate::config::shape::{Field, Kind};
use crate::rules::route::OUTCOMES;

const NONE: &[&str] = &["none"];
const TEXTS: Kind = Kind::OneOrList(&Kind::Str);

pub(super) const SESSION: &[Field] = &[
    Field::new("id", Kind::Str, "", "the actor's id"),
    Field::new("login", Kind::Str, "", "what the actor typed to sign in"),
    Field::new("email", Kind::Str, "", "the actor's address"),
];

pub(super) const TLS_CLIENT: &[Field] = &[
    Field::new("subject", Kind::Str, "", "the whole subject, as in CN=alice,O=Acme"),
    Field::new("cn", Kind::Str, "", "the common name in it"),
    Field::new("email", Kind::Str, "", "its first e-mail address"),
];

pub(super) const TLS: &[Field] = &[
    Field::new("sni", Kind::Str, "", "the name the client asked for"),
    Field::new("ja4", Kind::Str, "", "the fingerprint of its hello"),
    Field::new("client", Kind::Map(TLS_CLIENT), "none", "the certificate it showed, verified"),
];

pub(super) const REQUEST: &[Field] = &[
    Field::new("method", Kind::Str, "the first of the route, or GET", "method"),
    Field::new("path", Kind::Str, "the first plain one of the route", "path, without the query"),
    Field::new("host", Kind::Str, "app.example.test", "host"),
    Field::new("query", Kind::Dict(&TEXTS), "", "fields of the query"),
    Field::new("headers", Kind::Dict(&TEXTS), "", "headers"),
    Field::new("cookies", Kind::Dict(&Kind::Str), "", "cookies the request brings"),
    Field::new("form", Kind::Dict(&TEXTS), "", "fields of a urlencoded form; any made-up password will do"),
    Field::new("json", Kind::Json, "", "a JSON body"),
    Field::new("body", Kind::Str, "", "any other body, as text; say its `content-type` among the headers"),
    Field::new("served", Kind::Dict(&TEXTS), "", "the form as the page served it before, for `form_changed`"),
    Field::new(
        "session",
        Kind::Map(SESSION),
        "that of nobody",
        "whose session it carries, as an earlier login bound it",
    ),
    Field::new(
        "tls",
        Kind::Map(TLS),
        "nothing known",
        "what is known of the client's TLS, for sources like `tls.client.cn`",
    ),
];

pub(super) const RESPONSE: &[Field] = &[
    Field::required("status", Kind::Int(100, 999), "the status of the answer"),
    Field::new("headers", Kind::Dict(&TEXTS), "", "headers"),
    Field::new(
        "set_cookie",
        Kind::Any(&[Kind::Dict(&Kind::Str), TEXTS]),
        "",
        "cookies it sets, by name: a value, or `deleted`; or whole `Set-Cookie` lines",
    ),
    Field::new("location", Kind::Str, "", "where it redirects to"),
    Field::new("json", Kind::Json, "", "a JSON body"),
    Field::new("body", Kind::Str, "", "any other body, as text; HTML unless a `content-type` says otherwise"),
];

pub(super) const TARGET: &[Field] = &[
    Field::new("type", Kind::Str, "", "as in the event"),
    Field::new("id", Kind::Str, "", "as in the event"),
    Field::new("email", Kind::Str, "", "as in the event"),
];

pub(super) const ACTOR: &[Field] = &[
    Field::new("id", Kind::Str, "", "as in the event"),
    Field::new("login", Kind::Str, "", "as in the event"),
    Field::new("email", Kind::Str, "", "as in the event"),
    Field::new("type", Kind::Str, "", "as in the event"),
];

pub(super) const EXPECT: &[Field] = &[
    Field::new("event_type", Kind::Str, "", "the type of the event"),
    Field::new("outcome", Kind::Word(OUTCOMES), "", "its outcome"),
    Field::new("reason", Kind::Str, "", "its reason"),
    Field::new("rule", Kind::Str, "", "the name of the rule that decides, or `default`"),
    Field::new("actor", Kind::Map(ACTOR), "", "who"),
    Field::new("target", Kind::Map(TARGET), "", "whom or what"),
    Field::new("organization", Kind::Str, "", "the tenant's id"),
    Field::new("method", Kind::Str, "", "how the person proved themselves"),
    Field::new("provider", Kind::Str, "", "the identity provider"),
    Field::new("fields", Kind::Dict(&Kind::Str), "", "further values"),
    Field::new("also", TEXTS, "", "the further event types, all of them in order"),
];

pub(super) const NEXT: &[Field] = &[
    Field::new("request", Kind::Map(REQUEST), "where the answer leads", "what is asked next"),
    Field::required("response", Kind::Map(RESPONSE), "what is answered then"),
];

/// The keys of one entry of a route's `tests`.
pub const FIELDS: &[Field] = &[
    Field::required("name", Kind::Str, "what the test shows, in a few words"),
    Field::new("request", Kind::Map(REQUEST), "", "what is asked"),
    Field::required(
        "response",
        Kind::Any(&[Kind::Word(NONE), Kind::Map(RESPONSE)]),
        "what the application answers, for example { status: 302, location: / }; none if it gives no answer",
    ),
    Field::new("next", Kind::Map(NEXT), "none comes in time", "the client's next request, for rules with `follow`"),
    Field::required(
        "expect",
        Kind::Any(&[Kind::Word(NONE), Kind::Map(EXPECT)]),
        "what the event must say (what is not named may be anything; `absent`: it must not be there), or none",
    ),
];
