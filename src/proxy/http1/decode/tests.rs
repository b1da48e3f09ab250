use super::*;

use proptest::collection::vec;
use proptest::prelude::*;

/// All that a decoder makes of bytes that come in these pieces, the last of them before the end of
/// the connection if `closed`.
#[derive(Debug, Default, PartialEq)]
struct Read {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    fault: Option<BodyFault>,
    ended: bool,
    left: Vec<u8>,
}

fn read<'b>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'b [u8]>, closed: bool) -> Read {
    let mut found = Read::default();
    let mut buf = BytesMut::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buf) {
                Ok(Step::Data(data)) => {
                    assert!(!data.is_empty(), "an empty piece");
                    found.data.extend_from_slice(&data);
                }
                Ok(Step::Trailers(fields)) => {
                    assert!(!fields.is_empty() && decoder.is_end());
                    assert!(found.trailers.replace(fields).is_none(), "trailers twice");
                }
                Ok(Step::End) => {
                    assert!(decoder.is_end());
                    break;
                }
                Ok(Step::Wait) => {
                    assert!(buf.is_empty(), "a wait with {} bytes unread", buf.len());
                    break;
                }
                Err(fault) => {
                    assert_eq!(decoder.next(&mut buf).err(), Some(fault), "a fault stays");
                    assert_eq!(decoder.end(), Err(fault));
                    assert!(!decoder.is_end());
                    found.fault = Some(fault);
                    return found;
                }
            }
        }
    }
    if closed {
        found.fault = decoder.end().err();
    }
    found.ended = decoder.is_end();
    found.left = buf.to_vec();
    found
}

fn client(bytes: &[u8]) -> Read {
    let whole = read(Decoder::chunked(Peer::Client), [bytes], false);
    let split = read(Decoder::chunked(Peer::Client), bytes.chunks(1), false);
    assert_eq!(whole, split, "{}", bytes.escape_ascii());
    whole
}

fn application(bytes: &[u8]) -> Read {
    read(Decoder::chunked(Peer::Application), bytes.chunks(1), false)
}

/// A body in chunks whose framing is this one and whose only data is `hello`.
fn hello(bytes: &[u8]) {
    let found = client(bytes);
    assert!(found.ended && found.data == b"hello", "{}: {found:?}", bytes.escape_ascii());
}

#[test]
fn a_length_is_counted_and_what_follows_is_left() {
    let mut decoder = Decoder::length(5);
    let mut buf = BytesMut::from("hel");
    assert_eq!(decoder.size_hint().exact(), Some(5));
    assert!(matches!(decoder.next(&mut buf), Ok(Step::Data(data)) if data == "hel"));
    assert_eq!(decoder.size_hint().exact(), Some(2));
    assert!(matches!(decoder.next(&mut buf), Ok(Step::Wait)) && !decoder.is_end());
    buf.extend_from_slice(b"loGET /");
    assert!(matches!(decoder.next(&mut buf), Ok(Step::Data(data)) if data == "lo"));
    assert!(decoder.is_end(), "known with the last byte, not a call later");
    assert!(matches!(decoder.next(&mut buf), Ok(Step::End)));
    assert_eq!(buf, "GET /");
    assert_eq!(decoder.end(), Ok(()));
}

#[test]
fn no_body_has_ended_before_it_begins() {
    for mut decoder in [Decoder::none(), Decoder::length(0)] {
        let mut buf = BytesMut::from("GET /");
        assert!(decoder.is_end() && decoder.size_hint().exact() == Some(0));
        assert!(matches!(decoder.next(&mut buf), Ok(Step::End)));
        assert_eq!(buf, "GET /");
        assert_eq!(decoder.end(), Ok(()));
    }
}

#[test]
fn only_the_end_of_the_connection_ends_an_answer_without_framing() {
    let open = read(Decoder::until_close(), [&b"hel"[..], b"lo"], false);
    assert!(open.data == b"hello" && !open.ended);
    let closed = read(Decoder::until_close(), [&b"hel"[..], b"lo"], true);
    assert!(closed.data == b"hello" && closed.ended && closed.fault.is_none());
}

#[test]
fn a_body_that_is_cut_off_is_never_whole() {
    let whole = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    for end in 0..whole.len() {
        let found = read(Decoder::chunked(Peer::Application), [&whole[..end]], true);
        assert!(found.fault == Some(BodyFault::Cut) && !found.ended, "{end}");
    }
    let found = read(Decoder::length(5), [&b"hell"[..]], true);
    assert!(found.fault == Some(BodyFault::Cut) && found.data == b"hell");
}

#[test]
fn data_shares_the_memory_of_the_buffer() {
    let mut buf = BytesMut::from("5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n");
    let memory = buf.as_ptr_range();
    let mut decoder = Decoder::chunked(Peer::Client);
    for wanted in ["hello", "you"] {
        let Ok(Step::Data(data)) = decoder.next(&mut buf) else { panic!("data") };
        assert!(data == wanted && memory.contains(&data.as_ptr()));
    }
}

#[test]
fn data_is_given_out_before_its_chunk_is_whole() {
    let mut buf = BytesMut::from("ff\r\nhel");
    assert!(matches!(Decoder::chunked(Peer::Client).next(&mut buf), Ok(Step::Data(data)) if data == "hel"));
}

#[test]
fn chunks_of_every_allowed_form_are_read() {
    for body in [
        &b"5\r\nhello\r\n0\r\n\r\n"[..],
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"0005\r\nhello\r\n000\r\n\r\n",
        b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n",
        b"5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n",
        b"5 ; a = \"\\\"\\\\ ;\xe4\"\t;b\r\nhello\r\n0\r\n\r\n",
        b"5\t;a\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;sig=ab/c+d==\r\nhello\r\n0\r\n\r\n",
    ] {
        hello(body);
    }
    let found = client(b"A\r\n0123456789\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n");
    assert!(found.ended && found.data.len() == 36);
}

#[test]
fn a_size_is_hex_digits_and_nothing_else() {
    for size in [
        "",
        "0x5",
        "+5",
        "-5",
        " 5",
        "\t5",
        "5 ",
        "5\t",
        "5 5",
        "1_0",
        "xyz",
        "g",
        "5,",
        "5\0",
        "5\u{b}",
        "\n5",
        "\r5",
        "10000000000000005",
        "00000000000000005",
        "fffffffffffffffff",
        "５",
    ] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        let found = client(body.as_bytes());
        assert!(found.fault.is_some() && found.data.is_empty(), "{size:?}: {found:?}");
        assert_eq!(found.fault == Some(BodyFault::Size), !matches!(size, "5 " | "5\t" | "5 5"), "{size:?}");
    }
    // A size line may be endless only in what is left out.
    assert_eq!(client(&[b'0'; 300_000]).fault, Some(BodyFault::Size));
}

#[test]
fn the_largest_size_is_no_overflow() {
    let mut decoder = Decoder::chunked(Peer::Client);
    let mut buf = BytesMut::from("ffffffffffffffff\r\nx");
    assert!(matches!(decoder.next(&mut buf), Ok(Step::Data(data)) if data == "x"));
    assert_eq!(format!("{decoder:?}"), format!("Chunked(Data, {})", u64::MAX - 1));
}

#[test]
fn only_an_application_may_pad_its_sizes() {
    let padded = b"5   \r\nhello\r\n0\t \r\n\r\n";
    assert_eq!(client(padded).fault, Some(BodyFault::SizeLine));
    let found = application(padded);
    assert!(found.ended && found.data == b"hello");
    for size in [&b" 5"[..], b"5 5", b"5 \n", b"5 x"] {
        assert!(application(&[size, b"\r\nhello\r\n0\r\n\r\n"].concat()).fault.is_some(), "{}", size.escape_ascii());
    }
    let line = |spaces: usize| [b"1".as_slice(), &vec![b' '; spaces], b"\r\nx\r\n"].concat();
    assert!(application(&line(33)).fault.is_some());
    let long = application(&line(32).repeat(2000));
    assert!(long.fault.is_none() && long.data.len() == 2000, "a download of many padded chunks");
}

#[test]
fn a_bare_cr_or_lf_is_a_fault_wherever_it_stands() {
    for (body, fault) in [
        (&b"5\nhello\r\n0\r\n\r\n"[..], BodyFault::Size),
        (b"5\rhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5\r\rhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5;a\nhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5;\nxxhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5;a=\"\\\r\n\"\r\nhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5;a=\0\r\nhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5;a=\x7f\r\nhello\r\n0\r\n\r\n", BodyFault::SizeLine),
        (b"5\r\nhello\n0\r\n\r\n", BodyFault::ChunkEnd),
        (b"5\r\nhello\r0\r\n\r\n", BodyFault::ChunkEnd),
        (b"5\r\nhello0\r\n\r\n", BodyFault::ChunkEnd),
        (b"5\r\nhelloXX\r\n0\r\n\r\n", BodyFault::ChunkEnd),
        (b"5\r\nhello\r\n0\n\n", BodyFault::Size),
        (b"5\r\nhello\r\n0\r\n\n", BodyFault::Trailers),
        (b"5\r\nhello\r\n0\r\n\rX", BodyFault::Trailers),
        (b"5\r\nhello\r\n0\r\nX: v\n\r\n", BodyFault::Trailers),
        (b"5\r\nhello\r\n0\r\nX: v\rY\r\n\r\n", BodyFault::Trailers),
        (b"5\r\nhello\r\n0\r\nX: v\r\n\n", BodyFault::Trailers),
    ] {
        for found in [client(body), application(body)] {
            assert_eq!(found.fault, Some(fault), "{}", body.escape_ascii());
        }
    }
    assert_eq!(client(b"5\r\nhello\r\n\r\n").fault, Some(BodyFault::Size), "a chunk without a size");
    assert_eq!(client(b"5\r\nhello\r\n0\r\nX").fault, None);
    assert!(!client(b"5\r\nhello\r\n0\r\nX").ended);
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let room = MAX_EXTENSION_BYTES as usize;
    let line = |ext: usize| [b"1;", &*vec![b'a'; ext - 1], b"\r\nx\r\n"].concat();
    let body = [line(room), b"0\r\n\r\n".to_vec()].concat();
    assert!(client(&body).ended);
    assert_eq!(client(&line(room + 1)).fault, Some(BodyFault::Extensions));
    let many: Vec<u8> = line(8).repeat(room / 8);
    let found = client(&many);
    assert!(found.fault.is_none() && found.data.len() == room / 8);
    assert_eq!(client(&[many, b"1;".to_vec()].concat()).fault, Some(BodyFault::Extensions));
    let quoted = [b"1;a=\"", &*vec![b'\\'; room + 1]].concat();
    assert_eq!(client(&quoted).fault, Some(BodyFault::Extensions));
}

#[test]
fn trailers_are_read_and_those_that_must_not_trail_are_left_out() {
    let found = client(
        b"5\r\nhello\r\n0\r\nX-Sum: 42 \r\nHost: evil.test\r\nContent-Length: 50\r\ntransfer-encoding: x\r\n\
          X-Forwarded-For: 6.6.6.6\r\nAuthorization: x\r\nSet-Cookie: a=b\r\nX-Sum:\t\xe4\r\n\r\nGET /",
    );
    let fields = found.trailers.expect("trailers");
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(fields, [("x-sum", &b"42"[..]), ("x-sum", b"\xe4")]);
    assert!(found.ended && found.data == b"hello" && found.left == b"GET /");
    let none = client(b"0\r\nHost: evil.test\r\n\r\n");
    assert!(none.ended && none.trailers.is_none());
}

#[test]
fn trailers_are_bounded_and_checked() {
    let last = |fields: &[u8]| client(&[b"0\r\n", fields, b"\r\n"].concat());
    for fields in
        [&b"X A: v\r\n"[..], b"X-A\r\n", b"X-A : v\r\n", b": v\r\n", b" X: v\r\n", b"X: v\r\n folded\r\n", b"X: \0\r\n"]
    {
        assert_eq!(last(fields).fault, Some(BodyFault::Trailers), "{}", fields.escape_ascii());
    }
    let number = |n: usize| b"a:1\r\n".repeat(n);
    assert_eq!(last(&number(MAX_TRAILERS)).trailers.map(|fields| fields.len()), Some(MAX_TRAILERS));
    assert_eq!(last(&number(MAX_TRAILERS + 1)).fault, Some(BodyFault::Trailers));
    let long = |n: usize| [b"X:", &*vec![b'v'; n - 4], b"\r\n"].concat();
    assert!(last(&long(MAX_TRAILER_BYTES)).trailers.is_some());
    assert_eq!(last(&long(MAX_TRAILER_BYTES + 1)).fault, Some(BodyFault::TrailersTooLong));
    assert_eq!(last(&long(300_000)).fault, Some(BodyFault::TrailersTooLong));
}

#[test]
fn what_a_body_holds_is_not_shown() {
    let mut decoder = Decoder::chunked(Peer::Client);
    let mut buf = BytesMut::from("6\r\nsecret\r\n0\r\nX: secret");
    let shown = format!("{:?} {:?} {decoder:?}", decoder.next(&mut buf), decoder.next(&mut buf));
    assert!(!shown.contains("secret"), "{shown}");
}

/// A valid body in chunks with its data: sizes in any spelling, with extensions and trailers.
fn valid() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let ext = prop_oneof![Just(""), Just(";a"), Just(" ;a=b"), Just(";a=\"x;\\\"y\"\t; c")];
    let chunk = (vec(any::<u8>(), 1..40), 0usize..4, any::<bool>(), ext.clone());
    let trailers = prop_oneof![Just(""), Just("X-Sum: 1\r\n"), Just("Host: x\r\nX-Sum:\r\nx-sum: 2\r\n")];
    (vec(chunk, 0..8), ext, trailers).prop_map(|(chunks, last, trailers)| {
        let (mut body, mut data) = (Vec::new(), Vec::new());
        for (piece, zeros, upper, ext) in chunks {
            let size = if upper { format!("{:X}", piece.len()) } else { format!("{:x}", piece.len()) };
            body.extend_from_slice(format!("{}{size}{ext}\r\n", "0".repeat(zeros)).as_bytes());
            body.extend_from_slice(&piece);
            body.extend_from_slice(b"\r\n");
            data.extend_from_slice(&piece);
        }
        body.extend_from_slice(format!("0{last}\r\n{trailers}\r\n").as_bytes());
        (body, data)
    })
}

/// Bytes that are often nearly a body in chunks.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let bit = prop_oneof![
        4 => "[0-9a-fA-F]{1,3}\r\n".prop_map(String::into_bytes),
        4 => vec(any::<u8>(), 0..20),
        3 => Just(b"\r\n".to_vec()),
        2 => "[;=\" \t\\\\a]{1,6}".prop_map(String::into_bytes),
        2 => Just(b"5\r\nhello\r\n".to_vec()),
        1 => Just(b"0\r\n\r\n".to_vec()),
        1 => Just(b"0\r\nX: v\r\n".to_vec()),
    ];
    let bits = vec(bit, 0..12).prop_map(|bits| bits.concat());
    let bent = (valid(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|((mut body, _), at, byte)| {
        let at = at.index(body.len());
        body[at] = byte;
        body
    });
    prop_oneof![bits, bent]
}

/// `bytes` in pieces of these sizes, over and over.
fn pieces<'b>(bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let (mut pieces, mut left, mut sizes) = (Vec::new(), bytes, sizes.iter().cycle());
    while !left.is_empty() {
        let (now, later) = left.split_at(left.len().min(sizes.next().copied().unwrap_or(1)));
        pieces.push(now);
        left = later;
    }
    pieces
}

proptest! {
    #[test]
    fn any_split_of_a_body_gives_the_same_data((body, data) in valid(), sizes in vec(1usize..30, 1..6), next: Vec<u8>) {
        let stream = [body, next.clone()].concat();
        for by in [Peer::Client, Peer::Application] {
            let found = read(Decoder::chunked(by), pieces(&stream, &sizes), true);
            prop_assert!(found.ended && found.fault.is_none(), "{:?}", found);
            prop_assert_eq!(&found.data, &data);
            prop_assert_eq!(&found.left, &next);
            prop_assert_eq!(&found, &read(Decoder::chunked(by), [&stream[..]], true));
        }
    }

    #[test]
    fn any_bytes_are_read_the_same_in_any_pieces_and_never_give_more_than_was_put_in(
        bytes in nearly(), sizes in vec(1usize..30, 1..6), length in 0u64..60,
    ) {
        let decoders: [fn(u64) -> Decoder; 4] = [
            |_| Decoder::chunked(Peer::Client),
            |_| Decoder::chunked(Peer::Application),
            Decoder::length,
            |_| Decoder::until_close(),
        ];
        for decoder in decoders {
            let whole = read(decoder(length), [&bytes[..]], true);
            prop_assert_eq!(&whole, &read(decoder(length), pieces(&bytes, &sizes), true));
            prop_assert!(whole.data.len() + whole.left.len() <= bytes.len());
            prop_assert_eq!(whole.ended, whole.fault.is_none());
        }
    }

    #[test]
    fn what_is_read_strictly_is_read_the_same_leniently(bytes in nearly()) {
        let strict = read(Decoder::chunked(Peer::Client), [&bytes[..]], true);
        if strict.fault.is_none() {
            prop_assert_eq!(strict, read(Decoder::chunked(Peer::Application), [&bytes[..]], true));
        }
    }
}
