//! What the tests stand on: an application, a client, and authtap between them. Everything listens
//! on port 0 and waits by notification; a wait that cannot be one asks again until a deadline.

pub mod binary;
pub mod certificate;
pub mod client;
pub mod faulty;
pub mod h2;
pub mod message;
pub mod origin;
#[path = "../../../src/ports.rs"]
pub mod ports;
pub mod proxy;

use std::time::{Duration, Instant};

pub use client::{Client, ask, form, get, post};
pub use message::Message;
pub use origin::{Gate, Origin, answer};
pub use proxy::Proxy;

/// The longest that any single wait takes before the test fails. Generous: a healthy run never
/// comes near it, and a busy machine must not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until the answer is yes, or the patience is over. For states that nobody announces: files,
/// processes, other people's ports.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    let patience = if slow() { PATIENCE * 15 } else { PATIENCE };
    while !is_so() {
        assert!(started.elapsed() < patience, "waited in vain: {what}");
        // Only gives the processor away between two looks.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether the long runs are wanted, which nobody waits for in the normal one.
pub fn slow() -> bool {
    std::env::var_os("AUTHTAP_SLOW").is_some_and(|v| v == "1")
}

/// Prints the figures of a long run, for whoever started it.
pub fn tell(text: &str) {
    use std::io::Write;
    // Nobody there to read it: then it was not wanted.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Routes about a login form, as many tests need them.
pub const LOGIN: &str = r#"
session: { cookies: [SID] }
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: form.username }
    method: password
    rules:
      - { name: second-factor, when: { status: 302, location: { path: /mfa } }, outcome: challenge }
      - { name: seen-before, when: { status: 302, location: { path: /again } }, outcome: ignore }
      - { name: signed-in, when: { status: 302, location: { path: /home } }, outcome: success }
      - { name: wrong, when: { status: 200, body: { contains: wrong password } }, outcome: failure, reason: invalid_credentials }
    default: unknown
    emit: { success: user.login.success, failure: user.login.failed }
"#;

/// The text at a pointer of an event; empty if there is none.
pub fn at<'e>(event: &'e serde_json::Value, pointer: &str) -> &'e str {
    event.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default()
}
