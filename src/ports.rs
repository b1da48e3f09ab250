//! Addresses for tests, the unit tests here and the integration tests, which include this file.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use socket2::{Domain, Socket, Type};

/// A port that was free a moment ago, for TCP and UDP, for a program that cannot choose one by itself. Below
/// those that the system gives out by itself, so that no connection of another test takes it in between.
pub fn free_port() -> u16 {
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
pub fn nobody() -> SocketAddr {
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("its address").as_socket().expect("of the internet");
    HELD.lock().expect("no panic under the lock").push(socket);
    address
}
