//! What is learned of an application while its traffic goes by: names, never values.
//!
//! For each host: what its pages ask for under which name, which cookies it sets, which of them is
//! the session and which change with every answer, where one signs in, and which answers meant
//! what. Everything is bounded; what is full takes nothing new in. Nothing learned is a secret:
//! names of fields and cookies, paths without tokens, and hashes of answers' shapes.

use std::collections::{HashMap, HashSet};

use super::page::{Asks, Page};

/// The most hosts that are learned about.
const MAX_HOSTS: usize = 64;
/// The most names of fields of a host.
const MAX_NAMES: usize = 2_000;
/// The most cookies of a host.
const MAX_COOKIES: usize = 100;
/// The most places and answers of a host.
const MAX_PLACES: usize = 500;

/// What is known of a cookie.
#[derive(Clone, Copy, Debug, Default)]
struct Cookie {
    /// Scripts cannot read it.
    http_only: bool,
    /// How often it was new when somebody signed in.
    at_login: u32,
    /// It was given to somebody who only looked at a page.
    given_to_anybody: bool,
    /// Its value was replaced by an answer to something other than a sign-in.
    moved: bool,
    /// How often a value that the request brought was replaced by an answer to something else.
    elsewhere: u32,
}

/// What is known of one application.
#[derive(Debug, Default)]
pub struct Host {
    asks: HashMap<String, Asks>,
    /// Pages that mark something as an error although nothing happened.
    marked: HashSet<String>,
    /// Pages whose messages say no although nothing happened.
    says_no: HashSet<String>,
    cookies: HashMap<String, Cookie>,
    logins: HashMap<String, u32>,
    answers: HashMap<u64, i32>,
    /// How often a refused form was shown again rather than redirected to.
    shown_again: u32,
}

/// What is known of all.
#[derive(Debug, Default)]
pub struct Learned {
    hosts: HashMap<String, Host>,
    /// For hosts beyond the bound.
    other: Host,
}

impl Learned {
    /// What is known of a host, if anything is.
    pub fn peek(&self, name: &str) -> Option<&Host> {
        self.hosts.get(name)
    }

    /// What is known of a host, to be added to.
    pub fn host(&mut self, name: &str) -> &mut Host {
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(name) {
            return &mut self.other;
        }
        self.hosts.entry(name.to_owned()).or_default()
    }
}

impl Host {
    /// Takes in what a page asks for.
    pub fn page(&mut self, page: &Page) {
        for input in page.fields() {
            let room = self.asks.len() < MAX_NAMES;
            match self.asks.get_mut(&input.name) {
                // A password stays one, whatever other form has a field of that name.
                Some(Asks::Password) if input.asks != Asks::NewPassword => {}
                Some(known) => *known = input.asks,
                None if room => {
                    self.asks.insert(input.name.clone(), input.asks);
                }
                None => {}
            }
        }
    }

    /// Takes in that a page marks an error, or says no, when somebody merely looks at it.
    pub fn page_says(&mut self, path: &str, page: &Page) {
        for (says, paths) in [(page.marks_error, &mut self.marked), (page.says_no, &mut self.says_no)] {
            if says && paths.len() < MAX_PLACES {
                paths.insert(path.to_owned());
            }
        }
    }

    /// True if it says no to whoever looks at it.
    pub fn always_says_no(&self, path: &str) -> bool {
        self.says_no.contains(path)
    }

    /// True if it does.
    pub fn always_marks_error(&self, path: &str) -> bool {
        self.marked.contains(path)
    }

    /// What its pages ask for under this name.
    pub fn asks(&self, name: &str) -> Option<Asks> {
        self.asks.get(name).copied()
    }

    /// Takes in that an answer set a cookie. `replaced` is true if the request had brought another
    /// value, `looked` if it was no more than a look at a page.
    pub fn cookie(&mut self, name: &str, http_only: bool, replaced: bool, looked: bool) {
        let Some(known) = self.cookie_named(name) else { return };
        known.http_only = http_only;
        known.moved |= replaced;
        known.given_to_anybody |= looked;
        if replaced && looked {
            known.elsewhere = known.elsewhere.saturating_add(1);
        }
    }

    /// Takes in that somebody who was refused was given this cookie.
    pub fn cookie_of_refusal(&mut self, name: &str) {
        let Some(known) = self.cookie_named(name) else { return };
        known.given_to_anybody = true;
    }

    /// Takes in that somebody signed in by this cookie.
    pub fn cookie_of_login(&mut self, name: &str) {
        let Some(known) = self.cookie_named(name) else { return };
        known.at_login = known.at_login.saturating_add(1);
    }

    fn cookie_named(&mut self, name: &str) -> Option<&mut Cookie> {
        if !self.cookies.contains_key(name) && self.cookies.len() >= MAX_COOKIES {
            return None;
        }
        Some(self.cookies.entry(name.to_owned()).or_default())
    }

    /// True if a cookie's value changes with answers that mean nothing.
    pub fn changes_always(&self, name: &str) -> bool {
        self.cookies.get(name).is_some_and(|c| c.elsewhere >= 2 && c.elsewhere > c.at_login)
    }

    /// True if it was the session of somebody who signed in.
    pub fn is_session(&self, name: &str) -> bool {
        self.cookies.get(name).is_some_and(|c| c.at_login > 0)
    }

    /// True if its value changes within sessions too.
    pub fn moves(&self, name: &str) -> bool {
        self.cookies.get(name).is_some_and(|c| c.moved)
    }

    /// True if nobody was ever given it but by signing in.
    pub fn proves_login(&self, name: &str) -> bool {
        self.cookies.get(name).is_some_and(|c| c.at_login > 0 && !c.given_to_anybody)
    }

    /// True if the application itself set it, out of the reach of scripts.
    pub fn is_hidden(&self, name: &str) -> bool {
        self.cookies.get(name).is_some_and(|c| c.http_only)
    }

    /// Takes in where somebody signed in or tried to.
    pub fn login_at(&mut self, place: &str) {
        if self.logins.len() < MAX_PLACES || self.logins.contains_key(place) {
            let count = self.logins.entry(place.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// True if somebody signs in there.
    pub fn is_login(&self, place: &str) -> bool {
        self.logins.contains_key(place)
    }

    /// Takes in what an answer of this shape meant.
    pub fn answered(&mut self, shape: u64, accepted: bool) {
        if self.answers.len() < MAX_PLACES || self.answers.contains_key(&shape) {
            let sum = self.answers.entry(shape).or_default();
            *sum = (*sum + if accepted { 1 } else { -1 }).clamp(-8, 8);
        }
    }

    /// What answers of this shape meant so far, as a weight.
    pub fn meant(&self, shape: u64) -> f64 {
        f64::from(self.answers.get(&shape).copied().unwrap_or_default()).clamp(-4.0, 4.0) * 0.4
    }

    /// Takes in that a refused form was shown again.
    pub fn showed_form_again(&mut self) {
        self.shown_again = self.shown_again.saturating_add(1);
    }

    /// True if it shows refused forms again.
    pub fn shows_forms_again(&self) -> bool {
        self.shown_again > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_that_changes_with_every_answer_is_told_from_the_session() {
        let mut host = Host::default();
        host.cookie_of_login("sid");
        for _ in 0..3 {
            host.cookie("rolling", true, true, true);
        }
        assert!(host.is_session("sid") && !host.changes_always("sid"));
        assert!(host.changes_always("rolling") && !host.is_session("rolling"));
    }

    #[test]
    fn what_is_learned_is_bounded() {
        let mut learned = Learned::default();
        for i in 0..1_000 {
            let host = learned.host(&format!("h{i}"));
            for j in 0..10 {
                host.cookie(&format!("c{i}-{j}"), false, false, false);
                host.login_at(&format!("/{i}/{j}"));
                host.answered(i * 100 + j, true);
            }
        }
        assert_eq!(learned.hosts.len(), MAX_HOSTS);
        assert!(learned.other.cookies.len() <= MAX_COOKIES && learned.other.logins.len() <= MAX_PLACES);
        assert!(learned.other.answers.len() <= MAX_PLACES);
    }
}
