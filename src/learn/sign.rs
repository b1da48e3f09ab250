//! Signs: what a request carries and what an answer shows, each as a rule of routes.yaml would ask for it.
//!
//! A sign holds names (of fields, cookies, keys, paths) and words that an application made, never what
//! somebody typed.

use super::yaml::Yaml;

/// One sign.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// A session cookie got another value.
    Cookie(String),
    /// A cookie that the request brought was taken away.
    CookieGone(String),
    /// An XML-RPC call failed, or did not.
    Fault(bool),
    /// A GraphQL call has errors that concern it, or has none.
    Errors(bool),
    /// The code of a GraphQL error.
    ErrorCode(String),
    /// A pointer into the answer's JSON, with the word there.
    Code(String, String),
    /// A pointer into the answer's JSON, with the value if that is true or false.
    Json(String, Option<bool>),
    /// The page asks for a password.
    AsksPassword,
    /// The path of `Location`.
    Location(String),
    /// A field in the query of `Location`.
    LocationQuery(String),
    /// The status.
    Status(u16),
    /// Whether the request's session had an actor.
    SessionKnown(bool),
    /// The request's path: of a next request only.
    At(String),
    /// A field of the form that says what is done, and the word in it.
    Does(String, String),
    /// The same in the query.
    QueryDoes(String, String),
    /// The same by a pointer into the request's JSON.
    Says(String, String),
    /// A field of the form that is filled in.
    Filled(String),
    /// A field of the form that others fill in there, and this request does not.
    Blank(String),
    /// A field of the query.
    Query(String),
    /// A field of the query that others have there.
    NoQuery(String),
    /// A key of the request's JSON.
    Has(String),
    /// A key of the request's JSON that others have there.
    Lacks(String),
}

/// What a condition is written into, and so whom its keys speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A route's `match`.
    Match,
    /// A rule's `when`.
    When,
}

impl Sign {
    /// True if it is about the request, not about what came of it.
    pub fn is_asked(&self) -> bool {
        use Sign::*;
        matches!(
            self,
            Does(..) | QueryDoes(..) | Says(..) | Filled(_) | Blank(_) | Query(_) | NoQuery(_) | Has(_) | Lacks(_)
        )
    }

    /// How little it tells of how something went: the lowest is asked for first.
    pub fn weakness(&self) -> u32 {
        use Sign::*;
        match self {
            Cookie(_) | CookieGone(_) | Fault(true) | Errors(true) | ErrorCode(_) => 1,
            AsksPassword | Does(..) | QueryDoes(..) | Says(..) => 2,
            Json(..) | Location(_) | LocationQuery(_) | At(_) => 3,
            Code(..) | Status(_) | Fault(false) | Errors(false) | SessionKnown(true) => 4,
            Filled(_) | Query(_) | Has(_) => 5,
            Blank(_) | NoQuery(_) | Lacks(_) | SessionKnown(false) => 6,
        }
    }

    /// Adds it to a condition; false if the condition says something else in its place.
    pub fn put(&self, part: Part, into: &mut Yaml) -> bool {
        // Some applications take cookies away that nobody brought.
        if let Sign::CookieGone(name) = self
            && !into.put(&["cookie", name], Yaml::word("present"))
        {
            return false;
        }
        let (keys, value) = self.condition(part);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        into.put(&keys, value)
    }

    fn condition(&self, part: Part) -> (Vec<String>, Yaml) {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let there = |yes: &bool| Yaml::word(if *yes { "present" } else { "absent" });
        let empty = |yes: &str| Yaml::Map(vec![("empty".to_owned(), Yaml::word(yes))]);
        let json = |pointer: &str| match part {
            Part::Match => keys(&["json", pointer]),
            Part::When => keys(&["request", "json", pointer]),
        };
        match self {
            Sign::Cookie(name) => (keys(&["set_cookie", name]), Yaml::word("changed")),
            Sign::CookieGone(name) => (keys(&["set_cookie", name]), Yaml::word("deleted")),
            Sign::Fault(yes) => (keys(&["xmlrpc", "fault"]), there(yes)),
            Sign::Errors(yes) => (keys(&["graphql", "errors"]), there(yes)),
            Sign::ErrorCode(code) => (keys(&["graphql", "code"]), Yaml::text(code)),
            Sign::Code(pointer, word) => (keys(&["json", pointer]), Yaml::text(word)),
            Sign::Json(pointer, None) => (keys(&["json", pointer]), Yaml::word("present")),
            Sign::Json(pointer, Some(yes)) => (keys(&["json", pointer]), Yaml::text(&yes.to_string())),
            Sign::AsksPassword => {
                let regex = "'(?i)type\\s*=\\s*[\"'']?password'";
                (keys(&["body", "regex"]), Yaml::word(regex))
            }
            Sign::Location(path) => (keys(&["location", "path"]), Yaml::text(path)),
            Sign::LocationQuery(name) => (keys(&["location", "query", name]), Yaml::word("present")),
            Sign::Status(status) => (keys(&["status"]), Yaml::word(&status.to_string())),
            Sign::SessionKnown(yes) => (keys(&["session"]), Yaml::word(if *yes { "known" } else { "unknown" })),
            Sign::At(path) => (keys(&["path"]), Yaml::text(path)),
            Sign::Does(name, word) => (keys(&["form", name]), Yaml::text(word)),
            Sign::QueryDoes(name, word) => (keys(&["query", name]), Yaml::text(word)),
            Sign::Says(pointer, word) => (json(pointer), Yaml::text(word)),
            Sign::Filled(name) => (keys(&["form", name]), empty("false")),
            Sign::Blank(name) => (keys(&["form", name]), empty("true")),
            Sign::Query(name) => (keys(&["query", name]), Yaml::word("present")),
            Sign::NoQuery(name) => (keys(&["query", name]), Yaml::word("absent")),
            Sign::Has(pointer) => (json(pointer), Yaml::word("present")),
            Sign::Lacks(pointer) => (json(pointer), Yaml::word("absent")),
        }
    }
}

/// These signs as one condition; `None` if two of them contradict each other.
pub fn condition<'s>(signs: impl IntoIterator<Item = &'s Sign>, part: Part) -> Option<Yaml> {
    let mut made = Yaml::Map(Vec::new());
    signs.into_iter().all(|sign| sign.put(part, &mut made)).then_some(made)
}
