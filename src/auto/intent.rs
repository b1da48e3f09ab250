//! What a request is about, by what it carries: before its answer is looked at.
//!
//! A pure function of the request and of what is known of its session. It names no outcome, and
//! where a request could be several things it is the harmless one: what asks for a password inside
//! a session, or for the password of a page, is nothing.

use http::Method;

use super::request::{Request, Role, Shape};
use super::words::{
    AGAIN_IN_SESSION, CHANGE, CHANGE_ONLY, EMAIL, KEY, KEYS, LOGIN, LOGOUT, MAKE, OFF, ONE_KEY, OTHER_KEYS, PASSWORD,
    REFRESH, RESET, REVOKE, SECOND_FACTOR, SEND, SIGN_UP, Words,
};

/// How far a client without a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It said who it is.
    Identified,
    /// Its password was right; a second factor is awaited.
    SecondFactor,
    /// Its password was right; a new one is awaited.
    NewPassword,
    /// It asked for a reset, or opened the link of one.
    Reset,
    /// Inside a session it gave a new address, which waits to be confirmed.
    NewAddress,
    /// It made an account or completed a reset: the next page shows whether that signed it in.
    Entered,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Somebody signs in with a password.
    Login,
    /// The same, with the code of a second factor in the same request.
    LoginWithCode,
    /// Somebody whose password was right gives the new one that was demanded.
    NewPassword,
    /// Somebody says who they are; the proof follows.
    Identify,
    /// A code is given.
    Code,
    /// An account is made by the person themselves.
    SignUp,
    /// An account is made by somebody who is signed in.
    MakeUser,
    /// A reset is asked for.
    ResetRequest,
    /// A reset sets a new password.
    ResetComplete,
    /// A password is changed inside a session.
    PasswordChange,
    /// An address is changed inside a session.
    EmailChange,
    /// A second factor is set up inside a session.
    SecondFactorOn,
    /// A second factor is taken away inside a session.
    SecondFactorOff,
    /// A key is made inside a session.
    KeyMade,
    /// A session is ended.
    Logout,
    /// A session is renewed, or something else that must stay silent.
    Nothing,
}

/// What is known of who is asking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Its session has an actor.
    pub session: bool,
    /// How far it has come without one.
    pub stage: Option<Stage>,
    /// Somebody signed in at this path before.
    pub login_path: bool,
    /// The request names somebody, and not whose session it is.
    pub names_another: bool,
}

/// What the request is about.
pub fn of(request: &Request<'_>, method: &Method, known: Known) -> Intent {
    if request.shape == Shape::GraphQlRead {
        return Intent::Nothing;
    }
    let passwords = request
        .fields
        .iter()
        .filter(|f| matches!(f.role, Role::Password | Role::Old | Role::New | Role::Again) && !f.value.is_empty())
        .count();
    let may_end = passwords == 0 && request.identifier().is_none();
    if may_end && ends_a_session(request, method) {
        return Intent::Logout;
    }
    if *method == Method::GET {
        return Intent::Nothing;
    }
    if request.shape == Shape::XmlRpc {
        // By position nothing is sure; a method that names itself a login is.
        return Intent::Login;
    }
    if passwords == 0 { without_password(request, method, known) } else { with_password(request, method, known) }
}

fn ends_a_session(request: &Request<'_>, method: &Method) -> bool {
    if request.says(&LOGOUT) {
        return true;
    }
    let lone_name = || {
        let mut said = request.fields.iter().filter(|f| !matches!(f.role, Role::Machinery));
        said.next().is_some_and(|f| Words::of(&f.name).say(&LOGOUT)) && said.next().is_none()
    };
    const THINGS: [&str; 8] = ["session", "sessions", "login", "auth", "signin", "authentication", "current", "me"];
    let session = || *method == Method::DELETE && request.place.ends_with_one_of(&THINGS) && request.place.say(&LOGIN);
    let taken_back =
        || request.says(&REVOKE) && request.place.say(&LOGIN) && request.with(Role::Token).next().is_some();
    lone_name() || session() || taken_back()
}

fn without_password(request: &Request<'_>, method: &Method, known: Known) -> Intent {
    let who = request.identifier().is_some();
    let code = request.fields.iter().any(|f| f.role == Role::Code);
    if *method == Method::DELETE {
        return if known.session && request.hints(&SECOND_FACTOR) { Intent::SecondFactorOff } else { Intent::Nothing };
    }
    if request.says(&REFRESH) && !request.says(&RESET) {
        return Intent::Nothing;
    }
    if code && !(who && request.hints(&RESET)) {
        if !known.session {
            return if known.stage.is_some() || request.hints(&SECOND_FACTOR) { Intent::Code } else { Intent::Nothing };
        }
        let off = request.says(&OFF);
        return match request.hints(&SECOND_FACTOR) {
            true if off => Intent::SecondFactorOff,
            true if request.fields.iter().any(|f| f.role == Role::Code && !f.value.is_empty()) => {
                Intent::SecondFactorOn
            }
            _ => Intent::Nothing,
        };
    }
    if known.session && request.hints(&SECOND_FACTOR) && request.says(&OFF) {
        return Intent::SecondFactorOff;
    }
    // The words of a reset, or a password's word where something is asked for.
    let about_reset = request.says(&RESET) || (request.says(&PASSWORD) && (request.says(&SEND) || !known.session));
    if about_reset && (who || (known.session && request.action.say(&RESET))) {
        return Intent::ResetRequest;
    }
    if who && request.says(&SIGN_UP) {
        return if known.session { Intent::MakeUser } else { Intent::SignUp };
    }
    if known.session && (request.hints(&KEY) || (*method == Method::POST && makes_a_key(request))) {
        return Intent::KeyMade;
    }
    if who && !known.session && (request.says(&LOGIN) || known.login_path) {
        return Intent::Identify;
    }
    let only_email = || {
        let mut said = request.fields.iter().filter(|f| f.role != Role::Machinery && !f.value.is_empty());
        said.next().is_some_and(|f| f.role == Role::Identifier && Words::of(&f.name).say(&EMAIL))
            && said.next().is_none()
    };
    if known.session && (*method == Method::PATCH || *method == Method::PUT) && only_email() {
        return Intent::EmailChange;
    }
    Intent::Nothing
}

/// Places of keys that may be others: the answer has to hand one out.
fn makes_a_key(request: &Request<'_>) -> bool {
    let keys = request.hints(&KEYS) && (request.place.ends_with_one_of(&["keys"]) || request.action.say(&KEYS));
    let says = |words: &Words| words.say(&MAKE) && words.say(&ONE_KEY);
    (keys || says(&request.place) || says(&request.action)) && !request.hints(&OTHER_KEYS)
}

fn with_password(request: &Request<'_>, method: &Method, known: Known) -> Intent {
    let old = request.with(Role::Old).next().is_some();
    let again = request.with(Role::Again).next().is_some();
    let new = request.with(Role::New).next().is_some();
    let plain = request.with(Role::Password).count();
    let fresh = new || again;
    let who = request.identifier().is_some();
    let code = request.with(Role::Code).next().is_some();
    let edits = *method == Method::PATCH || *method == Method::PUT;
    let makes = request.says(&SIGN_UP) || request.says(&MAKE);
    if request.says(&REFRESH) && !request.says(&LOGIN) && !who {
        return Intent::Nothing;
    }
    // Without a session there is nobody whose password the place could mean.
    if request.passwords_by_place && !known.session {
        return Intent::Nothing;
    }
    let another = known.session && known.names_another && !edits && !request.says(&PASSWORD) && !request.says(&RESET);
    if old {
        return match () {
            // An old password alone confirms something else.
            () if !fresh && plain == 0 => Intent::Nothing,
            // Beside somebody else's name and new password it proves who asks for it.
            () if another && (makes || is_of_people(request)) => Intent::MakeUser,
            () if another => Intent::Nothing,
            () => Intent::PasswordChange,
        };
    }
    if known.session {
        if fresh {
            return match () {
                () if edits => Intent::PasswordChange,
                () if another && is_of_people(request) => Intent::MakeUser,
                () if request.action.say(&RESET) && !request.action.say(&CHANGE_ONLY) => Intent::ResetComplete,
                () if makes && !request.says(&RESET) => Intent::MakeUser,
                () if request.has_token() && request.says(&RESET) && !who => Intent::ResetComplete,
                () => Intent::PasswordChange,
            };
        }
        if plain == 0 {
            return Intent::Nothing;
        }
        if !who {
            let updates = edits || (request.shape == Shape::GraphQl && request.action.say(&CHANGE));
            return match () {
                () if request.has_token() && request.says(&RESET) => Intent::ResetComplete,
                () if updates && !request.says(&AGAIN_IN_SESSION) => Intent::PasswordChange,
                // "Confirm your password" inside a session.
                () => Intent::Nothing,
            };
        }
        return match () {
            () if request.says(&LOGIN) && !makes => login(code),
            () if edits => Intent::PasswordChange,
            () if makes || request.place.last().is_some_and(|l| l.ends_with('s')) => Intent::MakeUser,
            () if known.login_path => login(code),
            () => Intent::Nothing,
        };
    }
    if known.stage == Some(Stage::NewPassword) && fresh {
        return Intent::NewPassword;
    }
    if makes && request.has_token() && !request.says(&RESET) && !who {
        return Intent::SignUp;
    }
    if fresh || plain == 0 {
        return match () {
            () if request.says(&SIGN_UP) => Intent::SignUp,
            () if request.says(&RESET)
                || request.link_of_reset()
                || (request.has_token() && request.hints(&PASSWORD)) =>
            {
                Intent::ResetComplete
            }
            () if who => Intent::SignUp,
            () if known.stage == Some(Stage::Reset) => Intent::ResetComplete,
            () if request.has_token() || request.says(&PASSWORD) => Intent::ResetComplete,
            () => Intent::Nothing,
        };
    }
    let login_words = request.says(&LOGIN) || known.login_path;
    match () {
        () if request.says(&SIGN_UP) => Intent::SignUp,
        () if request.says(&RESET) && (request.has_token() || !who) => Intent::ResetComplete,
        () if request.has_token() && request.says(&PASSWORD) && !login_words => Intent::ResetComplete,
        () if makes && !login_words && who => Intent::SignUp,
        () if who => login(code),
        () if known.stage == Some(Stage::Identified) => login(code),
        () if known.stage == Some(Stage::Reset) && !login_words => Intent::ResetComplete,
        // One password and nobody's name: a place that says it is a login, and nothing beside it.
        () if login_words
            && !request.says(&AGAIN_IN_SESSION)
            && request.fields.iter().filter(|f| !matches!(f.role, Role::Machinery | Role::Token)).count() <= 2 =>
        {
            login(code)
        }
        () => Intent::Nothing,
    }
}

/// True where the path ends in a list of people: what is posted there is one more.
fn is_of_people(request: &Request<'_>) -> bool {
    const LISTS: [&str; 8] = ["users", "accounts", "members", "people", "employees", "customers", "students", "admins"];
    request.place.last().is_some_and(|last| LISTS.contains(&last))
}

fn login(code: bool) -> Intent {
    if code { Intent::LoginWithCode } else { Intent::Login }
}
