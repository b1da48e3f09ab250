//! Real peers for tests, under `AUTHTAP_TEST_SERVICES=1`: there a missing one is a failure,
//! elsewhere the test says that it did not run. Each is started on a free port and ended by its id.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

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

/// A port that was free a moment ago, for TCP and UDP. Below those that the system gives out by
/// itself, so that no connection of another test takes it in between.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let free =
        |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    // Test programs that run at one time begin at different places.
    let begin = std::process::id() as u16;
    let ports = || 12_000 + begin.wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 20_000;
    std::iter::repeat_with(ports).take(20_000).find(free).expect("a free port")
}

/// An address that nobody listens on. A socket that stays bound and never listens holds it for as long
/// as the tests run: a port that was only free a moment ago is soon the port of another test.
pub(crate) fn nobody() -> SocketAddr {
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("its address").as_socket().expect("of the internet");
    HELD.lock().expect("no panic under the lock").push(socket);
    address
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
