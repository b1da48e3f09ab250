//! HTTP/1.1 messages as bytes: read off a socket without judging, so that tests compare what was
//! really sent. Never normalises: names keep their case, values their bytes, fields their order.

use std::io::{self, Read};

/// A head with its body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Request or status line, without its line end.
    pub start: Vec<u8>,
    /// Fields in order, exactly as they stood (outer blanks of the value removed).
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body without its chunks.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// False if the sender closed before the end of the body.
    pub whole: bool,
}

impl Message {
    /// The start line as text.
    pub fn start(&self) -> String {
        String::from_utf8_lossy(&self.start).into_owned()
    }

    /// The status of an answer; 0 if it has none.
    pub fn status(&self) -> u16 {
        self.start().split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// The target of a request.
    pub fn target(&self) -> String {
        self.start().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<String> {
        let found = self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, v)| String::from_utf8_lossy(v).into_owned())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The fields of a name together, in order, without those in `less` (lower case), sorted by name.
    pub fn fields_less(&self, less: &[&str]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = self.fields.clone();
        fields.retain(|(name, _)| !less.iter().any(|l| name.eq_ignore_ascii_case(l.as_bytes())));
        // A stable sort: what has one name keeps its order, whatever its case.
        fields.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        fields
    }
}

/// Bytes off a socket, with what was read too far.
pub struct Wire<R> {
    /// The socket.
    pub inner: R,
    buffer: Vec<u8>,
}

impl<R: Read> Wire<R> {
    pub fn new(inner: R) -> Wire<R> {
        Wire { inner, buffer: Vec::new() }
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 64 << 10];
        let n = self.inner.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// A head; `None` if the sender closed before one began.
    pub fn head(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(Some(parse_head(&head[..end])));
            }
            if self.more()? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Reads the body of a request, as its head announces it.
    pub fn request_body(&mut self, message: &mut Message) -> io::Result<()> {
        self.body(message, Some(0))
    }

    /// Reads the body of the answer to a `method` request; without an announcement, to the end.
    pub fn response_body(&mut self, method: &str, message: &mut Message) -> io::Result<()> {
        let status = message.status();
        if method == "HEAD" || status / 100 == 1 || status == 204 || status == 304 {
            message.whole = true;
            return Ok(());
        }
        self.body(message, None)
    }

    fn body(&mut self, message: &mut Message, unannounced: Option<usize>) -> io::Result<()> {
        let chunked = message.field("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        let length = message.field("content-length").and_then(|v| v.parse().ok()).or(unannounced);
        message.whole = if chunked {
            self.chunks(message)?
        } else if let Some(length) = length {
            while self.buffer.len() < length && self.more()? > 0 {}
            let there = self.buffer.len().min(length);
            message.body = self.buffer.drain(..there).collect();
            there == length
        } else {
            while self.more()? > 0 {}
            message.body = std::mem::take(&mut self.buffer);
            true
        };
        Ok(())
    }

    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let mut line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(Some(line));
            }
            if self.more()? == 0 {
                return Ok(None);
            }
        }
    }

    fn chunks(&mut self, message: &mut Message) -> io::Result<bool> {
        loop {
            let Some(line) = self.line()? else { return Ok(false) };
            let digits = String::from_utf8_lossy(&line).split(';').next().unwrap_or_default().trim().to_owned();
            let size = usize::from_str_radix(&digits, 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            while self.buffer.len() < size + 2 {
                if self.more()? == 0 {
                    message.body.append(&mut self.buffer);
                    return Ok(false);
                }
            }
            message.body.extend(self.buffer.drain(..size));
            self.buffer.drain(..2);
        }
        loop {
            match self.line()? {
                None => return Ok(false),
                Some(line) if line.is_empty() => return Ok(true),
                Some(line) => message.trailers.push(parse_field(&line)),
            }
        }
    }

    /// Raw bytes of a body, as they come; 0 at the end. For bodies that no memory should hold.
    pub fn some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            return self.inner.read(into);
        }
        let n = self.buffer.len().min(into.len());
        into[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer.drain(..n);
        Ok(n)
    }
}

fn parse_head(head: &[u8]) -> Message {
    let mut lines = split_lines(head).into_iter();
    let start = lines.next().unwrap_or_default().to_vec();
    Message { start, fields: lines.map(parse_field).collect(), ..Message::default() }
}

fn split_lines(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        lines.push(&bytes[..end]);
        bytes = &bytes[end + 2..];
    }
    lines.push(bytes);
    lines
}

fn parse_field(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
    let value = line.get(colon + 1..).unwrap_or_default();
    (line[..colon].to_vec(), value.trim_ascii().to_vec())
}
