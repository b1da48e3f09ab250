//! Where the body of a message ends, and the pieces that it comes in (RFC 9112 section 6).
//!
//! The bytes are a stranger's. Nothing here may wait for a whole chunk, copy data, or keep more of a
//! message than a trailer section; every byte is looked at once, however small the pieces are in
//! which they come. Framing that two readers could read differently is a fault, after which the
//! decoder gives nothing more.
//!
//! The invariant: what is given out as data is what the sender framed as data, in order, and
//! [`Decoder::is_end`] is true only if the sender has said that it was all.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::SizeHint;

use super::trailers::{self, MAX_TRAILER_BYTES, MAX_TRAILERS};

/// The most chunk extensions of one body, in bytes: all of them together, and so those of one line.
/// Nobody uses them, and a flood of them is work without data.
pub const MAX_EXTENSION_BYTES: u32 = 16 * 1024;

/// The most white space after one chunk size, in bytes. Not counted over the body: an application
/// that pads does so in each of its chunks, and its downloads may have any number of them.
const MAX_PADDING_BYTES: u8 = 32;

/// The longest chunk size, in hex digits. More would not fit a `u64`; leading zeros count.
const MAX_SIZE_DIGITS: u8 = 16;

/// Why a body cannot be read on. The connection it came by is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The size of a chunk is not 1 to 16 hex digits (RFC 9112 section 7.1).
    #[error("a chunk's size is not a hexadecimal number of 1 to 16 digits")]
    Size,
    /// The line of a chunk's size has a byte that may not stand there, or another end than CR LF.
    #[error("a chunk's size line is malformed")]
    SizeLine,
    /// There are more than [`MAX_EXTENSION_BYTES`] of chunk extensions.
    #[error("the chunk extensions are longer than {MAX_EXTENSION_BYTES} bytes in all")]
    Extensions,
    /// The data of a chunk is not followed by CR LF: it is longer or shorter than its size says.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// A trailer field is malformed, or there are more than [`MAX_TRAILERS`].
    #[error("the trailer fields are malformed or more than {MAX_TRAILERS}")]
    Trailers,
    /// The trailer section is longer than [`MAX_TRAILER_BYTES`].
    #[error("the trailer fields are longer than {MAX_TRAILER_BYTES} bytes")]
    TrailersTooLong,
    /// The connection ended before the body.
    #[error("the connection ended before the body did")]
    Cut,
}

/// Who wrote a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client: read strictly.
    Client,
    /// The application: its size lines may be padded with white space, as Apache 1.3 did and as
    /// other readers let pass. No request can be hidden in that.
    Application,
}

/// The next piece of a body.
pub enum Step {
    /// Data, never empty; it shares the memory of the buffer it was read into.
    Data(Bytes),
    /// The trailer fields that may be passed on, at least one. The body has ended.
    Trailers(HeaderMap),
    /// The body has ended; what is left in the buffer belongs to the next message.
    End,
    /// Everything was taken out of the buffer, and more bytes are needed.
    Wait,
}

/// Finds the end of one body.
pub struct Decoder(Kind);

enum Kind {
    /// So many bytes are to come.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
    Failed(BodyFault),
}

impl Decoder {
    /// No body, whatever the fields say: HEAD, 1xx, 204, 304 (RFC 9112 section 6.3).
    pub fn none() -> Decoder {
        Decoder(Kind::Done)
    }

    /// A body of so many bytes.
    pub fn length(bytes: u64) -> Decoder {
        Decoder(if bytes == 0 { Kind::Done } else { Kind::Length(bytes) })
    }

    /// A body in chunks (RFC 9112 section 7.1).
    pub fn chunked(by: Peer) -> Decoder {
        Decoder(Kind::Chunked(Chunked::new(by)))
    }

    /// An answer that ends with its connection.
    pub fn until_close() -> Decoder {
        Decoder(Kind::UntilClose)
    }

    /// Takes the next piece out of what was read. To be called until it is [`Step::Wait`] or
    /// [`Step::End`], or until [`Decoder::is_end`].
    ///
    /// # Errors
    /// If the framing is broken; then, and at every later call, what is left in `buf` is to be
    /// thrown away with the connection.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Step, BodyFault> {
        let step = match &mut self.0 {
            Kind::Length(left) => take(buf, left).map_or(Step::Wait, Step::Data),
            Kind::Chunked(chunked) => match chunked.next(buf) {
                Ok(step) => step,
                Err(fault) => return Err(self.fails(fault)),
            },
            Kind::UntilClose if buf.is_empty() => Step::Wait,
            Kind::UntilClose => Step::Data(buf.split().freeze()),
            Kind::Done => Step::End,
            Kind::Failed(fault) => return Err(*fault),
        };
        if matches!((&self.0, &step), (Kind::Length(0), _) | (_, Step::Trailers(_) | Step::End)) {
            self.0 = Kind::Done;
        }
        Ok(step)
    }

    /// The connection has ended, and `next` has said that it waits.
    ///
    /// # Errors
    /// If that was before the end of the body.
    pub fn end(&mut self) -> Result<(), BodyFault> {
        match self.0 {
            Kind::UntilClose | Kind::Done => {
                self.0 = Kind::Done;
                Ok(())
            }
            Kind::Failed(fault) => Err(fault),
            Kind::Length(_) | Kind::Chunked(_) => Err(self.fails(BodyFault::Cut)),
        }
    }

    /// True once nothing more will come and all has come: at once for a body of no bytes. False
    /// after a fault.
    pub fn is_end(&self) -> bool {
        matches!(self.0, Kind::Done)
    }

    /// How many bytes of data are still to come: exact where a length was given, open otherwise.
    pub fn size_hint(&self) -> SizeHint {
        match self.0 {
            Kind::Length(left) => SizeHint::with_exact(left),
            Kind::Done => SizeHint::with_exact(0),
            Kind::Chunked(_) | Kind::UntilClose | Kind::Failed(_) => SizeHint::new(),
        }
    }

    fn fails(&mut self, fault: BodyFault) -> BodyFault {
        self.0 = Kind::Failed(fault);
        fault
    }
}

/// Where in a chunked body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the size of a chunk.
    Size,
    /// In the white space after a size.
    Padding,
    /// In a chunk extension.
    Extension,
    /// In a quoted value of one.
    Quoted,
    /// After a backslash in a quoted value.
    Escaped,
    /// After the CR of a size line.
    SizeLf,
    /// In data.
    Data,
    /// After data.
    DataCr,
    /// After the CR that follows data.
    DataLf,
    /// At the beginning of a line after the last chunk.
    Trailer,
    /// In a trailer field.
    Field,
    /// After the CR of a trailer field.
    FieldLf,
    /// After the CR of the empty line.
    LastLf,
    /// After everything.
    Over,
}

struct Chunked {
    place: Place,
    padded: bool,
    digits: u8,
    padding: u8,
    fields: u8,
    /// How many bytes of extensions are still allowed.
    room: u32,
    /// The size that is being read, then how much of the chunk is to come.
    left: u64,
    /// The trailer section so far. Outside of the buffer, so that a wait always leaves that empty.
    section: Vec<u8>,
}

impl Chunked {
    fn new(by: Peer) -> Chunked {
        Chunked {
            place: Place::Size,
            padded: by == Peer::Application,
            digits: 0,
            padding: 0,
            fields: 0,
            room: MAX_EXTENSION_BYTES,
            left: 0,
            section: Vec::new(),
        }
    }

    fn next(&mut self, buf: &mut BytesMut) -> Result<Step, BodyFault> {
        let mut read = 0;
        for byte in buf.iter() {
            if matches!(self.place, Place::Data | Place::Over) {
                break;
            }
            self.place = self.step(*byte)?;
            read += 1;
        }
        buf.advance(read);
        match self.place {
            Place::Data => {
                let data = take(buf, &mut self.left);
                if self.left == 0 {
                    self.place = Place::DataCr;
                }
                Ok(data.map_or(Step::Wait, Step::Data))
            }
            Place::Over if self.section.is_empty() => Ok(Step::End),
            Place::Over => {
                self.section.extend_from_slice(b"\r\n");
                let fields = trailers::parse(&std::mem::take(&mut self.section)).ok_or(BodyFault::Trailers)?;
                Ok(if fields.is_empty() { Step::End } else { Step::Trailers(fields) })
            }
            _ => Ok(Step::Wait),
        }
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> Result<Place, BodyFault> {
        Ok(match (self.place, byte) {
            (Place::Size, b'0'..=b'9') => self.digit(byte - b'0')?,
            (Place::Size, b'a'..=b'f') => self.digit(byte - b'a' + 10)?,
            (Place::Size, b'A'..=b'F') => self.digit(byte - b'A' + 10)?,
            (Place::Size, _) if self.digits == 0 => return Err(BodyFault::Size),
            (Place::Size, b'\r') => Place::SizeLf,
            (Place::Padding, b'\r') if self.padded => Place::SizeLf,
            (Place::Size | Place::Padding, b' ' | b'\t') if self.padding < MAX_PADDING_BYTES => {
                self.padding += 1;
                Place::Padding
            }
            (Place::Size | Place::Padding, b';') => self.extension(Place::Extension)?,
            (Place::Size, _) => return Err(BodyFault::Size),

            (Place::Extension, b'\r') => Place::SizeLf,
            (Place::Extension, b'"') => self.extension(Place::Quoted)?,
            (Place::Quoted, b'"') => self.extension(Place::Extension)?,
            (Place::Quoted, b'\\') => self.extension(Place::Escaped)?,
            // A line end in quotes is one to some readers and none to others; a control byte in an
            // extension is nothing to anybody.
            (Place::Extension, _) if is_text(byte) => self.extension(Place::Extension)?,
            (Place::Quoted | Place::Escaped, _) if is_text(byte) => self.extension(Place::Quoted)?,

            (Place::SizeLf, b'\n') if self.left == 0 => Place::Trailer,
            (Place::SizeLf, b'\n') => Place::Data,
            (Place::Padding | Place::Extension | Place::Quoted | Place::Escaped | Place::SizeLf, _) => {
                return Err(BodyFault::SizeLine);
            }

            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => {
                (self.digits, self.padding) = (0, 0);
                Place::Size
            }
            (Place::DataCr | Place::DataLf, _) => return Err(BodyFault::ChunkEnd),

            (Place::Trailer, b'\r') => Place::LastLf,
            // A line that begins with white space would go on with the one before it.
            (Place::Trailer, b'\n' | b' ' | b'\t') => return Err(BodyFault::Trailers),
            (Place::Trailer, _) => {
                if usize::from(self.fields) == MAX_TRAILERS {
                    return Err(BodyFault::Trailers);
                }
                self.fields += 1;
                self.field(byte, Place::Field)?
            }
            (Place::Field, b'\r') => self.field(byte, Place::FieldLf)?,
            (Place::Field, b'\n') => return Err(BodyFault::Trailers),
            (Place::Field, _) => self.field(byte, Place::Field)?,
            (Place::FieldLf, b'\n') => self.field(byte, Place::Trailer)?,
            (Place::LastLf, b'\n') => Place::Over,
            (Place::FieldLf | Place::LastLf, _) => return Err(BodyFault::Trailers),

            (Place::Data | Place::Over, _) => self.place,
        })
    }

    fn digit(&mut self, digit: u8) -> Result<Place, BodyFault> {
        if self.digits == MAX_SIZE_DIGITS {
            return Err(BodyFault::Size);
        }
        self.digits += 1;
        // Sixteen digits fit; the chunk before has left nothing.
        self.left = self.left << 4 | u64::from(digit);
        Ok(Place::Size)
    }

    fn extension(&mut self, place: Place) -> Result<Place, BodyFault> {
        self.room = self.room.checked_sub(1).ok_or(BodyFault::Extensions)?;
        Ok(place)
    }

    fn field(&mut self, byte: u8, place: Place) -> Result<Place, BodyFault> {
        if self.section.len() == MAX_TRAILER_BYTES {
            return Err(BodyFault::TrailersTooLong);
        }
        self.section.push(byte);
        Ok(place)
    }
}

/// Takes at most `left` bytes out of what was read, or nothing if there is nothing.
fn take(buf: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
    *left -= here as u64;
    (here > 0).then(|| buf.split_to(here).freeze())
}

/// What may stand in a quoted value (RFC 9110 section 5.6.4), and is let pass elsewhere.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

// What a body holds is nobody's business in a log: only its form is shown.

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Length(left) => write!(f, "Length({left})"),
            Kind::Chunked(chunked) => write!(f, "Chunked({:?}, {})", chunked.place, chunked.left),
            Kind::UntilClose => f.write_str("UntilClose"),
            Kind::Done => f.write_str("Done"),
            Kind::Failed(fault) => write!(f, "Failed({fault:?})"),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Data(data) => write!(f, "Data({} bytes)", data.len()),
            Step::Trailers(fields) => write!(f, "Trailers({} fields)", fields.len()),
            Step::End => f.write_str("End"),
            Step::Wait => f.write_str("Wait"),
        }
    }
}

#[cfg(test)]
mod tests;
