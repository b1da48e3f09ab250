//! What a TLS client offers in its first message (RFC 8446 section 4.1.2), and the JA4 fingerprint
//! of it.
//!
//! The bytes are a stranger's and not yet authenticated: reading them must never panic, never take
//! more than linear time and never hold more than [`MAX_HELLO_BYTES`] twice over. Reading is for
//! the fingerprint only; whether a connection is accepted is for rustls to say, so a hello that
//! cannot be read here costs a fingerprint and nothing else.
//!
//! JA4 (TLS client) follows FoxIO's public technical details, which are under the BSD 3-Clause
//! licence. The other methods of that family (JA4S, JA4H and so on) are under another licence and
//! are deliberately not here.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The largest hello that is read, with the headers of its records.
pub const MAX_HELLO_BYTES: usize = 16 << 10;

/// The largest payload of a record (RFC 8446 section 5.1).
const MAX_RECORD_BYTES: usize = 1 << 14;
/// The record type `handshake`.
const HANDSHAKE: u8 = 22;
/// The handshake type `client_hello`.
const CLIENT_HELLO: u8 = 1;

const SERVER_NAME: u16 = 0x0000;
const SIGNATURE_ALGORITHMS: u16 = 0x000d;
const ALPN: u16 = 0x0010;
const SUPPORTED_VERSIONS: u16 = 0x002b;

const SHORT: HelloError = HelloError::Malformed("too short");

/// Why there is no hello in these bytes. Says nothing of their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The bytes are something other than TLS, or another message of it.
    #[error("not a TLS client hello")]
    NotHello,
    /// The hello goes on after these bytes.
    #[error("the client hello is not complete")]
    Incomplete,
    /// The hello says that it is larger than [`MAX_HELLO_BYTES`].
    #[error("the client hello is larger than 16 KiB")]
    TooLong,
    /// A length in it does not fit.
    #[error("the client hello is malformed: {0}")]
    Malformed(&'static str),
}

/// What a client offered, in its order, reserved (GREASE) values included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The version in the hello itself; TLS 1.3 says 0x0303 here.
    pub legacy_version: u16,
    /// Cipher suites.
    pub cipher_suites: Vec<u16>,
    /// Types of extensions.
    pub extensions: Vec<u16>,
    /// `supported_versions` (RFC 8446 section 4.2.1).
    pub supported_versions: Vec<u16>,
    /// `signature_algorithms` (RFC 8446 section 4.2.3).
    pub signature_algorithms: Vec<u16>,
    /// The first protocol of `application_layer_protocol_negotiation` (RFC 7301 section 3.1) that
    /// is not a reserved one; `None` without the extension or a protocol in it.
    pub alpn: Option<Vec<u8>>,
}

/// Reads the hello at the beginning of what a client sent; what follows it is not looked at.
///
/// # Errors
/// The bytes do not begin with a whole and well-formed hello.
pub fn parse(records: &[u8]) -> Result<ClientHello, HelloError> {
    let message = message(records)?;
    let mut body = Bytes(&message);
    let mut hello = ClientHello { legacy_version: body.u16().ok_or(SHORT)?, ..ClientHello::default() };
    body.take(32).ok_or(SHORT)?;
    if body.list8().ok_or(SHORT)?.0.len() > 32 {
        return Err(HelloError::Malformed("session id"));
    }
    hello.cipher_suites = body.list16().and_then(Bytes::u16s).ok_or(HelloError::Malformed("cipher suites"))?;
    if body.list8().ok_or(SHORT)?.0.is_empty() {
        return Err(HelloError::Malformed("compression methods"));
    }
    // Before TLS 1.3 a hello could end here.
    if body.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = body.list16().ok_or(HelloError::Malformed("extensions"))?;
    if !body.0.is_empty() {
        return Err(HelloError::Malformed("bytes after the extensions"));
    }
    while !extensions.0.is_empty() {
        let kind = extensions.u16().ok_or(HelloError::Malformed("extension"))?;
        let value = extensions.list16().ok_or(HelloError::Malformed("extension"))?;
        hello.read_extension(kind, value)?;
        hello.extensions.push(kind);
    }
    Ok(hello)
}

impl ClientHello {
    fn read_extension(&mut self, kind: u16, mut value: Bytes<'_>) -> Result<(), HelloError> {
        if !matches!(kind, SIGNATURE_ALGORITHMS | ALPN | SUPPORTED_VERSIONS) {
            return Ok(());
        }
        // RFC 8446 section 4.2: a type stands once. Searching is not quadratic: the second ends it.
        if self.extensions.contains(&kind) {
            return Err(HelloError::Malformed("an extension stands twice"));
        }
        let malformed = HelloError::Malformed("content of an extension");
        match kind {
            SIGNATURE_ALGORITHMS => {
                self.signature_algorithms = value.list16().and_then(Bytes::u16s).ok_or(malformed)?;
            }
            SUPPORTED_VERSIONS => {
                self.supported_versions = value.list8().and_then(Bytes::u16s).ok_or(malformed)?;
            }
            _ => {
                let mut protocols = value.list16().ok_or(malformed)?;
                while !protocols.0.is_empty() {
                    let protocol = protocols.list8().ok_or(malformed)?.0;
                    if self.alpn.is_none() && !is_grease_protocol(protocol) {
                        self.alpn = Some(protocol.to_vec());
                    }
                }
            }
        }
        if value.0.is_empty() { Ok(()) } else { Err(malformed) }
    }

    /// The JA4 fingerprint, for TLS over TCP: `t13d1516h2_8daaf6152771_e5627efa2ab1`.
    ///
    /// A client that resumes a session sends an extension more and so has another fingerprint.
    pub fn ja4(&self) -> String {
        let (shape, ciphers, extensions) = self.ja4_parts();
        format!("{shape}_{}_{}", short_hash(&ciphers), short_hash(&extensions))
    }

    /// What [`ClientHello::ja4`] is a hash of (`JA4_r`): the lists themselves.
    pub fn ja4_raw(&self) -> String {
        let (shape, ciphers, extensions) = self.ja4_parts();
        format!("{shape}_{ciphers}_{extensions}")
    }

    fn ja4_parts(&self) -> (String, String, String) {
        let mut ciphers = without_grease(&self.cipher_suites);
        let mut extensions = without_grease(&self.extensions);
        let shape = format!(
            "t{}{}{:02}{:02}{}",
            self.ja4_version(),
            if extensions.contains(&SERVER_NAME) { 'd' } else { 'i' },
            ciphers.len().min(99),
            extensions.len().min(99),
            ja4_protocol(self.alpn.as_deref().unwrap_or_default()),
        );
        ciphers.sort_unstable();
        extensions.retain(|kind| !matches!(*kind, SERVER_NAME | ALPN));
        extensions.sort_unstable();
        let mut last = hex_list(&extensions);
        let signatures = without_grease(&self.signature_algorithms);
        if !signatures.is_empty() {
            last.push('_');
            last.push_str(&hex_list(&signatures));
        }
        (shape, hex_list(&ciphers), last)
    }

    fn ja4_version(&self) -> &'static str {
        let offered = self.supported_versions.iter().copied().filter(|version| !is_grease(*version)).max();
        match offered.unwrap_or(self.legacy_version) {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            0xfeff => "d1",
            0xfefd => "d2",
            0xfefc => "d3",
            _ => "00",
        }
    }
}

/// The first and last character of a protocol's name; of its hexadecimal form if either is neither
/// a letter nor a digit.
fn ja4_protocol(name: &[u8]) -> String {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return "00".into() };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)].iter().collect();
    }
    format!("{:x}{:x}", first >> 4, last & 0xf)
}

/// Reserved values that a client mixes in so that servers keep ignoring what they do not know
/// (RFC 8701 section 2).
fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

fn is_grease_protocol(name: &[u8]) -> bool {
    matches!(name, [high, low] if is_grease(u16::from_be_bytes([*high, *low])))
}

fn without_grease(values: &[u16]) -> Vec<u16> {
    values.iter().copied().filter(|value| !is_grease(*value)).collect()
}

fn hex_list(values: &[u16]) -> String {
    let mut list = String::with_capacity(values.len().saturating_mul(5));
    for (n, value) in values.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(list, "{comma}{value:04x}");
    }
    list
}

/// The first twelve hexadecimal digits of SHA-256; zeros for an empty list, which shows as such.
fn short_hash(list: &str) -> String {
    if list.is_empty() {
        return "000000000000".into();
    }
    Sha256::digest(list).iter().take(6).fold(String::with_capacity(12), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The body of the hello, put together from the records it is fragmented over.
fn message(records: &[u8]) -> Result<Vec<u8>, HelloError> {
    let mut input = Bytes(records);
    let mut message = Vec::new();
    loop {
        let kind = input.u8().ok_or(HelloError::Incomplete)?;
        if kind != HANDSHAKE {
            return Err(HelloError::NotHello);
        }
        // The version of a record is to be ignored (RFC 8446 section 5.1), but it is always 3.x.
        let [major, _minor, high, low] = match input.take(4) {
            Some(header) => header.try_into().map_err(|_| HelloError::Incomplete)?,
            None if matches!(input.0.first(), None | Some(3)) => return Err(HelloError::Incomplete),
            None => return Err(HelloError::NotHello),
        };
        if major != 3 {
            return Err(HelloError::NotHello);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > MAX_RECORD_BYTES {
            return Err(HelloError::Malformed("length of a record"));
        }
        // The last record may hold more than the hello, or may not have come whole.
        let fragment = input.take(length.min(input.0.len())).unwrap_or_default();
        message.extend_from_slice(fragment);
        if let Some(end) = end_of(&message)?
            && message.len() >= end
        {
            message.truncate(end);
            message.drain(..4);
            return Ok(message);
        }
        if fragment.len() < length {
            return Err(HelloError::Incomplete);
        }
    }
}

/// Where the handshake message ends that begins here; `None` if its head is not there yet.
fn end_of(message: &[u8]) -> Result<Option<usize>, HelloError> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::NotHello);
    }
    let Some([_, high, middle, low]) = message.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).unwrap_or(usize::MAX);
    if length > MAX_HELLO_BYTES {
        return Err(HelloError::TooLong);
    }
    Ok(Some(length + 4))
}

/// Bytes that are still to be read.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*first))
    }

    /// A list with its length in one byte.
    fn list8(&mut self) -> Option<Bytes<'a>> {
        let length = self.u8()?;
        self.take(usize::from(length)).map(Bytes)
    }

    /// A list with its length in two bytes.
    fn list16(&mut self) -> Option<Bytes<'a>> {
        let length = self.u16()?;
        self.take(usize::from(length)).map(Bytes)
    }

    /// All of it as numbers of two bytes.
    fn u16s(self) -> Option<Vec<u16>> {
        let pairs = self.0.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        Some(pairs.filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes)).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests;
