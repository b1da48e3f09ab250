//! A client that sends exact bytes and shows exact bytes. Must never retry and never reconnect.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;
use super::message::{Message, Wire};

/// One connection.
pub struct Client {
    wire: Wire<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).expect("a connection")
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { wire: Wire::new(stream) })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.try_send(bytes).expect("the other side takes it");
        self
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.inner.write_all(bytes.as_ref())
    }

    /// The answer to a `method` request.
    pub fn answer(&mut self, method: &str) -> Message {
        self.try_answer(method).expect("an answer").expect("an answer before the end")
    }

    /// The same; `None` if the connection ended first.
    pub fn try_answer(&mut self, method: &str) -> io::Result<Option<Message>> {
        let Some(mut message) = self.wire.head()? else { return Ok(None) };
        self.wire.response_body(method, &mut message)?;
        Ok(Some(message))
    }

    /// The head of an answer only.
    pub fn head(&mut self) -> Message {
        self.wire.head().expect("a head").expect("a head before the end")
    }

    /// Some bytes of a body; 0 at its end.
    pub fn some(&mut self, into: &mut [u8]) -> usize {
        self.wire.some(into).expect("more of the body")
    }

    /// True if the other side closes without another byte.
    pub fn ends(&mut self) -> bool {
        match self.wire.some(&mut [0; 1]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// A second handle on the connection, to write while this one reads.
    pub fn writer(&self) -> TcpStream {
        self.wire.inner.try_clone().expect("a second handle")
    }

    /// Ends its own sending.
    pub fn half_close(&mut self) {
        self.wire.inner.shutdown(Shutdown::Write).expect("a half close");
    }
}

/// One request on a connection of its own. The bytes should ask for `Connection: close`, or the
/// answer have a length.
pub fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    let request = request.as_ref();
    let method: String = request.iter().take_while(|b| **b != b' ').map(|b| char::from(*b)).collect();
    Client::connect(address).send(request).answer(&method)
}

/// `GET target`.
pub fn get(address: SocketAddr, target: &str) -> Message {
    ask(address, format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
}

/// A POST with a body of announced length. `fields` are whole lines with their ends.
pub fn post(target: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: app.example.test\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A form as a browser posts it.
pub fn form(target: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    post(target, "Content-Type: application/x-www-form-urlencoded\r\n", body)
}
