use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

fn parsed(variables: &[(&str, &str)]) -> Result<Vec<String>, ActivationError> {
    let of = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    parse(of, 42)
}

#[test]
fn descriptors_are_ours_only_if_the_process_id_says_so() {
    for variables in [
        &[][..],
        &[("LISTEN_FDS", "1")],
        &[("LISTEN_PID", "41"), ("LISTEN_FDS", "1")],
        &[("LISTEN_PID", "41"), ("LISTEN_FDS", "nonsense")],
        &[("LISTEN_PID", "42")],
        &[("LISTEN_PID", "42"), ("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")],
    ] {
        assert!(parsed(variables).is_ok_and(|names| names.is_empty()), "{variables:?}");
    }
}

#[test]
fn names_are_given_in_order() {
    let names = |variables: &[(&str, &str)]| parsed(variables).expect("reads");
    assert_eq!(names(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2")]), ["unknown", "unknown"]);
    let named = [("LISTEN_PID", "42"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "http::admin.socket")];
    assert_eq!(names(&named), ["http", "", "admin.socket"]);
}

#[test]
fn what_no_service_manager_writes_is_an_error() {
    for (variable, value) in [
        ("LISTEN_PID", "-42"),
        ("LISTEN_PID", " 42"),
        ("LISTEN_PID", ""),
        ("LISTEN_FDS", "+1"),
        ("LISTEN_FDS", "65"),
        ("LISTEN_FDS", "99999999999999999999999"),
        ("LISTEN_FDNAMES", "one:two"),
        ("LISTEN_FDNAMES", "line\nbreak"),
    ] {
        let mut variables = vec![(variable, value)];
        variables.extend([("LISTEN_PID", "42"), ("LISTEN_FDS", "1")]);
        let error = parsed(&variables).expect_err(value).to_string();
        assert!(error.contains(variable), "{error}");
    }
}

/// Set in the processes that [`started`] starts: the tests that run there mean nothing elsewhere.
const STARTED: &str = "AUTHTAP_TEST_STARTED";

fn is_started() -> bool {
    std::env::var_os(STARTED).is_some()
}

/// Runs one of the tests below in a process of its own, as a service manager would start it: with
/// descriptor 3 and the variables. Only a shell can say the process id before it is known.
fn started(test: &str, socket: impl Into<OwnedFd>, variables: &[(&str, &str)]) -> std::process::Child {
    let itself = std::env::current_exe().expect("a path");
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    Command::new("sh")
        .args(["-c", script])
        .arg(itself)
        .args(["--exact", &format!("socket_activation::tests::{test}"), "--ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .env(STARTED, "1")
        .env_remove("LISTEN_FDS_FIRST_FD")
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell")
}

/// The test in the other process has run and passed.
fn passed(child: std::process::Child) {
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "the other half of a_socket_that_was_handed_over_is_served"]
fn serves_one_connection() {
    if !is_started() {
        return;
    }
    let mut taken = take().expect("taken");
    let Inherited { name, address, listener } = taken.remove(0);
    assert!(taken.is_empty());
    assert_eq!((name.as_str(), listener.local_addr().expect("bound")), ("http", address));
    assert!(take().is_ok_and(|again| again.is_empty()), "a second time there is nothing");
    let shared = share(listener, 3).expect("shared");
    assert_eq!(shared.len(), 3);
    let last = shared.last().expect("three");
    last.set_nonblocking(false).expect("set");
    let (mut stream, _) = last.accept().expect("a client");
    stream.write_all(b"hello").expect("written");
}

#[test]
fn a_socket_that_was_handed_over_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let mut child = started("serves_one_connection", listener, &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "http")]);
    let mut client = TcpStream::connect(address).expect("the socket listens before the program does");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let mut said = String::new();
    let read = client.read_to_string(&mut said);
    if read.is_err() {
        child.kill().expect("killed");
    }
    passed(child);
    assert!(read.is_ok() && said == "hello");
}

#[test]
#[ignore = "the other half of what_is_no_listener_is_refused_by_name"]
fn refuses_what_is_no_listener() {
    if !is_started() {
        return;
    }
    let error = take().expect_err("no listener");
    assert!(matches!(&error, ActivationError::Socket { index: 0, .. }));
    assert!(error.to_string().contains("`web`"), "{error}");
}

#[test]
fn what_is_no_listener_is_refused_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let connection = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (datagram, _other) = UnixDatagram::pair().expect("a pair");
    let file = std::fs::File::open("/dev/null").expect("opens");
    for socket in [OwnedFd::from(connection), datagram.into(), file.into()] {
        let child = started("refuses_what_is_no_listener", socket, &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "web")]);
        passed(child);
    }
}

#[test]
#[ignore = "the other half of the_service_manager_is_told"]
fn tells_the_service_manager() {
    if !is_started() {
        return;
    }
    for state in [State::Ready, State::Reloading, State::Ready, State::Stopping] {
        notify(state);
    }
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let file = std::fs::File::open("/dev/null").expect("opens");
    let child = started("tells_the_service_manager", file, &[("NOTIFY_SOCKET", path.to_str().expect("text"))]);
    passed(child);
    let mut buffer = [0; 256];
    let mut next = || {
        let n = socket.recv(&mut buffer).expect("told");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert_eq!(next(), "READY=1\n");
    let reloading = next();
    let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.trim().parse::<u64>().ok());
    assert!(usec.is_some_and(|usec| usec > 0), "{reloading}");
    assert_eq!(next(), "READY=1\n");
    assert_eq!(next(), "STOPPING=1\n");
}

#[test]
fn without_a_service_manager_nothing_is_told_and_nothing_fails() {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        notify(State::Ready);
    }
}
