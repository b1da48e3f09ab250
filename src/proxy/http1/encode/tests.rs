use super::*;

use bytes::BytesMut;
use http::{HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::proxy::http1::decode::{Decoder, Peer, Step};

/// What is written for these pieces.
fn written(encoder: &mut Encoder, pieces: &[Vec<u8>], trailers: Option<&HeaderMap>) -> Result<Vec<u8>, Misframed> {
    let mut out = Vec::new();
    for piece in pieces {
        let around = encoder.piece(piece.len())?;
        out.extend_from_slice(&[around.before.as_ref(), piece, around.after].concat());
    }
    out.extend_from_slice(&encoder.finish(trailers)?);
    Ok(out)
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let lines = lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
    let mut map = HeaderMap::new();
    lines.for_each(|(n, v)| {
        map.append(n, v);
    });
    map
}

#[test]
fn the_size_of_a_chunk_is_written_in_hex() {
    for size in [1, 9, 10, 15, 16, 255, 4096, 65_536, usize::MAX >> 1, usize::MAX] {
        assert_eq!(SizeLine::of(size).as_ref(), format!("{size:x}\r\n").as_bytes());
    }
}

#[test]
fn a_body_in_chunks_ends_with_the_last_chunk() {
    let mut encoder = Encoder::Chunked;
    let out = written(&mut encoder, &[b"hello".to_vec(), vec![], vec![b'x'; 17]], None).expect("framed");
    assert_eq!(out, b"5\r\nhello\r\n11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n", "an empty piece is no chunk");
    assert!(encoder.is_end());
    assert_eq!(encoder.piece(1), Err(Misframed::TooLong), "nothing follows the end");
    assert_eq!(encoder.finish(None).expect("ended"), "");
}

#[test]
fn the_end_may_go_with_the_last_piece() {
    for (piece, wanted) in [("hello", "5\r\nhello\r\n0\r\n\r\n"), ("", "0\r\n\r\n")] {
        let mut encoder = Encoder::Chunked;
        let around = encoder.last_piece(piece.len()).expect("framed");
        assert_eq!([around.before.as_ref(), piece.as_bytes(), around.after].concat(), wanted.as_bytes());
        assert!(encoder.is_end());
    }
    assert_eq!(Encoder::Length(5).last_piece(5).map(|around| around.after), Ok(&b""[..]));
    assert_eq!(Encoder::Length(5).last_piece(4), Err(Misframed::TooShort));
    assert_eq!(Encoder::Length(5).last_piece(6), Err(Misframed::TooLong));
    assert_eq!(Encoder::None.last_piece(0).map(|around| around.after), Ok(&b""[..]));
}

#[test]
fn trailers_follow_the_last_chunk_without_those_that_must_not_trail() {
    let trailers =
        fields(&[("x-sum", "42"), ("host", "evil.test"), ("content-length", "3"), ("connection", "x"), ("x-sum", "7")]);
    let out = written(&mut Encoder::Chunked, &[], Some(&trailers)).expect("framed");
    assert_eq!(out, b"0\r\nx-sum: 42\r\nx-sum: 7\r\n\r\n");
    for none in [HeaderMap::new(), fields(&[("host", "evil.test")])] {
        assert_eq!(written(&mut Encoder::Chunked, &[], Some(&none)).expect("framed"), b"0\r\n\r\n");
    }
    let out = written(&mut Encoder::Length(1), &[vec![b'x']], Some(&trailers)).expect("framed");
    assert_eq!(out, b"x", "only chunks have trailers");
}

#[test]
fn a_length_is_neither_exceeded_nor_left_unfilled() {
    let mut encoder = Encoder::Length(5);
    assert!(encoder.piece(3).is_ok() && !encoder.is_end());
    assert_eq!(encoder.finish(None), Err(Misframed::TooShort));
    assert_eq!(encoder.piece(3), Err(Misframed::TooLong));
    assert!(!encoder.is_end(), "what was refused does not count");
    assert!(encoder.piece(2).is_ok() && encoder.is_end());
    assert_eq!(encoder.finish(None), Ok(Bytes::new()));
    assert_eq!(encoder.piece(1), Err(Misframed::TooLong));
}

#[test]
fn where_no_body_may_be_none_is_written() {
    let mut encoder = Encoder::None;
    assert!(encoder.is_end() && encoder.piece(0).is_ok());
    assert_eq!(encoder.piece(1), Err(Misframed::TooLong));
    assert_eq!(encoder.finish(Some(&fields(&[("x-sum", "1")]))), Ok(Bytes::new()));
}

#[test]
fn a_body_without_framing_ends_with_the_connection_even_when_all_is_written() {
    let mut encoder = Encoder::UntilClose;
    assert_eq!(written(&mut encoder, &[b"hello".to_vec()], None).expect("framed"), b"hello");
    assert!(encoder.ends_with_connection() && !encoder.is_end());
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(pieces in vec(vec(any::<u8>(), 0..600), 0..8), sums in vec("[!-~]{1,20}", 0..4)) {
        let data = pieces.concat();
        let mut trailers = HeaderMap::new();
        for sum in sums {
            trailers.append("x-sum", HeaderValue::try_from(sum).expect("a value"));
        }
        let lengths = data.len() as u64;
        for (mut encoder, mut decoder) in [
            (Encoder::Chunked, Decoder::chunked(Peer::Client)),
            (Encoder::Length(lengths), Decoder::length(lengths)),
        ] {
            let chunked = encoder == Encoder::Chunked;
            let out = written(&mut encoder, &pieces, Some(&trailers)).expect("framed");
            let mut buf = BytesMut::from(&out[..]);
            let (mut read, mut found) = (Vec::new(), HeaderMap::new());
            loop {
                match decoder.next(&mut buf).expect("what we write we read") {
                    Step::Data(data) => read.extend_from_slice(&data),
                    Step::Trailers(fields) => found = fields,
                    Step::End => break,
                    Step::Wait => panic!("the end is missing"),
                }
            }
            prop_assert_eq!(&read, &data);
            prop_assert!(buf.is_empty());
            prop_assert_eq!(found, if chunked { trailers.clone() } else { HeaderMap::new() });
        }
    }
}
