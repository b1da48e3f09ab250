//! Real peers for tests, under `AUTHTAP_TEST_SERVICES=1`: there a missing one is a failure,
//! elsewhere the test says that it did not run. Each is started on a free port and ended by its id.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use crate::ports::free_port;
use crate::spool::Stored;
use crate::spool::sample::stored;

/// The longest that anything is waited for.
const DEADLINE: Duration = Duration::from_secs(60);

/// True if tests against real peers are to run.
pub(crate) fn wanted() -> bool {
    switched_on("AUTHTAP_TEST_SERVICES")
}

/// The same for peers that are large, under `AUTHTAP_TEST_SERVICES_SLOW=1`: `.ci/run slow` has them.
pub(crate) fn wanted_large() -> bool {
    switched_on("AUTHTAP_TEST_SERVICES_SLOW")
}

fn switched_on(variable: &str) -> bool {
    let on = std::env::var_os(variable).is_some_and(|on| on == "1");
    if !on {
        eprintln!("not run: {variable}=1 switches it on");
    }
    on
}

/// A peer; ended with the test.
pub(crate) struct Service(Child);

impl Service {
    /// Starts it. `package` says where it comes from if it is missing.
    pub fn start(command: &mut Command, package: &str) -> Service {
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Service(started.unwrap_or_else(|e| panic!("{:?} is missing ({package}): {e}", command.get_program())))
    }

    /// The same, and waits until it answers at this port.
    pub fn at(port: u16, command: &mut Command, package: &str) -> Service {
        let mut service = Service::start(command, package);
        until("the service to answer", || {
            assert!(matches!(service.0.try_wait(), Ok(None)), "{:?} ended at once", command.get_program());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        service
    }

    /// Ends it now; what is behind features needs it.
    #[allow(dead_code)]
    pub fn end(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Events whose texts try to break whatever they are written into.
pub(crate) fn batch(count: u64) -> Vec<Stored> {
    let users = ["alice", "o\"reilly\\", "b\u{e9}la|=]", "{type} * > # '; --"];
    (1..=count).map(|seq| stored(seq, users[seq as usize % users.len()])).collect()
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program()));
    assert!(output.status.success(), "{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of a batch, in order.
pub(crate) fn lines(batch: &[Stored]) -> Vec<String> {
    batch.iter().map(|one| one.line.to_string()).collect()
}
