//! How a body is framed on its way out (RFC 9112 section 6).
//!
//! Data is never copied: the writer is told what goes before a piece and what after it, and writes
//! the three together. Nothing is allocated but for trailers. A body must never be framed as whole
//! that is not: more data than was announced is refused before it is written, and too little is an
//! error at the end, after which the connection must be closed (section 6.3: the receiver sees a
//! body that is cut off, and no other message can begin inside it).

use bytes::Bytes;
use http::HeaderMap;

use super::trailers;

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How a body is framed, and how much of it is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// So many bytes are announced and not yet written.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Its end is that of the connection.
    UntilClose,
    /// No body may be written, or the end of it has been.
    None,
}

/// Why a piece, or the end, cannot be written. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misframed {
    /// There is more data than was announced. Nothing of the piece may be written.
    #[error("the body is longer than announced")]
    TooLong,
    /// The body ended before all that was announced.
    #[error("the body is shorter than announced")]
    TooShort,
}

/// What goes around a piece of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// To be written before it.
    pub before: SizeLine,
    /// To be written after it.
    pub after: &'static [u8],
}

/// The line before a chunk, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLine {
    /// Filled from the end.
    line: [u8; SizeLine::MAX],
    len: u8,
}

impl SizeLine {
    /// The longest: 16 hex digits and CR LF.
    pub const MAX: usize = 18;

    const NONE: SizeLine = SizeLine { line: [0; SizeLine::MAX], len: 0 };

    fn of(size: usize) -> SizeLine {
        let mut made = SizeLine { line: [0; SizeLine::MAX], len: 2 };
        let [digits @ .., cr, lf] = &mut made.line;
        (*cr, *lf) = (b'\r', b'\n');
        let mut left = size;
        for place in digits.iter_mut().rev() {
            // A digit below sixteen.
            *place = char::from_digit((left & 0xf) as u32, 16).map_or(b'0', |digit| digit as u8);
            made.len += 1;
            left >>= 4;
            if left == 0 {
                break;
            }
        }
        made
    }
}

impl AsRef<[u8]> for SizeLine {
    fn as_ref(&self) -> &[u8] {
        self.line.get(SizeLine::MAX - usize::from(self.len)..).unwrap_or_default()
    }
}

impl Around {
    const NOTHING: Around = Around { before: SizeLine::NONE, after: b"" };
}

impl Encoder {
    /// What goes around the next piece of `len` bytes. An empty piece is nothing: an empty chunk
    /// would be the end.
    ///
    /// # Errors
    /// If it is more than was announced, or no body may be written.
    pub fn piece(&mut self, len: usize) -> Result<Around, Misframed> {
        Ok(match self {
            _ if len == 0 => Around::NOTHING,
            Encoder::Length(left) => {
                *left = left.checked_sub(len as u64).ok_or(Misframed::TooLong)?;
                Around::NOTHING
            }
            Encoder::Chunked => Around { before: SizeLine::of(len), after: b"\r\n" },
            Encoder::UntilClose => Around::NOTHING,
            Encoder::None => return Err(Misframed::TooLong),
        })
    }

    /// The same for the last piece, with the end of the body in what goes after it: `finish` is not
    /// to be called, and writes nothing if it is.
    ///
    /// # Errors
    /// If it is not exactly what was announced, or no body may be written.
    pub fn last_piece(&mut self, len: usize) -> Result<Around, Misframed> {
        let mut around = self.piece(len)?;
        if *self == Encoder::Chunked {
            around.after = if len == 0 { LAST_CHUNK } else { b"\r\n0\r\n\r\n" };
            *self = Encoder::None;
        } else {
            self.finish(None)?;
        }
        Ok(around)
    }

    /// What goes after the last piece: for a body in chunks the last chunk with those `trailers` that
    /// may be passed on, for any other nothing.
    ///
    /// # Errors
    /// If the body is shorter than announced.
    pub fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<Bytes, Misframed> {
        match self {
            Encoder::Length(1..) => Err(Misframed::TooShort),
            Encoder::Length(0) | Encoder::UntilClose | Encoder::None => Ok(Bytes::new()),
            Encoder::Chunked => {
                *self = Encoder::None;
                Ok(last_chunk(trailers))
            }
        }
    }

    /// True if nothing more is to be written: all that was announced has been, the last chunk has, or
    /// there is no body. Never true of a body that ends with its connection.
    pub fn is_end(&self) -> bool {
        matches!(self, Encoder::Length(0) | Encoder::None)
    }

    /// True if only the end of the connection will tell that of the body.
    pub fn ends_with_connection(&self) -> bool {
        *self == Encoder::UntilClose
    }
}

fn last_chunk(trailers: Option<&HeaderMap>) -> Bytes {
    let Some(fields) = trailers.filter(|fields| !fields.is_empty()) else { return Bytes::from_static(LAST_CHUNK) };
    let mut section = Vec::with_capacity(LAST_CHUNK.len() + 64 * fields.len());
    section.extend_from_slice(b"0\r\n");
    trailers::write(fields, &mut section);
    section.extend_from_slice(b"\r\n");
    Bytes::from(section)
}

#[cfg(test)]
mod tests;
