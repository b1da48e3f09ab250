//! The frames of AMQP 0-9-1: what a publisher writes, and what a broker answers.
//!
//! After sections 2.3 and 4.2 of the specification of AMQP 0-9-1, and RabbitMQ's extensions
//! `confirm` and `basic.nack`. It must never trust a length: a broker's frame is read only within
//! what arrived, and nothing of it is kept but numbers and an id.

/// What opens a connection (section 4.2.2).
pub const PROTOCOL: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// The largest frame either way, in bytes: what brokers propose.
pub const MAX_FRAME: u32 = 128 * 1024;
/// The smallest that a broker may propose (section 4.2.3).
const MIN_FRAME: u32 = 4096;
/// What a frame has beside its payload: type, channel and length before it, a mark after it.
pub const AROUND: u32 = 8;
/// The one channel that is used.
pub const CHANNEL: u16 = 1;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;
/// The class of messages.
const BASIC: u16 = 60;
/// Which properties a message of ours has: content type, delivery mode, id, timestamp, type and
/// application (section 4.2.6.1).
const PROPERTIES: u16 = 1 << 15 | 1 << 12 | 1 << 7 | 1 << 6 | 1 << 5 | 1 << 3;
/// Delivery mode: to be kept on disk.
const PERSISTENT: u8 = 2;

/// The bytes are no AMQP 0-9-1, or say what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

/// One frame as it stands in what arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    kind: u8,
    channel: u16,
    pub(super) payload: &'b [u8],
}

/// What a broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It begins, and lets people in by these mechanisms.
    Start {
        /// Their names, set apart by spaces.
        mechanisms: String,
    },
    /// The largest frame it wants, from 4096 bytes to [`MAX_FRAME`].
    Tune {
        /// In bytes.
        frame: u32,
    },
    /// The virtual host is open.
    Open,
    /// The channel is open.
    ChannelOpen,
    /// The exchange is there.
    Declared,
    /// Messages will be confirmed.
    Confirming,
    /// It ends the connection.
    Closed(u16),
    /// It has ended the connection that we asked it to end.
    CloseOk,
    /// It ends the channel.
    ChannelClosed(u16),
    /// It takes no messages for now.
    Blocked,
    /// It takes them again.
    Unblocked,
    /// It has this message, or all up to it.
    Ack(Settled),
    /// It does not have this message, or any up to it.
    Nack(Settled),
    /// A message comes back, with this code; its header and body follow.
    Returned(u16),
    /// The header of a message that comes back.
    Header {
        /// The bytes of its body.
        body: u64,
        /// The message's id.
        id: Option<String>,
    },
    /// So many bytes of its body.
    Body(u64),
    /// What a publisher need not know.
    Other,
}

/// Which messages an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The number of the message, the channel's first being 1; 0 is all of them.
    pub tag: u64,
    /// All before it too.
    pub multiple: bool,
}

/// Takes the first frame off what arrived, and says how many bytes it has; `None` if it is not
/// whole yet.
///
/// # Errors
/// It is no frame, or one longer than [`MAX_FRAME`].
pub fn first(arrived: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Nonsense> {
    let mut read = Read(arrived);
    let (Ok(kind), Ok(channel), Ok(length)) = (read.u8(), read.u16(), read.u32()) else {
        // Whoever speaks another version says so by its own opening.
        return if arrived.first().is_some_and(|kind| !known(*kind)) { Err(Nonsense) } else { Ok(None) };
    };
    if !known(kind) || length > MAX_FRAME - AROUND {
        return Err(Nonsense);
    }
    let length = length as usize;
    let (Ok(payload), Ok(end)) = (read.take(length), read.u8()) else { return Ok(None) };
    if end != END {
        return Err(Nonsense);
    }
    Ok(Some((Frame { kind, channel, payload }, length + AROUND as usize)))
}

fn known(kind: u8) -> bool {
    matches!(kind, METHOD | HEADER | BODY | HEARTBEAT)
}

impl Frame<'_> {
    /// What the frame says.
    ///
    /// # Errors
    /// It is cut off, or on a channel that nobody opened.
    pub fn heard(&self) -> Result<Heard, Nonsense> {
        if self.channel > CHANNEL {
            return Err(Nonsense);
        }
        let mut read = Read(self.payload);
        match self.kind {
            METHOD => method(read),
            BODY => Ok(Heard::Body(self.payload.len() as u64)),
            HEADER => {
                let (_class, _weight, body) = (read.u16()?, read.u16()?, read.u64()?);
                Ok(Heard::Header { body, id: message_id(read)? })
            }
            _ => Ok(Heard::Other),
        }
    }
}

fn method(mut read: Read<'_>) -> Result<Heard, Nonsense> {
    Ok(match (read.u16()?, read.u16()?) {
        (10, 10) => {
            let (_major, _minor) = (read.u8()?, read.u8()?);
            read.long()?;
            Heard::Start { mechanisms: String::from_utf8_lossy(read.long()?).into_owned() }
        }
        (10, 30) => {
            let _channels = read.u16()?;
            // No bound of its own is 0.
            let frame = Some(read.u32()?).filter(|frame| *frame != 0).unwrap_or(MAX_FRAME);
            Heard::Tune { frame: frame.clamp(MIN_FRAME, MAX_FRAME) }
        }
        (10, 41) => Heard::Open,
        (10, 50) => Heard::Closed(read.u16()?),
        (10, 51) => Heard::CloseOk,
        (10, 60) => Heard::Blocked,
        (10, 61) => Heard::Unblocked,
        (20, 11) => Heard::ChannelOpen,
        (20, 40) => Heard::ChannelClosed(read.u16()?),
        (40, 11) => Heard::Declared,
        (85, 11) => Heard::Confirming,
        (BASIC, 50) => Heard::Returned(read.u16()?),
        (BASIC, 80) => Heard::Ack(Settled { tag: read.u64()?, multiple: read.u8()? & 1 == 1 }),
        (BASIC, 120) => Heard::Nack(Settled { tag: read.u64()?, multiple: read.u8()? & 1 == 1 }),
        _ => Heard::Other,
    })
}

/// The id among a message's properties (section 4.2.6.1); those before it are passed over.
fn message_id(mut read: Read<'_>) -> Result<Option<String>, Nonsense> {
    let flags = read.u16()?;
    let has = |bit: u32| flags >> bit & 1 == 1;
    for bit in (7..16).rev().filter(|bit| has(*bit)) {
        match bit {
            13 => drop(read.long()?),
            12 | 11 => drop(read.u8()?),
            7 => return Ok(Some(String::from_utf8_lossy(read.short()?).into_owned())),
            // Content type and encoding, correlation id, reply-to, expiration.
            _ => drop(read.short()?),
        }
    }
    Ok(None)
}

/// What is left of a payload.
struct Read<'b>(&'b [u8]);

impl<'b> Read<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Nonsense> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Nonsense)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Nonsense> {
        self.take(N)?.try_into().map_err(|_| Nonsense)
    }

    fn u8(&mut self) -> Result<u8, Nonsense> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Nonsense> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Nonsense> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Nonsense> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string.
    fn short(&mut self) -> Result<&'b [u8], Nonsense> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A long string, or a table as it stands.
    fn long(&mut self) -> Result<&'b [u8], Nonsense> {
        let length = self.u32()?;
        self.take(length as usize)
    }
}

/// One message of ours.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// The exchange.
    pub exchange: &'m str,
    /// The routing key, at most 255 bytes.
    pub routing_key: &'m str,
    /// To be returned if no queue is bound for it.
    pub mandatory: bool,
    /// The media type of the body.
    pub media: &'m str,
    /// Its id.
    pub id: &'m str,
    /// When it was, in seconds since 1970.
    pub seconds: u64,
    /// What it is about.
    pub kind: &'m str,
    /// The body.
    pub body: &'m [u8],
}

/// Frames to be written, one after the other.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.push(kind);
        self.bytes.extend(channel.to_be_bytes());
        let at = self.bytes.len();
        self.bytes.extend([0; 4]);
        payload(&mut self.bytes);
        let length = (self.bytes.len() - at - 4) as u32;
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.bytes.push(END);
    }

    pub(super) fn method(&mut self, channel: u16, class: u16, method: u16, arguments: impl FnOnce(&mut Vec<u8>)) {
        self.frame(METHOD, channel, |to| {
            to.extend(class.to_be_bytes());
            to.extend(method.to_be_bytes());
            arguments(to);
        });
    }

    /// `connection.start-ok`: who we are, and how we sign in.
    pub fn start_ok(mut self, mechanism: &str, response: &str) -> Frames {
        self.method(0, 10, 11, |to| {
            let mut capabilities = Vec::new();
            // Without the last, a broker that does not let us in just hangs up.
            for name in ["publisher_confirms", "basic.nack", "connection.blocked", "authentication_failure_close"] {
                short(&mut capabilities, name);
                capabilities.extend([b't', 1]);
            }
            let mut properties = Vec::new();
            for (name, value) in
                [("product", "authtap"), ("version", env!("CARGO_PKG_VERSION")), ("connection_name", "authtap")]
            {
                short(&mut properties, name);
                properties.push(b'S');
                long(&mut properties, value.as_bytes());
            }
            short(&mut properties, "capabilities");
            properties.push(b'F');
            long(&mut properties, &capabilities);
            long(to, &properties);
            short(to, mechanism);
            long(to, response.as_bytes());
            short(to, "en_US");
        });
        self
    }

    /// `connection.tune-ok` with one channel and without heartbeats, and `connection.open`.
    pub fn tune_and_open(mut self, frame: u32, vhost: &str) -> Frames {
        self.method(0, 10, 31, |to| {
            to.extend(CHANNEL.to_be_bytes());
            to.extend(frame.to_be_bytes());
            to.extend([0, 0]);
        });
        self.method(0, 10, 40, |to| {
            short(to, vhost);
            to.extend([0, 0]);
        });
        self
    }

    /// `channel.open`, and `confirm.select`.
    pub fn channel(mut self) -> Frames {
        self.method(CHANNEL, 20, 10, |to| to.push(0));
        self.method(CHANNEL, 85, 10, |to| to.push(0));
        self
    }

    /// `exchange.declare` that only asks whether it is there.
    pub fn is_there(mut self, exchange: &str) -> Frames {
        self.method(CHANNEL, 40, 10, |to| {
            to.extend([0, 0]);
            short(to, exchange);
            short(to, "");
            to.push(1);
            to.extend([0; 4]);
        });
        self
    }

    /// `connection.close`.
    pub fn close(mut self) -> Frames {
        self.method(0, 10, 50, |to| {
            to.extend(200_u16.to_be_bytes());
            short(to, "");
            to.extend([0; 4]);
        });
        self
    }

    /// `basic.publish`, with the header and the body in frames of at most this size.
    pub fn publish(&mut self, message: &Message<'_>, frame: u32) {
        self.method(CHANNEL, BASIC, 40, |to| {
            to.extend([0, 0]);
            short(to, message.exchange);
            short(to, message.routing_key);
            to.push(u8::from(message.mandatory));
        });
        self.frame(HEADER, CHANNEL, |to| {
            to.extend(BASIC.to_be_bytes());
            to.extend([0, 0]);
            to.extend((message.body.len() as u64).to_be_bytes());
            to.extend(PROPERTIES.to_be_bytes());
            short(to, message.media);
            to.push(PERSISTENT);
            short(to, message.id);
            to.extend(message.seconds.to_be_bytes());
            short(to, message.kind);
            short(to, "authtap");
        });
        let most = frame.saturating_sub(AROUND).max(1) as usize;
        for piece in message.body.chunks(most) {
            self.frame(BODY, CHANNEL, |to| to.extend_from_slice(piece));
        }
    }
}

/// A short string, cut where it is too long: what callers pass has been checked.
fn short(to: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..usize::from(u8::MAX)).unwrap_or(bytes);
    to.push(bytes.len() as u8);
    to.extend_from_slice(bytes);
}

fn long(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend((bytes.len() as u32).to_be_bytes());
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_method(channel: u16, ids: [u16; 2], arguments: &[u8]) -> Vec<u8> {
        let mut frames = Frames::default();
        frames.method(channel, ids[0], ids[1], |to| to.extend_from_slice(arguments));
        frames.bytes
    }

    fn heard(bytes: &[u8]) -> Heard {
        let (frame, length) = first(bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        frame.heard().unwrap()
    }

    #[test]
    fn what_a_broker_says_is_understood() {
        assert_eq!(
            heard(&of_method(0, [10, 10], b"\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\0")),
            Heard::Start { mechanisms: "PLAIN".into() }
        );
        assert_eq!(heard(&of_method(0, [10, 30], b"\0\0\0\0\0\0\0\x3c")), Heard::Tune { frame: MAX_FRAME });
        assert_eq!(heard(&of_method(0, [10, 30], b"\0\0\0\0\0\x01\0\x3c")), Heard::Tune { frame: MIN_FRAME });
        assert_eq!(
            heard(&of_method(1, [60, 80], b"\0\0\0\0\0\0\x01\x02\x01")),
            Heard::Ack(Settled { tag: 258, multiple: true })
        );
        assert_eq!(heard(&of_method(1, [20, 40], b"\x01\x94\x09not found\0\0\0\0")), Heard::ChannelClosed(404));
        assert_eq!(first(&of_method(2, [60, 80], b"")).unwrap().unwrap().0.heard(), Err(Nonsense), "not our channel");
        assert_eq!(first(PROTOCOL), Err(Nonsense), "a broker of another version");
    }

    #[test]
    fn a_message_that_comes_back_is_known_by_its_id_whatever_else_it_has() {
        let mut frames = Frames::default();
        let message = Message {
            exchange: "e",
            routing_key: "k",
            mandatory: true,
            media: "application/json",
            id: "0193b0a2",
            seconds: 7,
            kind: "user.logout",
            body: &[b'x'; 10],
        };
        frames.publish(&message, 4 + AROUND);
        let mut left = frames.bytes();
        let mut all = Vec::new();
        while let Some((frame, length)) = first(left).unwrap() {
            all.push(frame.heard().unwrap());
            left = &left[length..];
        }
        let body = |n| Heard::Body(n);
        let header = Heard::Header { body: 10, id: Some("0193b0a2".into()) };
        assert_eq!(all, [Heard::Other, header, body(4), body(4), body(2)]);
        // A broker may have added headers and everything else.
        let mut payload = b"\0\x3c\0\0\0\0\0\0\0\0\0\0\xff\x80\x01t\x01e\0\0\0\x02hh\x02\x05\x01c\x01r\x01x".to_vec();
        payload.extend(b"\x02id");
        let frame = Frame { kind: HEADER, channel: 1, payload: &payload };
        assert_eq!(frame.heard(), Ok(Heard::Header { body: 0, id: Some("id".into()) }));
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_broker_make_it_panic_or_read_beyond_them(
            kind in 0_u8..10,
            ids in (prop::sample::select(vec![10_u16, 20, 40, 60, 85]), 0_u16..130),
            rest in prop::collection::vec(any::<u8>(), 0..200),
            cut in 0_usize..220,
        ) {
            let mut frames = Frames::default();
            frames.frame(kind, 1, |to| {
                to.extend(ids.0.to_be_bytes());
                to.extend(ids.1.to_be_bytes());
                to.extend(&rest);
            });
            let whole = frames.bytes();
            let _ = first(&rest);
            match first(whole) {
                Ok(Some((frame, length))) => {
                    prop_assert_eq!(length, whole.len());
                    let _ = frame.heard();
                }
                other => prop_assert!(!known(kind) && other.is_err()),
            }
            let cut = &whole[..cut.min(whole.len() - 1)];
            prop_assert!(!matches!(first(cut), Ok(Some(_))), "a frame that is not whole");
        }
    }
}
