//! The wire format of protobuf (protobuf.dev/programming-guides/encoding), by hand: the few
//! messages of OTLP do not pay for a code generator.
//!
//! Writing appends to a buffer; what is empty or zero is written all the same where the caller asks
//! for it. Reading stops at the first thing it does not understand, and must never panic nor read
//! past its end, whatever came.

/// A field of several bytes: a message, a text, bytes.
pub fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A field that is a message, written by `write`.
pub fn message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, field, &inner);
}

/// A field that is a whole number (`int64`, `uint32`, `bool`, an enumeration); a negative one is
/// given by its two's complement.
pub fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

/// A `fixed64`.
pub fn fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A `double`.
pub fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A `fixed32`.
pub fn fixed32(out: &mut Vec<u8>, field: u64, value: u32) {
    key(out, field, 5);
    out.extend_from_slice(&value.to_le_bytes());
}

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The value of a field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'b> {
    /// A varint.
    Number(u64),
    /// Several bytes, or the 4 or 8 of a fixed number.
    Bytes(&'b [u8]),
}

/// The fields of a message with their numbers, to the first that cannot be read.
pub struct Fields<'b>(pub &'b [u8]);

impl<'b> Fields<'b> {
    /// The first message (or text) with this number; empty if there is none.
    pub fn bytes_of(message: &'b [u8], number: u64) -> &'b [u8] {
        let found = Fields(message).find_map(|(field, value)| match value {
            Field::Bytes(inner) if field == number => Some(inner),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// The first varint with this number; 0 if there is none, as protobuf means it.
    pub fn number_of(message: &[u8], number: u64) -> u64 {
        let found = Fields(message).find_map(|(field, value)| match value {
            Field::Number(value) if field == number => Some(value),
            _ => None,
        });
        found.unwrap_or_default()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = (u64, Field<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Bytes(self.take(8)?),
            2 => {
                let count = self.varint()?;
                Field::Bytes(self.take(count)?)
            }
            5 => Field::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_with_its_numbers() {
        let mut out = Vec::new();
        number(&mut out, 1, 300);
        message(&mut out, 2, |out| bytes(out, 3, b"abc"));
        fixed64(&mut out, 4, 7);
        double(&mut out, 5, 1.5);
        fixed32(&mut out, 16, 9);
        assert_eq!(out.get(..3), Some(&[0x08, 0xac, 0x02][..]), "the encoding's own example");
        let read: Vec<_> = Fields(&out).collect();
        assert_eq!(
            read,
            [
                (1, Field::Number(300)),
                (2, Field::Bytes(&[0x1a, 3, b'a', b'b', b'c'])),
                (4, Field::Bytes(&7_u64.to_le_bytes())),
                (5, Field::Bytes(&1.5_f64.to_le_bytes())),
                (16, Field::Bytes(&9_u32.to_le_bytes())),
            ]
        );
        assert_eq!((Fields::number_of(&out, 1), Fields::number_of(&out, 9)), (300, 0));
        assert_eq!(Fields::bytes_of(Fields::bytes_of(&out, 2), 3), b"abc");
    }

    proptest! {
        #[test]
        fn no_message_makes_the_reader_panic(message in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Fields(&message).count() <= message.len());
            let _ = (Fields::number_of(&message, 1), Fields::bytes_of(&message, 1));
        }
    }
}
