//! Which application this is, by signs in its answers: names of cookies it sets, headers, paths that
//! are there, literals in its pages.
//!
//! Only ever a proposal: nothing is captured because of it. Names are looked at, never values of
//! cookies. Strong signs belong to one application; weak ones (a common cookie, a path) count once each
//! and only add up. The invariant: memory is one bit a sign, whatever the traffic.

use http::{HeaderName, StatusCode, header};

use super::{PRESETS, Preset};
use crate::body::cookie::{MAX_SET_COOKIES, SetCookie};
use crate::body::wanted::fits;
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::Timestamp;
use crate::headers::Headers;
use crate::rules::matcher::{self, Matcher};

const MATCHER: Kind = Kind::Named("matcher", || &matcher::SHAPE);

const WEAK: &[Field] = &[
    Field::new("cookies", Kind::OneOrList(&Kind::Str), "[]", "names of cookies it sets; a name may end in `*`"),
    Field::new("headers", Kind::Dict(&MATCHER), "", "headers of its answers"),
    Field::new("paths", Kind::OneOrList(&Kind::Str), "[]", "paths that are there"),
    Field::new("body", Kind::OneOrList(&Kind::Str), "[]", "literals in its pages"),
];

/// The keys of `recognise:` in a preset's file.
pub(super) const FIELDS: &[Field] = &[
    Field::new("cookies", Kind::OneOrList(&Kind::Str), "[]", "names of cookies that only this application sets"),
    Field::new("headers", Kind::Dict(&MATCHER), "", "headers that only its answers have"),
    Field::new(
        "paths",
        Kind::OneOrList(&Kind::Str),
        "[]",
        "paths that are there: always weak, another may answer them too",
    ),
    Field::new("body", Kind::OneOrList(&Kind::Str), "[]", "literals that only its pages have"),
    Field::new("weak", Kind::Map(WEAK), "", "signs that others give too"),
];

/// What a strong sign is worth; a weak one is worth one.
const STRONG: u32 = 3;
/// The most that paths are worth together: an application that answers everything has them all.
const PATHS: u32 = 2;
/// What is proposed must be worth so much.
const ENOUGH: u32 = 3;
/// Names of cookies that frameworks give to many applications: weak, whatever a preset says.
const COMMON: &[&str] =
    &["session", "sessionid", "csrftoken", "PHPSESSID", "JSESSIONID", "SESSION", "connect.sid", "_session_id", "token"];

/// What an answer shows, as far as signs look at it.
#[derive(Debug)]
pub struct Glimpse {
    /// The path that was asked for.
    pub path: String,
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's headers.
    pub headers: Headers,
}

#[derive(Clone, Debug)]
enum What {
    Cookie(String),
    Header(HeaderName, Matcher),
    Path(String),
    Body(String),
}

#[derive(Debug)]
struct Sign {
    what: What,
    strong: bool,
    seen: bool,
}

impl Sign {
    fn shown(&self) -> String {
        match &self.what {
            What::Cookie(name) => format!("cookie {name}"),
            What::Header(name, _) => format!("header {name}"),
            What::Path(path) => format!("path {path}"),
            What::Body(text) => format!("page with {text}"),
        }
    }
}

/// The signs of one preset.
#[derive(Debug)]
struct Suspect {
    name: &'static str,
    signs: Vec<Sign>,
    in_use: bool,
    proposed: bool,
}

/// An application that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// The preset for it.
    pub preset: &'static str,
    /// The signs that were seen.
    pub signs: Vec<String>,
}

/// The signs of every preset that is not in use.
#[derive(Debug, Default)]
pub struct Recogniser {
    suspects: Vec<Suspect>,
}

impl Recogniser {
    /// Looks for every preset but those in use.
    pub fn new(in_use: &[&str]) -> Recogniser {
        let mut suspects: Vec<Suspect> = PRESETS
            .iter()
            .map(|preset| Suspect {
                name: preset.name,
                signs: signs(preset),
                in_use: in_use.contains(&preset.name),
                proposed: false,
            })
            .collect();
        shared_are_weak(&mut suspects);
        Recogniser { suspects }
    }

    /// Others are in use from now on. What was proposed once is not proposed again.
    pub fn follow(&mut self, in_use: &[&str]) {
        for suspect in &mut self.suspects {
            suspect.in_use = in_use.contains(&suspect.name);
        }
    }

    /// Looks at the head of an answer; answers what is recognised by now for the first time.
    pub fn see(&mut self, glimpse: &Glimpse) -> Vec<Recognised> {
        let set: Vec<&[u8]> = glimpse
            .headers
            .get_all(header::SET_COOKIE)
            .iter()
            .take(MAX_SET_COOKIES)
            .filter_map(|line| SetCookie::parse(line.as_bytes(), Timestamp::from_millis(0)).map(|set| set.name))
            .collect();
        // A redirect to sign in, or a refusal, shows that a path is there as well as a page does.
        let there = glimpse.status.is_success()
            || glimpse.status.is_redirection()
            || matches!(glimpse.status.as_u16(), 401 | 403 | 405);
        self.note(|what| match what {
            What::Cookie(name) => set.iter().any(|found| fits(name, found)),
            What::Header(name, matcher) => {
                glimpse.headers.get_all(name).iter().any(|value| matcher.matches(value.to_str().ok()))
            }
            What::Path(path) => there && *path == glimpse.path,
            What::Body(_) => false,
        })
    }

    /// Looks at a page's text, where one was kept for other reasons.
    pub fn read(&mut self, page: &str) -> Vec<Recognised> {
        self.note(|what| matches!(what, What::Body(text) if page.contains(text.as_str())))
    }

    fn note(&mut self, shows: impl Fn(&What) -> bool) -> Vec<Recognised> {
        let mut found = Vec::new();
        for suspect in self.suspects.iter_mut().filter(|suspect| !suspect.proposed && !suspect.in_use) {
            let mut more = false;
            for sign in suspect.signs.iter_mut().filter(|sign| !sign.seen) {
                sign.seen = shows(&sign.what);
                more |= sign.seen;
            }
            if more && suspect.weight() >= ENOUGH {
                suspect.proposed = true;
                let signs = suspect.signs.iter().filter(|sign| sign.seen).map(Sign::shown).collect();
                found.push(Recognised { preset: suspect.name, signs });
            }
        }
        found
    }
}

impl Suspect {
    fn weight(&self) -> u32 {
        let (mut paths, mut rest) = (0_u32, 0_u32);
        for sign in self.signs.iter().filter(|sign| sign.seen) {
            match sign.what {
                What::Path(_) => paths += 1,
                _ if sign.strong => rest += STRONG,
                _ => rest += 1,
            }
        }
        rest + paths.min(PATHS)
    }
}

/// What two presets call their own is nobody's.
fn shared_are_weak(suspects: &mut [Suspect]) {
    let shown: Vec<(usize, String)> = suspects
        .iter()
        .enumerate()
        .flat_map(|(i, suspect)| suspect.signs.iter().map(move |sign| (i, sign.shown())))
        .collect();
    for (i, suspect) in suspects.iter_mut().enumerate() {
        for sign in &mut suspect.signs {
            let text = sign.shown();
            let common = matches!(&sign.what, What::Cookie(name) if COMMON.contains(&name.as_str()));
            // Headers of one name may be told apart by what they say.
            let shared = !matches!(sign.what, What::Header(..))
                && shown.iter().any(|(other, sign)| *other != i && *sign == text);
            sign.strong &= !(common || shared);
        }
    }
}

/// The signs a preset's file names.
fn signs(preset: &Preset) -> Vec<Sign> {
    let mut problems = Problems::new(preset.name, preset.source);
    let Some(root) = preset.before_routes(&mut problems) else { return Vec::new() };
    root.child("recognise").map(|node| check(node, &mut problems)).unwrap_or_default()
}

/// Reads `recognise:`.
pub(super) fn read(node: &Node, problems: &mut Problems) {
    check(node, problems);
}

fn check(node: &Node, problems: &mut Problems) -> Vec<Sign> {
    let mut found = Vec::new();
    let Some(map) = node.map(FIELDS, problems) else { return found };
    add(&map, true, &mut found, problems);
    if let Some(weak) = map.get("weak").and_then(|node| node.map(WEAK, problems)) {
        add(&weak, false, &mut found, problems);
    }
    found
}

fn add(map: &Map<'_>, strong: bool, found: &mut Vec<Sign>, problems: &mut Problems) {
    for (key, make) in [("cookies", What::Cookie as fn(String) -> What), ("paths", What::Path), ("body", What::Body)] {
        for item in map.items(key) {
            found.extend(item.str(problems).map(|text| Sign { what: make(text.to_owned()), strong, seen: false }));
        }
    }
    let Some(headers) = map.get("headers") else { return };
    for (key, value) in headers.entries(problems) {
        match HeaderName::from_bytes(key.text.as_bytes()) {
            Ok(name) => found.extend(Matcher::check(value, problems).map(|matcher| Sign {
                what: What::Header(name, matcher),
                strong,
                seen: false,
            })),
            Err(_) => problems.error(value, format!("`{}` is not a header name", key.text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(path: &str, status: u16, headers: &[(&'static str, &'static str)]) -> Glimpse {
        let mut map = Headers::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value);
        }
        Glimpse { path: path.into(), status: StatusCode::from_u16(status).expect("a status"), headers: map }
    }

    fn names(found: &[Recognised]) -> Vec<&str> {
        found.iter().map(|recognised| recognised.preset).collect()
    }

    #[test]
    fn a_sign_of_its_own_recognises_an_application_once() {
        let mut recogniser = Recogniser::new(&[]);
        let front = answer("/", 200, &[("link", "<http://x/wp-json/>; rel=\"https://api.w.org/\"")]);
        let found = recogniser.see(&front);
        assert_eq!(names(&found), ["wordpress"]);
        assert_eq!(found[0].signs, ["header link"]);
        assert!(recogniser.see(&front).is_empty(), "it is said once");
    }

    #[test]
    fn a_preset_in_use_is_not_proposed() {
        let mut recogniser = Recogniser::new(&["wordpress"]);
        let login = answer("/wp-login.php", 200, &[("set-cookie", "wordpress_test_cookie=x; path=/")]);
        assert!(recogniser.see(&login).is_empty());
    }

    #[test]
    fn what_is_no_longer_in_use_is_proposed_and_what_is_now_no_more() {
        let mut recogniser = Recogniser::new(&["wordpress"]);
        let page = "<link href='/wp-content/x.css'><body data-drupal-selector='y'>";
        assert_eq!(names(&recogniser.read("data-drupal-selector=z")), ["drupal"]);
        recogniser.follow(&["gitea"]);
        assert_eq!(names(&recogniser.read(page)), ["wordpress"], "and drupal was named before");
        assert!(recogniser.read("<meta content=\"Gitea\">").is_empty());
    }

    #[test]
    fn weak_signs_only_add_up() {
        let mut recogniser = Recogniser::new(&[]);
        let common = answer(
            "/",
            200,
            &[("set-cookie", "sessionid=x"), ("set-cookie", "PHPSESSID=x"), ("set-cookie", "JSESSIONID=x")],
        );
        assert!(recogniser.see(&common).is_empty());
        let token = answer("/", 200, &[("set-cookie", "csrftoken=x"), ("x-frame-options", "DENY")]);
        let found = recogniser.see(&token);
        assert!(names(&found).contains(&"django"), "{found:?}");
    }

    #[test]
    fn an_application_that_answers_every_path_is_not_every_application() {
        let mut recogniser = Recogniser::new(&[]);
        for suspect in Recogniser::new(&[]).suspects {
            for sign in suspect.signs {
                if let What::Path(path) = sign.what {
                    assert!(recogniser.see(&answer(&path, 200, &[])).is_empty(), "{path}");
                }
            }
        }
    }

    #[test]
    fn values_of_cookies_are_not_among_the_signs() {
        let mut recogniser = Recogniser::new(&[]);
        let found = recogniser.see(&answer("/", 302, &[("set-cookie", "wordpress_logged_in_0a=alice; path=/")]));
        assert_eq!(found[0].signs, ["cookie wordpress_logged_in_*"]);
    }

    #[test]
    fn a_page_is_read_for_its_literals() {
        let found = Recogniser::new(&[]).read("<link href='/wp-content/themes/x.css'>");
        assert_eq!(names(&found), ["wordpress"]);
    }
}
