//! What the demo application remembers: accounts, sessions, links, keys and a fake mailbox.
//!
//! It must never be locked across an await (no method here is async) and never grow without bound:
//! every collection has a limit, and the oldest entry makes room. Passwords and keys are held as
//! keyed hashes, as any application should.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use subtle::ConstantTimeEq;

use super::bounded::Bounded;

/// The most sessions, links, tokens and keys, each.
pub const MAX_ENTRIES: usize = 1000;
/// The most accounts.
const MAX_USERS: usize = 200;
/// The most mails in the fake mailbox.
const MAX_MAILS: usize = 50;
/// The wrong password that locks an account.
const MAX_FAILURES: u32 = 5;
/// The fewest characters of a new password.
pub const MIN_PASSWORD_CHARS: usize = 8;
/// The most characters of a name, an address or a label.
const MAX_NAME_CHARS: usize = 64;

/// The second factor of everybody who has one. A real application makes a new one each time.
pub const DEMO_CODE: &str = "246810";

/// The accounts that exist at the start: name, password, role, whether a code is asked for.
pub const DEMO_USERS: [(&str, &str, Role, bool); 4] = [
    ("alice", "wonderland", Role::Member, false),
    ("bob", "builder2009", Role::Member, false),
    ("carol", "christmas1843", Role::Member, true),
    ("admin", "letmein-2009", Role::Admin, false),
];

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sees its own pages.
    Member,
    /// As a member; the difference is only a name here.
    Editor,
    /// Manages the accounts.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 3] = [Role::Member, Role::Editor, Role::Admin];

    /// The word in forms.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Editor => "editor",
            Role::Admin => "admin",
        }
    }

    /// The role of that word.
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|r| r.as_str() == word)
    }
}

/// What pages may know of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Immutable id.
    pub id: String,
    /// What the person types to sign in.
    pub name: String,
    /// Address.
    pub email: String,
    /// What the account may do.
    pub role: Role,
    /// True if a code is asked for after the password.
    pub mfa: bool,
    /// True after too many wrong passwords.
    pub locked: bool,
}

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// No session, or one that nobody has signed in to.
    Nobody,
    /// The password was right, the code is still missing.
    Pending(User),
    /// Signed in.
    SignedIn(User),
}

/// How a password was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Signed in; the new session id.
    SignedIn(String),
    /// Right, and a code is asked for; the new session id.
    CodeNeeded(String),
    /// Wrong name or password, without saying which.
    Wrong,
    /// Wrong once too often: this attempt locked the account.
    NowLocked,
    /// The account was locked before.
    Locked,
}

/// How a sign-in of the JSON API went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenLogin {
    /// A bearer token and whose it is.
    Granted(String, User),
    /// Right, and a code is asked for.
    CodeNeeded,
    /// Right, and the code was wrong.
    WrongCode,
    /// Wrong name or password.
    Wrong,
    /// This attempt locked the account.
    NowLocked,
    /// The account was locked before.
    Locked,
}

/// How a new password was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPassword {
    /// It is in force.
    Set,
    /// The old password was wrong, or the link is not (or no longer) good.
    Refused,
    /// The new one is too short.
    TooShort,
}

/// A mail that was never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Address.
    pub to: String,
    /// What it carries.
    pub content: Content,
}

/// What a mail carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The token of a password reset link.
    Reset(String),
    /// The code of a second factor.
    Code,
}

/// An API key as its owner may see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Public id.
    pub id: String,
    /// What the owner calls it.
    pub label: String,
}

/// Everything the application remembers.
pub struct State {
    key: [u8; 32],
    inner: Mutex<Inner>,
}

struct Inner {
    next_id: u32,
    users: BTreeMap<String, Account>,
    sessions: Bounded<Session>,
    tokens: Bounded<String>,
    resets: Bounded<String>,
    keys: Bounded<KeyEntry>,
    outbox: VecDeque<Mail>,
}

struct Account {
    user: User,
    password: [u8; 32],
    failures: u32,
}

enum Session {
    Anonymous,
    Pending(String),
    SignedIn(String),
}

struct KeyEntry {
    owner: String,
    label: String,
    hash: [u8; 32],
}

enum Checked {
    Right(User),
    Wrong,
    NowLocked,
    Locked,
}

impl State {
    /// The application as it is on its first day.
    pub fn new() -> State {
        let state = State { key: process_random(), inner: Mutex::new(Inner::new()) };
        {
            let mut inner = state.lock();
            for (name, password, role, mfa) in DEMO_USERS {
                let hash = state.hash("password", password);
                inner.add(name, &format!("{name}@acme.example"), hash, role, mfa);
            }
        }
        state
    }

    /// A new session that nobody has signed in to; its id.
    pub fn open(&self) -> String {
        let id = self.random("session");
        self.lock().sessions.put(id.clone(), Session::Anonymous);
        id
    }

    /// True if the session exists.
    pub fn is_open(&self, session: &str) -> bool {
        self.lock().sessions.get(session).is_some()
    }

    /// The value that forms of this session must carry.
    pub fn csrf(&self, session: &str) -> String {
        let mut hash = self.hash_hex("csrf", session);
        hash.truncate(32);
        hash
    }

    /// True if `given` is the value of [`State::csrf`] and the session exists.
    pub fn csrf_holds(&self, session: Option<&str>, given: &str) -> bool {
        session.is_some_and(|s| self.is_open(s) && self.csrf(s).as_bytes().ct_eq(given.as_bytes()).into())
    }

    /// Whose session it is.
    pub fn who(&self, session: Option<&str>) -> Who {
        let inner = self.lock();
        // A session outlives its account's deletion only as nobody's.
        let user = |name: &str| inner.users.get(name).map(|a| a.user.clone());
        match session.and_then(|s| inner.sessions.get(s)) {
            Some(Session::SignedIn(name)) => user(name).map_or(Who::Nobody, Who::SignedIn),
            Some(Session::Pending(name)) => user(name).map_or(Who::Nobody, Who::Pending),
            Some(Session::Anonymous) | None => Who::Nobody,
        }
    }

    /// Checks a password. The session is replaced on success, so that an id planted before the
    /// sign-in is worth nothing after it.
    pub fn sign_in(&self, session: Option<&str>, name: &str, password: &str) -> Login {
        let fresh = self.random("session");
        let hash = self.hash("password", password);
        let mut inner = self.lock();
        let user = match inner.check(name, &hash) {
            Checked::Right(user) => user,
            Checked::Wrong => return Login::Wrong,
            Checked::NowLocked => return Login::NowLocked,
            Checked::Locked => return Login::Locked,
        };
        if let Some(old) = session {
            inner.sessions.remove(old);
        }
        if user.mfa {
            inner.mail(Mail { to: user.email, content: Content::Code });
            inner.sessions.put(fresh.clone(), Session::Pending(user.name));
            return Login::CodeNeeded(fresh);
        }
        inner.sessions.put(fresh.clone(), Session::SignedIn(user.name));
        Login::SignedIn(fresh)
    }

    /// Checks a code; the new session id if it was right.
    pub fn second_factor(&self, session: &str, code: &str) -> Option<String> {
        let fresh = self.random("session");
        let mut inner = self.lock();
        let Some(Session::Pending(name)) = inner.sessions.get(session) else { return None };
        if !code_is_right(code) {
            return None;
        }
        let name = name.clone();
        inner.sessions.remove(session);
        inner.sessions.put(fresh.clone(), Session::SignedIn(name));
        Some(fresh)
    }

    /// Ends a session.
    pub fn sign_out(&self, session: &str) {
        self.lock().sessions.remove(session);
    }

    /// The JSON API's sign-in: no session, a token instead.
    pub fn token_sign_in(&self, name: &str, password: &str, code: Option<&str>) -> TokenLogin {
        let token = self.random("token");
        let stored = self.hash_hex("token", &token);
        let hash = self.hash("password", password);
        let mut inner = self.lock();
        match (inner.check(name, &hash), code) {
            (Checked::Right(user), None) if user.mfa => TokenLogin::CodeNeeded,
            (Checked::Right(user), Some(code)) if user.mfa && !code_is_right(code) => TokenLogin::WrongCode,
            (Checked::Right(user), _) => {
                inner.tokens.put(stored, user.name.clone());
                TokenLogin::Granted(token, user)
            }
            (Checked::Wrong, _) => TokenLogin::Wrong,
            (Checked::NowLocked, _) => TokenLogin::NowLocked,
            (Checked::Locked, _) => TokenLogin::Locked,
        }
    }

    /// Whose bearer token or API key it is.
    pub fn bearer(&self, token: &str) -> Option<User> {
        let (token_hash, key_hash) = (self.hash_hex("token", token), self.hash("key", token));
        let inner = self.lock();
        let by_key = || inner.keys.iter().find(|(_, k)| bool::from(k.hash.ct_eq(&key_hash))).map(|(_, k)| &k.owner);
        let name = inner.tokens.get(&token_hash).or_else(by_key)?;
        inner.users.get(name).map(|a| a.user.clone())
    }

    /// Changes a password by its owner.
    pub fn change_password(&self, name: &str, old: &str, new: &str) -> NewPassword {
        let (old, hash) = (self.hash("password", old), self.hash("password", new));
        let mut inner = self.lock();
        let Some(account) = inner.users.get_mut(name) else { return NewPassword::Refused };
        if !bool::from(account.password.ct_eq(&old)) {
            return NewPassword::Refused;
        }
        if new.chars().count() < MIN_PASSWORD_CHARS {
            return NewPassword::TooShort;
        }
        account.password = hash;
        NewPassword::Set
    }

    /// "Mails" a reset link, if the address or name is known. Says nothing either way.
    pub fn request_reset(&self, address: &str) {
        let token = self.random("reset");
        let mut inner = self.lock();
        let found = inner.users.values().find(|a| a.user.email == address || a.user.name == address);
        let Some((name, email)) = found.map(|a| (a.user.name.clone(), a.user.email.clone())) else { return };
        inner.resets.put(token.clone(), name);
        inner.mail(Mail { to: email, content: Content::Reset(token) });
    }

    /// Whose reset link it is.
    pub fn reset_owner(&self, token: &str) -> Option<User> {
        let inner = self.lock();
        inner.resets.get(token).and_then(|name| inner.users.get(name)).map(|a| a.user.clone())
    }

    /// Sets a new password by a reset link, which is good once. It unlocks the account and ends
    /// its sessions: whoever had the old password is out.
    pub fn complete_reset(&self, token: &str, email: &str, new: &str) -> NewPassword {
        let hash = self.hash("password", new);
        let mut inner = self.lock();
        let Some(name) = inner.resets.get(token).cloned() else { return NewPassword::Refused };
        let Some(account) = inner.users.get_mut(&name).filter(|a| a.user.email == email) else {
            return NewPassword::Refused;
        };
        if new.chars().count() < MIN_PASSWORD_CHARS {
            return NewPassword::TooShort;
        }
        account.password = hash;
        account.failures = 0;
        account.user.locked = false;
        inner.resets.remove(token);
        inner.end_sessions(&name);
        NewPassword::Set
    }

    /// The fake mailbox, newest first.
    pub fn outbox(&self) -> Vec<Mail> {
        self.lock().outbox.iter().rev().cloned().collect()
    }

    /// Every account, by name.
    pub fn users(&self) -> Vec<User> {
        self.lock().users.values().map(|a| a.user.clone()).collect()
    }

    /// Gives an account another role; false if there is none of that name.
    pub fn set_role(&self, name: &str, role: Role) -> bool {
        let mut inner = self.lock();
        let Some(account) = inner.users.get_mut(name) else { return false };
        account.user.role = role;
        true
    }

    /// Makes an account.
    ///
    /// # Errors
    /// A sentence for the form if a value is missing, too long or taken.
    pub fn create_user(&self, name: &str, email: &str, password: &str) -> Result<(), &'static str> {
        let hash = self.hash("password", password);
        if !is_name(name) || !is_name(email) {
            return Err("A name and an address are needed, of 64 characters at most.");
        }
        if password.chars().count() < MIN_PASSWORD_CHARS {
            return Err("The password needs 8 characters or more.");
        }
        let mut inner = self.lock();
        if inner.users.contains_key(name) {
            return Err("That name is taken.");
        }
        if inner.users.len() >= MAX_USERS {
            return Err("There are enough accounts for a demo.");
        }
        inner.add(name, email, hash, Role::Member, false);
        Ok(())
    }

    /// Deletes an account with its sessions, tokens, keys and links; false if there is none.
    pub fn delete_user(&self, name: &str) -> bool {
        let mut inner = self.lock();
        let found = inner.users.remove(name).is_some();
        inner.end_sessions(name);
        // An account of the same name may be made again: nothing of the old one may open it.
        inner.tokens.retain(|owner| owner != name);
        inner.resets.retain(|owner| owner != name);
        inner.keys.retain(|key| key.owner != name);
        found
    }

    /// Makes an API key; the key itself, which is not kept. `None` for an unusable label.
    pub fn create_key(&self, owner: &str, label: &str) -> Option<String> {
        if !is_name(label) {
            return None;
        }
        let key = format!("acme_{}", self.random("key"));
        let hash = self.hash("key", &key);
        let mut inner = self.lock();
        let id = format!("k{}", inner.number());
        inner.keys.put(id, KeyEntry { owner: owner.to_owned(), label: label.to_owned(), hash });
        Some(key)
    }

    /// The keys of an account, oldest first.
    pub fn keys(&self, owner: &str) -> Vec<ApiKey> {
        let inner = self.lock();
        let own = inner.keys.iter().filter(|(_, k)| k.owner == owner);
        own.map(|(id, k)| ApiKey { id: id.to_owned(), label: k.label.clone() }).collect()
    }

    /// Takes a key away; false if the account has none of that id.
    pub fn revoke_key(&self, owner: &str, id: &str) -> bool {
        let mut inner = self.lock();
        let own = inner.keys.get(id).is_some_and(|k| k.owner == owner);
        if own {
            inner.keys.remove(id);
        }
        own
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held may have lost one change, and breaks nothing else.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, purpose: &str, value: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(purpose.as_bytes()).update(b"\0").update(value.as_bytes());
        *hasher.finalize().as_bytes()
    }

    fn hash_hex(&self, purpose: &str, value: &str) -> String {
        blake3::Hash::from_bytes(self.hash(purpose, value)).to_hex().to_string()
    }

    /// 160 bits in hex that nobody outside this process can guess.
    fn random(&self, purpose: &str) -> String {
        let mut text = self.hash_hex(purpose, &uuid::Uuid::now_v7().to_string());
        text.truncate(40);
        text
    }
}

impl Inner {
    fn new() -> Inner {
        Inner {
            next_id: 1000,
            users: BTreeMap::new(),
            sessions: Bounded::new(),
            tokens: Bounded::new(),
            resets: Bounded::new(),
            keys: Bounded::new(),
            outbox: VecDeque::new(),
        }
    }

    fn number(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn add(&mut self, name: &str, email: &str, password: [u8; 32], role: Role, mfa: bool) {
        let id = format!("u{}", self.number());
        let user = User { id, name: name.to_owned(), email: email.to_owned(), role, mfa, locked: false };
        self.users.insert(name.to_owned(), Account { user, password, failures: 0 });
    }

    fn check(&mut self, name: &str, password: &[u8; 32]) -> Checked {
        let Some(account) = self.users.get_mut(name) else { return Checked::Wrong };
        if account.user.locked {
            return Checked::Locked;
        }
        if bool::from(account.password.ct_eq(password)) {
            account.failures = 0;
            return Checked::Right(account.user.clone());
        }
        account.failures += 1;
        if account.failures < MAX_FAILURES {
            return Checked::Wrong;
        }
        account.user.locked = true;
        Checked::NowLocked
    }

    fn mail(&mut self, mail: Mail) {
        if self.outbox.len() >= MAX_MAILS {
            self.outbox.pop_front();
        }
        self.outbox.push_back(mail);
    }

    fn end_sessions(&mut self, name: &str) {
        self.sessions.retain(|s| !matches!(s, Session::Pending(n) | Session::SignedIn(n) if n == name));
    }
}

fn code_is_right(code: &str) -> bool {
    code.trim().as_bytes().ct_eq(DEMO_CODE.as_bytes()).into()
}

fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().take(MAX_NAME_CHARS + 1).count() <= MAX_NAME_CHARS
}

/// A key from the seeds of the standard library's hash maps: random for each process.
fn process_random() -> [u8; 32] {
    let mut key = [0; 32];
    for (n, part) in key.chunks_mut(8).enumerate() {
        part.copy_from_slice(&RandomState::new().hash_one(n).to_le_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed_in(state: &State, name: &str, password: &str) -> String {
        match state.sign_in(None, name, password) {
            Login::SignedIn(session) => session,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_goes_first() {
        let state = State::new();
        let first = state.open();
        let second = state.open();
        for _ in 2..=MAX_ENTRIES {
            state.open();
        }
        assert!(!state.is_open(&first));
        assert!(state.is_open(&second));
    }

    #[test]
    fn the_session_id_is_replaced_at_sign_in() {
        let state = State::new();
        let before = state.open();
        let Login::SignedIn(after) = state.sign_in(Some(&before), "alice", "wonderland") else { panic!("refused") };
        assert_ne!(before, after);
        assert!(!state.is_open(&before));
        assert!(matches!(state.who(Some(&after)), Who::SignedIn(u) if u.name == "alice"));
    }

    #[test]
    fn the_fifth_wrong_password_locks_and_a_reset_unlocks() {
        let state = State::new();
        for _ in 1..MAX_FAILURES {
            assert_eq!(state.sign_in(None, "bob", "x"), Login::Wrong);
        }
        assert_eq!(state.sign_in(None, "bob", "x"), Login::NowLocked);
        assert_eq!(state.sign_in(None, "bob", "builder2009"), Login::Locked);
        state.request_reset("bob@acme.example");
        let Some(Mail { content: Content::Reset(token), .. }) = state.outbox().into_iter().next() else {
            panic!("no mail")
        };
        assert_eq!(state.complete_reset(&token, "alice@acme.example", "long enough"), NewPassword::Refused);
        assert_eq!(state.complete_reset(&token, "bob@acme.example", "long enough"), NewPassword::Set);
        assert_eq!(state.complete_reset(&token, "bob@acme.example", "long enough"), NewPassword::Refused);
        signed_in(&state, "bob", "long enough");
    }

    #[test]
    fn a_deleted_account_leaves_no_session_token_or_key_behind() {
        let state = State::new();
        let session = signed_in(&state, "bob", "builder2009");
        let TokenLogin::Granted(token, _) = state.token_sign_in("bob", "builder2009", None) else { panic!("refused") };
        let key = state.create_key("bob", "backup").expect("a key");
        assert!(state.bearer(&token).is_some() && state.bearer(&key).is_some());
        assert!(state.delete_user("bob"));
        state.create_user("bob", "new@acme.example", "another one").expect("made again");
        assert_eq!(state.who(Some(&session)), Who::Nobody);
        assert_eq!(state.bearer(&token), None);
        assert_eq!(state.bearer(&key), None);
    }

    #[test]
    fn a_form_value_of_one_session_does_not_fit_another() {
        let state = State::new();
        let (mine, theirs) = (state.open(), state.open());
        assert!(state.csrf_holds(Some(&mine), &state.csrf(&mine)));
        assert!(!state.csrf_holds(Some(&mine), &state.csrf(&theirs)));
        assert!(!state.csrf_holds(None, ""));
        assert!(!state.csrf_holds(Some("never opened"), &state.csrf("never opened")));
    }
}
