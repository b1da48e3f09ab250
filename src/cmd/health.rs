//! `authtap health`: is the process on this machine alive? For a container's health check, where
//! there is neither a shell nor an HTTP client.
//!
//! Asks `/healthz` of the admin listener, which needs no token. It must never hang: every step is
//! bounded by the same short time, and no more than the status line is looked at.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{DONE, FAILED, USAGE, complain};
use crate::cli::Health;
use crate::config::settings::parse_listen;

/// How long connecting, sending and each read may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The length of `HTTP/1.1 200`, in bytes; the rest of the answer does not matter.
const STATUS: usize = 12;

/// Exit code 0 if the process answers that it is alive, else 1 and a line on standard error.
pub fn run(options: &Health) -> u8 {
    let address = match parse_listen(&options.admin) {
        Ok(address) => reachable(address),
        Err(why) => {
            complain(&format!("{why}; `health` asks the admin listener, so it cannot be off"));
            return USAGE;
        }
    };
    match ask(address) {
        Ok(true) => DONE,
        Ok(false) => {
            complain(&format!("{address} answers, but not as a healthy authtap does"));
            FAILED
        }
        Err(error) => {
            complain(&format!("no answer from {address}: {error}; is authtap running, with this admin address?"));
            FAILED
        }
    }
}

/// "Every address" is one to listen on, not one to ask.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut status = [0; STATUS];
    match stream.read_exact(&mut status) {
        Ok(()) => Ok(&status == b"HTTP/1.1 200"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::ports::nobody;

    /// The exit code against a server that answers every request with `answer`.
    fn against(answer: &'static [u8]) -> u8 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer).unwrap();
            String::from_utf8(request).unwrap()
        });
        let code = run(&Health { admin });
        assert!(server.join().unwrap().starts_with("GET /healthz HTTP/1.1\r\n"));
        code
    }

    #[test]
    fn a_live_process_is_0_and_anything_else_that_answers_is_1() {
        assert_eq!(against(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), DONE);
        assert_eq!(against(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"), FAILED);
        assert_eq!(against(b"HTTP/1.1"), FAILED);
    }

    #[test]
    fn nobody_there_is_1_and_off_is_wrong_usage() {
        assert_eq!(run(&Health { admin: nobody().to_string() }), FAILED);
        assert_eq!(run(&Health { admin: "off".into() }), USAGE);
    }

    #[test]
    fn a_listener_on_every_address_is_asked_over_loopback() {
        assert_eq!(reachable("0.0.0.0:9977".parse().unwrap()).to_string(), "127.0.0.1:9977");
        assert_eq!(reachable("[::]:9977".parse().unwrap()).to_string(), "[::1]:9977");
        assert_eq!(reachable("192.0.2.1:1".parse().unwrap()).to_string(), "192.0.2.1:1");
    }
}
