//! The body of a message over HTTP/1: no panic, nothing that the sender did not send, the same
//! whatever the pieces, and what is read can be written and read again.
#![no_main]

use authtap::proxy::http1::decode::{BodyFault, Decoder, Peer, Step};
use authtap::proxy::http1::encode::Encoder;
use authtap::proxy::http1::trailers::{MAX_TRAILER_BYTES, MAX_TRAILERS};
use bytes::BytesMut;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Default, PartialEq)]
struct Read {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    fault: Option<BodyFault>,
    left: Vec<u8>,
}

fn read<'b>(mut decoder: Decoder, pieces: impl Iterator<Item = &'b [u8]>) -> Read {
    let mut found = Read::default();
    let mut buf = BytesMut::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buf) {
                Ok(Step::Data(data)) => found.data.extend_from_slice(&data),
                Ok(Step::Trailers(fields)) => assert!(found.trailers.replace(fields).is_none()),
                Ok(Step::End) => break,
                Ok(Step::Wait) => {
                    assert!(buf.is_empty());
                    break;
                }
                Err(fault) => {
                    found.fault = Some(fault);
                    return found;
                }
            }
        }
    }
    found.fault = decoder.end().err();
    assert_eq!(decoder.is_end(), found.fault.is_none());
    found.left = buf.to_vec();
    found
}

fuzz_target!(|data: &[u8]| {
    // The first byte says how large the pieces are, and how long a body that has a length is.
    let Some((size, bytes)) = data.split_first() else { return };
    let step = usize::from(*size) + 1;
    let decoders: [fn(u8) -> Decoder; 4] = [
        |_| Decoder::chunked(Peer::Client),
        |_| Decoder::chunked(Peer::Application),
        |size| Decoder::length(size.into()),
        |_| Decoder::until_close(),
    ];
    for decoder in decoders {
        let whole = read(decoder(*size), std::iter::once(bytes));
        assert_eq!(whole, read(decoder(*size), bytes.chunks(step)));
        assert!(whole.data.len() + whole.left.len() <= bytes.len());
        // A field is written with a space, so one byte longer than it may have come.
        if whole.fault.is_some() || bytes.len() > MAX_TRAILER_BYTES - MAX_TRAILERS {
            continue;
        }
        let mut encoder = Encoder::Chunked;
        let mut out = Vec::new();
        for piece in whole.data.chunks(step) {
            let around = encoder.piece(piece.len()).expect("a chunk");
            out.extend_from_slice(&[around.before.as_ref(), piece, around.after].concat());
        }
        out.extend_from_slice(&encoder.finish(whole.trailers.as_ref()).expect("an end"));
        let again = read(Decoder::chunked(Peer::Client), std::iter::once(&out[..]));
        assert_eq!(again, Read { left: Vec::new(), ..whole });
    }
});
