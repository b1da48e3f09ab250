//! An event as JSON, written by a serializer that knows what events are made of.
//!
//! The same bytes as `serde_json` writes, in about a third of its time, which is most of what an event
//! costs after it was decided: texts are looked at many bytes together, since nearly none has a
//! character to be escaped, and the names of fields, which are our own, not at all. The invariant: what
//! [`line`] answers is what `serde_json::to_string` would; a shape that no event has is `None`, and left
//! to it.

use std::fmt::{Display, Write};

use serde::Serialize;
use serde::ser::{
    Error, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, Serializer, StdError,
};

/// About the length of a login's line, so that it is seldom moved while it grows.
const USUAL: usize = 1024;

/// One line, without its end.
pub(super) fn line(value: &impl Serialize) -> Option<String> {
    let mut out = String::with_capacity(USUAL);
    value.serialize(&mut Writer { out: &mut out }).ok()?;
    Some(out)
}

/// What this writer cannot write; said to nobody.
#[derive(Debug)]
struct Unknown;

impl Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no part of an event")
    }
}

impl StdError for Unknown {}

impl Error for Unknown {
    fn custom<T: Display>(_: T) -> Unknown {
        Unknown
    }
}

struct Writer<'o> {
    out: &'o mut String,
}

impl Writer<'_> {
    fn text(&mut self, text: &str) -> Result<(), Unknown> {
        // Without a way out of the loop, so that many bytes are looked at together.
        let odd = text.bytes().fold(false, |odd, b| odd | (b < 0x20) | (b == b'"') | (b == b'\\'));
        if odd {
            self.out.push_str(&serde_json::to_string(text).map_err(|_| Unknown)?);
        } else {
            self.out.push('"');
            self.out.push_str(text);
            self.out.push('"');
        }
        Ok(())
    }

    fn number(&mut self, number: impl Display) -> Result<(), Unknown> {
        write!(self.out, "{number}").map_err(|_| Unknown)
    }
}

/// An object or a list that is being written.
struct Open<'w, 'o> {
    writer: &'w mut Writer<'o>,
    empty: bool,
    end: char,
}

impl<'w, 'o> Open<'w, 'o> {
    fn begin(writer: &'w mut Writer<'o>, start: char, end: char) -> Open<'w, 'o> {
        writer.out.push(start);
        Open { writer, empty: true, end }
    }

    fn next(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.writer.out.push(',');
        }
    }

    fn finish(self) -> Result<(), Unknown> {
        self.writer.out.push(self.end);
        Ok(())
    }
}

impl SerializeStruct for Open<'_, '_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Unknown> {
        self.next();
        self.writer.out.push('"');
        self.writer.out.push_str(key);
        self.writer.out.push_str("\":");
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Unknown> {
        self.finish()
    }
}

impl SerializeMap for Open<'_, '_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unknown> {
        self.next();
        // All keys are texts.
        key.serialize(&mut *self.writer)?;
        self.writer.out.push(':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unknown> {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Unknown> {
        self.finish()
    }
}

impl SerializeSeq for Open<'_, '_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unknown> {
        self.next();
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Unknown> {
        self.finish()
    }
}

impl SerializeTuple for Open<'_, '_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unknown> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), Unknown> {
        self.finish()
    }
}

impl<'w, 'o> Serializer for &'w mut Writer<'o> {
    type Ok = ();
    type Error = Unknown;
    type SerializeSeq = Open<'w, 'o>;
    type SerializeTuple = Open<'w, 'o>;
    type SerializeTupleStruct = Impossible<(), Unknown>;
    type SerializeTupleVariant = Impossible<(), Unknown>;
    type SerializeMap = Open<'w, 'o>;
    type SerializeStruct = Open<'w, 'o>;
    type SerializeStructVariant = Impossible<(), Unknown>;

    fn serialize_bool(self, value: bool) -> Result<(), Unknown> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Unknown> {
        self.number(value)
    }

    fn serialize_i16(self, value: i16) -> Result<(), Unknown> {
        self.number(value)
    }

    fn serialize_i32(self, value: i32) -> Result<(), Unknown> {
        self.number(value)
    }

    fn serialize_i64(self, value: i64) -> Result<(), Unknown> {
        self.number(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), Unknown> {
        self.number(value)
    }

    fn serialize_u16(self, value: u16) -> Result<(), Unknown> {
        self.number(value)
    }

    fn serialize_u32(self, value: u32) -> Result<(), Unknown> {
        self.number(value)
    }

    fn serialize_u64(self, value: u64) -> Result<(), Unknown> {
        self.number(value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), Unknown> {
        self.out.push_str(&serde_json::to_string(&value).map_err(|_| Unknown)?);
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unknown> {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.number(number),
            None => self.serialize_unit(),
        }
    }

    fn serialize_char(self, value: char) -> Result<(), Unknown> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Unknown> {
        self.text(value)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Unknown> {
        Err(Unknown)
    }

    fn serialize_none(self) -> Result<(), Unknown> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unknown> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unknown> {
        self.out.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unknown> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Unknown> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unknown> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unknown> {
        Err(Unknown)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'w, 'o>, Unknown> {
        Ok(Open::begin(self, '[', ']'))
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'w, 'o>, Unknown> {
        Ok(Open::begin(self, '[', ']'))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Unknown> {
        Err(Unknown)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unknown> {
        Err(Unknown)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'w, 'o>, Unknown> {
        Ok(Open::begin(self, '{', '}'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'w, 'o>, Unknown> {
        Ok(Open::begin(self, '{', '}'))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unknown> {
        Err(Unknown)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Unknown> {
        self.text(&value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::event::{Client, Event, Geo, Network, Organization, Outcome, Target, Text, Tls, notice, sample};

    fn same(event: &Event) {
        assert_eq!(line(event), serde_json::to_string(event).ok());
    }

    #[test]
    fn an_event_that_has_everything_is_written_as_serde_json_writes_it() {
        let mut event = sample::login("al\"ice\\");
        let text = |text: &str| Text::other(text);
        event.reason = text("why");
        event.target = Some(Target { kind: text("user"), id: text("ü"), email: text("x@example.test") });
        event.organization = Some(Organization { id: Text::fixed("o") });
        event.metadata.fields = vec![(Text::fixed("a\"b"), Text::fixed("on")), (Text::fixed("c"), Text::fixed(""))];
        event.metadata.geo =
            Some(Geo { country: text("GB"), latitude: Some(51.5), longitude: Some(-0.0), ..Geo::default() });
        event.metadata.network = Some(Network { asn: Some(u32::MAX), hosting: Some(true), ..Network::default() });
        event.metadata.client = Some(Client { browser: text("Firefox"), bot: true, ..Client::default() });
        event.metadata.tls =
            Some(Tls { version: text("1.3"), sni: text("a"), ja4: text("t13"), subject: text("CN=a") });
        event.metadata.ip_address = "2001:db8::1".parse().ok();
        same(&event);
        same(&notice::notice(notice::STARTED, Outcome::Success, &[("version", "1".into())]));
    }

    proptest! {
        #[test]
        fn any_text_and_number_is_written_as_serde_json_writes_it(text in any::<String>(), number in any::<f64>(), whole in any::<i64>()) {
            let value = serde_json::json!({ "text": text, "n": [number, whole, null, true], &text: {} });
            prop_assert_eq!(line(&value), serde_json::to_string(&value).ok());
            prop_assert_eq!(line(&number), serde_json::to_string(&number).ok());
            prop_assert_eq!(line(&Value::from(text.as_str())), serde_json::to_string(text.as_str()).ok());
        }
    }
}
