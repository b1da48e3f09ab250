//! An application on port 0 that does exactly what a test says, byte by byte, and remembers every
//! request as it came. Must never repair what it gets. It ends with the test process: its threads
//! wait in `accept` and hold nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::message::{Message, Wire};

/// A scripted application.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

/// One connection to the application, from its side.
pub struct Conn {
    wire: Wire<TcpStream>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Message>>,
    heads: Mutex<usize>,
    changed: Condvar,
}

impl Origin {
    /// Serves each connection with `serve`, on a thread of its own.
    pub fn raw(serve: impl Fn(&mut Conn) + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Seen::default());
        let serve = Arc::new(serve);
        let shared = seen.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
                let (serve, seen) = (serve.clone(), shared.clone());
                std::thread::spawn(move || serve(&mut Conn { wire: Wire::new(stream), seen }));
            }
        });
        Origin { address, seen }
    }

    /// Answers each request with the bytes that `answer` gives, and keeps the connection.
    pub fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::raw(move |conn| {
            while let Some(request) = conn.request() {
                if request.whole && !conn.send(&answer(&request)) {
                    return;
                }
            }
        })
    }

    /// The same, remembering none of them: for loads that would fill the memory.
    pub fn forgetting(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::raw(move |conn| {
            while let Ok(Some(mut request)) = conn.wire.head() {
                if conn.wire.request_body(&mut request).is_err() || !conn.send(&answer(&request)) {
                    return;
                }
            }
        })
    }

    /// Every request so far, in the order in which they were complete (or broke off).
    pub fn requests(&self) -> Vec<Message> {
        self.seen.requests.lock().expect("no panic under the lock").clone()
    }

    /// Waits until the heads of `count` requests have arrived.
    pub fn await_heads(&self, count: usize) {
        let heads = self.seen.heads.lock().expect("no panic under the lock");
        let (heads, _) =
            self.seen.changed.wait_timeout_while(heads, PATIENCE, |n| *n < count).expect("no panic under the lock");
        assert!(*heads >= count, "{} of {count} requests reached the application", *heads);
    }
}

impl Conn {
    /// The next request with its body; `None` at the end of the connection.
    pub fn request(&mut self) -> Option<Message> {
        let mut request = self.head()?;
        // What came before a failure is recorded too.
        let _ = self.wire.request_body(&mut request);
        self.seen.requests.lock().expect("no panic under the lock").push(request.clone());
        Some(request)
    }

    /// The next request's head only.
    pub fn head(&mut self) -> Option<Message> {
        let head = self.wire.head().ok().flatten()?;
        *self.seen.heads.lock().expect("no panic under the lock") += 1;
        self.seen.changed.notify_all();
        Some(head)
    }

    /// Reads the body of a request whose head was read; it is not whole if that breaks off.
    pub fn body(&mut self, request: &mut Message) {
        let _ = self.wire.request_body(request);
    }

    /// Sends bytes as they are; false if the other side is gone.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.wire.inner.write_all(bytes).is_ok()
    }

    /// Some bytes of a body; 0 at its end.
    pub fn some(&mut self, into: &mut [u8]) -> usize {
        self.wire.some(into).unwrap_or(0)
    }

    /// Waits until the other side has closed, for at most the usual patience.
    pub fn await_end(&mut self) -> bool {
        let started = Instant::now();
        let mut sink = [0; 4096];
        while started.elapsed() < PATIENCE {
            match self.wire.inner.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
        false
    }
}

/// A door that a test opens for whoever waits behind it.
#[derive(Clone, Default)]
pub struct Gate {
    state: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    pub fn open(&self) {
        *self.state.0.lock().expect("no panic under the lock") = true;
        self.state.1.notify_all();
    }

    /// Waits until it is open, or for as long as a test may take at most.
    pub fn pass(&self) {
        let open = self.state.0.lock().expect("no panic under the lock");
        let _ = self.state.1.wait_timeout_while(open, PATIENCE + Duration::from_secs(5), |open| !*open);
    }
}

/// An answer with its length announced.
pub fn answer(status: &str, fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for field in fields {
        bytes.extend_from_slice(format!("{field}\r\n").as_bytes());
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}
