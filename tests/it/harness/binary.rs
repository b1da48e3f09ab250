//! The real program as a process: its exit codes, what it prints, its signals. Kills what it
//! started, and nothing else, when a test ends early.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use super::{PATIENCE, eventually};

/// The program with arguments, in a folder, without the variables of whoever runs the tests.
pub fn authtap(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_authtap"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env("NO_COLOR", "1");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AUTHTAP_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut child =
        authtap(folder, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.read_to_end(&mut text).map(|_| text)
    });
    let complaints = std::thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).map(|_| text)
    });
    let mut running = Running { child, lines: sync_channel(0).1 };
    let status = running.await_end();
    let stdout = reader.join().expect("no panic").expect("standard output");
    let stderr = complaints.join().expect("no panic").expect("standard error");
    Output { status, stdout, stderr }
}

/// A running `authtap run`.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts the proxy on free ports; answers when both listeners are there.
    pub fn start(folder: &Path, arguments: &[&str]) -> (Running, SocketAddr, SocketAddr) {
        let mut command = authtap(folder, &["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let running = Running::spawn(command.args(arguments));
        let address = running.await_address("listening");
        let admin = running.await_address("admin listening");
        (running, address, admin)
    }

    /// The same, and nobody reads its log from then on.
    pub fn start_unread(folder: &Path, arguments: &[&str]) -> (Running, SocketAddr, SocketAddr) {
        let mut command = authtap(folder, &["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let running = Running::spawn_reading(command.args(arguments), 0);
        let address = running.await_address("listening");
        let admin = running.await_address("admin listening");
        (running, address, admin)
    }

    /// Starts a command whose log will be that of the proxy.
    pub fn spawn(command: &mut Command) -> Running {
        // Wide enough for whatever a test makes it say; more would only stop its log.
        Running::spawn_reading(command, 10_000)
    }

    fn spawn_reading(command: &mut Command, ahead: usize) -> Running {
        let mut child = command
            .env("AUTHTAP_LOG_FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = sync_channel(ahead);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }

    /// The address in the next line of its log with this message.
    pub fn await_address(&self, message: &str) -> SocketAddr {
        let line = self.await_line(&format!("\"message\":\"{message}\""));
        let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
        let address = line.pointer("/fields/address").or(line.get("address")).and_then(|a| a.as_str());
        address.and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("no address in {line}"))
    }

    /// The next line of its log that has this in it.
    pub fn await_line(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("waiting for {text:?}: {e}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.is_ok_and(|s| s.success()), "SIG{name} was not sent");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("/proc");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB")
    }

    /// Waits for its end.
    pub fn await_end(&mut self) -> std::process::ExitStatus {
        let mut ended = None;
        eventually("the program ends", || {
            ended = self.child.try_wait().expect("its state");
            ended.is_some()
        });
        ended.expect("it ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already: nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Of a test that failed, its log is what tells why.
        if std::thread::panicking() {
            let log: String = self.lines.try_iter().map(|line| line + "\n").collect();
            super::tell(&log);
        }
    }
}
