//! The keys of `when` and `match`: what there is to be demanded, and how it is written.
//!
//! From these tables come the schema, the reference and what is said of a misspelt key; `read` makes
//! conditions of them.

use crate::config::shape::{Field, Kind};
use crate::rules::{graphql, matcher, xmlrpc};

pub(in crate::rules) const MATCHER: Kind = Kind::Named("matcher", || &matcher::SHAPE);
const BY_NAME: Kind = Kind::Dict(&MATCHER);
/// A value of JSON may be null, and be compared with it.
pub(in crate::rules) const BY_POINTER: Kind = Kind::Dict(&Kind::Any(&[MATCHER, Kind::Null]));

/// Where a condition has a place of its own in the schema, since conditions contain conditions.
pub const CONDITION: Kind = Kind::Named("condition", || &Kind::Map(WHEN));

pub(super) const BODY_FIELDS: &[Field] = &[
    Field::new("contains", Kind::OneOrList(&Kind::Str), "", "one of these texts is in the body"),
    Field::new("omits", Kind::OneOrList(&Kind::Str), "", "none of these texts is in the body"),
    Field::new("regex", Kind::Str, "", "the regex is found in the body"),
];

pub(super) const LOCATION_FIELDS: &[Field] = &[
    Field::new("path", MATCHER, "", "the path of `Location`, resolved against the request"),
    Field::new("query", BY_NAME, "", "query fields of `Location`"),
    Field::new("host", MATCHER, "", "the host of an absolute `Location`"),
];

/// The keys of `when`.
pub const WHEN: &[Field] = &[
    Field::new(
        "status",
        Kind::OneOrList(&Kind::Str),
        "",
        "status: 302, a class 30x or 4xx, a range 200-204, or a list",
    ),
    Field::new("header", BY_NAME, "", "headers of the answer"),
    Field::new("location", Kind::Any(&[MATCHER, Kind::Map(LOCATION_FIELDS)]), "", "where the answer redirects to"),
    Field::new("location.path", MATCHER, "", "short for `location: { path: … }`"),
    Field::new("location.query", BY_NAME, "", "short for `location: { query: … }`"),
    Field::new("location.host", MATCHER, "", "short for `location: { host: … }`"),
    Field::new(
        "set_cookie",
        Kind::Dict(&Kind::Word(&["present", "absent", "changed", "deleted"])),
        "",
        "cookies the answer sets, against the request's; a name may end in `*`",
    ),
    Field::new("json", BY_POINTER, "", "JSON of the answer by pointer (RFC 6901; `*` stands for every element)"),
    Field::new("body", Kind::Any(&[Kind::Str, Kind::Map(BODY_FIELDS)]), "", "text of the answer, decompressed"),
    Field::new("content_type", MATCHER, "", "media type of the answer, without parameters"),
    Field::new(
        "session",
        Kind::Word(&["known", "unknown", "changed"]),
        "",
        "known: the request's session has an actor; changed: the answer sets another session cookie",
    ),
    Field::new(
        "form_changed",
        Kind::OneOrList(&Kind::Str),
        "",
        "one of these form fields differs from the page as it was served; the route's `compare` names them",
    ),
    Field::new("graphql", Kind::Map(graphql::WHEN), "", "a GraphQL field and what became of it"),
    Field::new("xmlrpc", Kind::Map(xmlrpc::WHEN), "", "an XML-RPC call and what became of it"),
    Field::new("method", Kind::OneOrList(&Kind::Str), "", "method of the request"),
    Field::new("path", Kind::OneOrList(&Kind::Str), "", "path of the request, as in `match`"),
    Field::new("host", Kind::OneOrList(&Kind::Str), "", "host of the request"),
    Field::new("query", BY_NAME, "", "query fields of the request"),
    Field::new("form", BY_NAME, "", "form fields of the request"),
    Field::new("cookie", BY_NAME, "", "cookies of the request"),
    Field::new("request", Kind::Map(REQUEST), "", "the request's `header`, `json` and `content_type`"),
    Field::new("all", Kind::List(&CONDITION), "", "every one of these holds"),
    Field::new("any", Kind::List(&CONDITION), "", "one of these holds"),
    Field::new("not", CONDITION, "", "this does not hold"),
];

pub(super) const REQUEST: &[Field] = &[
    Field::new("header", BY_NAME, "", "headers of the request"),
    Field::new("json", BY_POINTER, "", "JSON of the request by pointer"),
    Field::new("content_type", MATCHER, "", "media type of the request, without parameters"),
];

/// The keys of `match`.
pub const MATCH: &[Field] = &[
    Field::new("method", Kind::OneOrList(&Kind::Str), "any", "method of the request, or several"),
    Field::new(
        "path",
        Kind::OneOrList(&Kind::Str),
        "any",
        "`/exact`, `prefix:/a/`, `glob:/a/*/b`, `template:/users/{id}`, `regex:^/a$`, or several",
    ),
    Field::new("host", Kind::OneOrList(&Kind::Str), "any", "host without port; `*.example.test` for every name below"),
    Field::new("query", BY_NAME, "", "query fields"),
    Field::new("form", BY_NAME, "", "form fields (urlencoded or multipart); `user[email]` names a nested one"),
    Field::new("json", BY_POINTER, "", "JSON of the request by pointer"),
    Field::new("header", BY_NAME, "", "headers"),
    Field::new("cookie", BY_NAME, "", "cookies"),
    Field::new("content_type", MATCHER, "", "media type, without parameters"),
    Field::new(
        "graphql",
        Kind::Map(graphql::MATCH),
        "",
        "a GraphQL field, by any of the ways in which GraphQL is sent; each field of a request is looked at",
    ),
    Field::new("xmlrpc", Kind::Map(xmlrpc::MATCH), "", "an XML-RPC call; each call of a multicall is looked at"),
    Field::new(
        "method_override",
        Kind::Bool,
        "false",
        "a POST counts as the method it names in the field `_method` or in `X-HTTP-Method-Override`",
    ),
];
