//! Words that are known to be harmless: those of the standards, of the presets, and of the tables by
//! which names are read. What is not among them is replaced in a recording.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::auto::words;
use crate::config::node::{Node, Value};
use crate::config::problem::Problems;
use crate::rules::presets::PRESETS;

/// Words of HTTP, HTML, cookies, JSON APIs and browsers.
const COMMON: &str = "
    a abbr accept access account accounts action add address admin after again alert all alt already an and api app
    application are area article as asc aside async at attempt attempts audio auth authenticate authenticated authentication
    author authorization authorize auto autocomplete autofocus available b back base basic be bearer before begin between
    block body bool boolean border both br button by bytes cache call callback can cancel cannot canonical caption cart case
    cell center challenge change changed charset check checkbox checked chrome class clear click client close code col color
    column complete completed config confirm confirmation confirmed connect contact content control cookie cookies copy
    correct could count create created credential credentials cross csrf css current custom dashboard data database date
    default defer delete deleted denied desc description detail details dialog dir disable disabled display div do doctype
    document does done down download edit element email empty en enable enabled encoding end enter entity entry error errorlist
    errors event every exists expired expires export fail failed failure false field fields fieldset file files filter find
    first flash flow flows flex focus font footer for forbidden forgot form format found frame from full function get go grant group guest
    has head header headers height help hidden hide history home host hover href html http https icon id identity if image
    images img import in incorrect index info inner input integer internal invalid invite is it item items javascript json
    key keyword label lang language last layout left legend length level li light limit line link links list load loading local
    locale location locked log logged login logout magic mail main manage manifest mask max may media member menu message
    messages meta method mfa min missing mobile mode model module more mutation must name nav navbar navigation nbsp needed new
    next no nofollow none nonce noopener noreferrer not note notice null number object of off offset ok old on once one only open
    operation option optional options or order other otp out output own p page pages panel param parameter params parent
    partial passkey password passwords path payload permission permissions phone picture placeholder please plugin popup
    portal position post pre preferences preview previous primary privacy private profile progress project protected
    provider public put q query quot radio range rate read readonly reason recover recovery redirect ref refresh region
    register registered registration rel reload remember remove reply report request requested require required resend
    reset resource response rest result results retry return revoke right role roles root route row rpc s save saved scope
    screen script search second secret secure security see select selected self send sent server service session sessions set
    settings setup show sidebar sign signed signin signout signup simple site size skip small sort source space span src
    standalone start state static status step stop string strong style submit success successful successfully support svg tab
    table tag target tbody td team temporary term terms text textarea tfoot th than that the theme thead this time timeout title
    to toggle token tokens too top total totp tr true try two type ul unable unauthorized undefined unknown unlock until up update
    updated upload url use used user username users utf valid validation value variables verification verified verify version
    view viewport visible visit warning was we web webauthn welcome were width will window with write wrong xhtml xml xmlns yes
    you your zone oauth oauth2 oidc sso saml v1 v2 v3 v4 2fa graphql xmlrpc jsonrpc mozilla lax strict samesite httponly
    gzip br deflate identity keepalive nosniff sameorigin www form-data urlencoded multipart boundary attachment filename
    amp lt gt apos copyright iso ascii utf8 php aspx jsp cgi htm js png jpg jpeg gif ico webp woff woff2 map
    document iframe empty cors navigate websocket stylesheet shortcut apple touch mutation errorcode fault faultcode faultstring
    struct array int i4 double methodcall methodname methodresponse messagebox helptext invalidkey loggedout checkemail
";

/// The harmless words.
pub struct Vocabulary {
    words: HashSet<String>,
    stems: Vec<&'static str>,
}

static SHIPPED: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let mut words: HashSet<String> = COMMON.split_whitespace().map(str::to_owned).collect();
    let tables = words::all().flat_map(|meaning| meaning.words().iter().chain(meaning.stems()));
    words.extend(tables.map(|word| (*word).to_owned()));
    for preset in PRESETS {
        let mut problems = Problems::new(preset.name, preset.source);
        if let Some(node) = Node::parse(preset.source, &mut problems) {
            literals(&node, &mut words);
        }
    }
    words
});

/// Words of a configuration's routes: what rules look for is no secret. Tests are left out, since
/// somebody may have pasted what really was typed.
fn literals(node: &Node, words: &mut HashSet<String>) {
    match &node.value {
        Value::Null => {}
        Value::Scalar { text, .. } => words.extend(runs(text).flat_map(|run| parts(run).chain([run.to_lowercase()]))),
        Value::Seq(items) => items.iter().for_each(|item| literals(item, words)),
        Value::Map(entries) => {
            for (key, value) in entries.iter().filter(|(key, _)| key.text != "tests" && key.text != "verified") {
                words.extend(runs(&key.text).flat_map(|run| parts(run).chain([run.to_lowercase()])));
                literals(value, words);
            }
        }
    }
}

impl Default for Vocabulary {
    fn default() -> Self {
        let stems = words::all().flat_map(|meaning| meaning.stems()).copied();
        // A short stem stands in many a word, and in many a secret.
        let stems = stems.filter(|stem| stem.chars().count() >= 4 || !stem.is_ascii());
        Vocabulary { words: HashSet::new(), stems: stems.collect() }
    }
}

impl Vocabulary {
    /// Adds the words of a configuration's routes.
    pub fn add_routes(&mut self, source: &str) {
        let mut problems = Problems::new("routes", source);
        let node = Node::parse(source, &mut problems);
        if let Some(routes) = node.as_ref().and_then(|node| node.child("routes")) {
            literals(routes, &mut self.words);
        }
    }

    fn has(&self, word: &str) -> bool {
        SHIPPED.contains(word) || self.words.contains(word)
    }

    /// True if a run of letters and digits is made of harmless words alone.
    pub fn knows(&self, run: &str) -> bool {
        if run.len() > 64 {
            return false;
        }
        if self.has(&run.to_lowercase()) {
            return true;
        }
        let mut words = parts(run).peekable();
        words.peek().is_some()
            && words.all(|word| {
                let bare = word.trim_end_matches(|c: char| c.is_ascii_digit());
                self.has(&word) || (!bare.is_empty() && word.len() - bare.len() <= 2 && self.has(bare))
            })
    }

    /// Where in a word of letters stems stand by which names are read, as ranges of bytes.
    pub fn stems_in(&self, word: &str) -> Vec<std::ops::Range<usize>> {
        if word.len() > 64 || !word.chars().all(char::is_alphabetic) || word.to_lowercase().len() != word.len() {
            return Vec::new();
        }
        let lower = word.to_lowercase();
        let mut found: Vec<std::ops::Range<usize>> =
            self.stems.iter().filter_map(|stem| lower.find(stem).map(|at| at..at + stem.len())).collect();
        found.retain(|range| word.is_char_boundary(range.start) && word.is_char_boundary(range.end));
        found
    }
}

/// Runs of letters and digits.
pub fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty())
}

/// The words of a run, in lower case: `isSignedIn` is three.
fn parts(run: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = run;
    std::iter::from_fn(move || {
        let mut before = rest.chars().next()?;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let boundary = c.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
            before = *c;
            boundary
        });
        let (word, after) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        rest = after;
        Some(word.to_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_standards_and_presets_are_known_and_what_people_type_is_not() {
        let mut vocabulary = Vocabulary::default();
        for known in
            ["password", "isSignedIn", "INVALID", "password2", "wp", "getUsersBlogs", "csrfmiddlewaretoken", "Passwort"]
        {
            assert!(vocabulary.knows(known), "{known}");
        }
        for unknown in ["hunter22", "alice", "xK9vQ2mP", "4711", "sk3cr3t"] {
            assert!(!vocabulary.knows(unknown), "{unknown}");
        }
        vocabulary.add_routes(
            "routes: [ { id: konto, match: { path: /konto/pruefung }, tests: [ { name: typed-by-zeno } ] } ]",
        );
        assert!(vocabulary.knows("pruefung") && !vocabulary.knows("zeno"));
    }
}
