//! Hellos are built from lists, as a client would send them, and read again.

use proptest::prelude::*;

use super::*;

/// What goes into a hello.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub legacy_version: u16,
    pub cipher_suites: Vec<u16>,
    /// Those whose content matters get it from the lists below, the others are empty.
    pub extensions: Vec<u16>,
    pub supported_versions: Vec<u16>,
    pub signature_algorithms: Vec<u16>,
    pub alpn: Vec<Vec<u8>>,
}

impl Offer {
    /// The handshake message without its head of four bytes.
    fn body(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend([0]);
        body.extend(with_length16(&wide(&self.cipher_suites)));
        body.extend([1, 0]);
        let mut extensions = Vec::new();
        for kind in &self.extensions {
            let value = match *kind {
                SIGNATURE_ALGORITHMS => with_length16(&wide(&self.signature_algorithms)),
                SUPPORTED_VERSIONS => with_length8(&wide(&self.supported_versions)),
                ALPN => {
                    with_length16(&self.alpn.iter().flat_map(|protocol| with_length8(protocol)).collect::<Vec<u8>>())
                }
                _ => Vec::new(),
            };
            extensions.extend(kind.to_be_bytes());
            extensions.extend(with_length16(&value));
        }
        if !self.extensions.is_empty() {
            body.extend(with_length16(&extensions));
        }
        body
    }

    /// The message in records of at most `size` bytes of payload.
    pub(crate) fn records(&self, size: usize) -> Vec<u8> {
        let body = self.body();
        let mut message = vec![CLIENT_HELLO];
        message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
        message.extend(body);
        fragments(&message, size)
    }
}

fn fragments(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [vec![HANDSHAKE, 3, 1], with_length16(part)].concat()).collect()
}

fn wide(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn with_length8(value: &[u8]) -> Vec<u8> {
    [&[u8::try_from(value.len()).unwrap()], value].concat()
}

fn with_length16(value: &[u8]) -> Vec<u8> {
    [&u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

fn list(text: &str) -> Vec<u16> {
    text.split(',').filter(|hex| !hex.is_empty()).map(|hex| u16::from_str_radix(hex, 16).unwrap()).collect()
}

/// The example of FoxIO's technical details, in the order in which its client sent it, with the
/// reserved values that Chrome mixes in everywhere.
fn published() -> Offer {
    Offer {
        legacy_version: 0x0303,
        cipher_suites: list("8a8a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"),
        extensions: list("1a1a,001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,fafa,0015"),
        supported_versions: list("dada,0304,0303"),
        signature_algorithms: list("0403,0804,0401,0503,0805,0501,0806,0601"),
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    }
}

fn ja4(offer: &Offer) -> String {
    parse(&offer.records(16_384)).unwrap().ja4()
}

#[test]
fn the_published_example_has_the_published_fingerprint() {
    let hello = parse(&published().records(16_384)).unwrap();
    assert_eq!(hello.ja4(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    assert_eq!(
        hello.ja4_raw(),
        "t13d1516h2_002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9_\
         0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01_\
         0403,0804,0401,0503,0805,0501,0806,0601"
    );
}

#[test]
fn other_published_fingerprints_come_out_of_their_lists() {
    let mut chrome_with_ech = published();
    chrome_with_ech.extensions =
        list("0005,000a,000b,000d,0012,0017,001b,0023,002b,002d,0033,4469,fe0d,ff01,0000,0010");
    assert_eq!(ja4(&chrome_with_ech), "t13d1516h2_8daaf6152771_02713d6af862");

    let scsv = Offer {
        cipher_suites: list("1301,1302,1303,c02b,c02c,c02f,c030,cca8,cca9,00ff"),
        extensions: list("0000,0005,000a,000b,000d,0010,0017,0023,002b,002d,0033"),
        signature_algorithms: list("0503,0403,0807,0806,0805,0804,0601,0501,0401"),
        ..published()
    };
    assert_eq!(ja4(&scsv), "t13d1011h2_61a7ad8aa9b6_3fcd1a44f3e3");
}

#[test]
fn without_signature_algorithms_the_last_hash_is_of_the_extensions_alone() {
    let mut offer = published();
    offer.signature_algorithms.clear();
    assert_eq!(ja4(&offer), "t13d1516h2_8daaf6152771_6d807ffa2a79");
    // Reserved values are none.
    offer.signature_algorithms = list("0a0a,fafa");
    assert_eq!(ja4(&offer), "t13d1516h2_8daaf6152771_6d807ffa2a79");
}

#[test]
fn reserved_values_change_nothing_wherever_they_stand() {
    let plain = ja4(&published());
    for grease in (0..16u16).map(|n| (n << 4 | 0x0a) * 0x0101) {
        let mut offer = published();
        offer.cipher_suites.insert(3, grease);
        offer.extensions.push(grease);
        offer.supported_versions.push(grease);
        offer.signature_algorithms.insert(0, grease);
        offer.alpn.insert(0, grease.to_be_bytes().to_vec());
        assert_eq!(ja4(&offer), plain, "{grease:04x}");
    }
    let mut lookalike = published();
    lookalike.cipher_suites.push(0x0a1a);
    assert_ne!(ja4(&lookalike), plain);
}

#[test]
fn order_matters_for_signature_algorithms_only() {
    let mut offer = published();
    offer.cipher_suites.reverse();
    offer.extensions.reverse();
    assert_eq!(ja4(&offer), ja4(&published()));
    offer.signature_algorithms.reverse();
    assert_ne!(ja4(&offer), ja4(&published()));
}

#[test]
fn nothing_offered_shows_as_zeros() {
    let none = Offer {
        legacy_version: 0x0301,
        cipher_suites: Vec::new(),
        extensions: Vec::new(),
        supported_versions: Vec::new(),
        signature_algorithms: Vec::new(),
        alpn: Vec::new(),
    };
    assert_eq!(ja4(&none), "t10i000000_000000000000_000000000000");
    // Name and protocol count in the first part, and the hash of the last is of none.
    let two = Offer { extensions: list("0000,0010"), alpn: vec![b"http/1.1".to_vec()], ..none };
    assert_eq!(ja4(&two), "t10d0002h1_000000000000_000000000000");
}

#[test]
fn counts_end_at_ninety_nine() {
    let mut offer = published();
    offer.cipher_suites = (0x1000..0x1100).filter(|n| !is_grease(*n)).collect();
    offer.extensions.extend((0x6000..0x6100).filter(|n| !is_grease(*n)));
    assert!(ja4(&offer).starts_with("t13d9999h2_"), "{}", ja4(&offer));
}

#[test]
fn the_version_is_the_highest_offered_and_else_the_one_of_the_hello() {
    for (legacy, offered, expected) in [
        (0x0303, "0303,0304", "13"),
        (0x0303, "0301,0302", "11"),
        (0x0303, "3a3a", "12"),
        (0x0300, "", "s3"),
        (0x0002, "", "s2"),
        (0x0301, "", "10"),
        (0x0303, "7f1c,0304", "00"),
    ] {
        let offer = Offer { legacy_version: legacy, supported_versions: list(offered), ..published() };
        assert_eq!(&ja4(&offer)[1..3], expected, "{legacy:04x} {offered}");
    }
}

#[test]
fn the_protocol_is_its_first_and_last_character_or_those_of_its_hexadecimal_form() {
    for (name, expected) in [
        (&b"h2"[..], "h2"),
        (b"http/1.1", "h1"),
        (b"x", "xx"),
        (b"", "00"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"\x30\xab", "3b"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
    ] {
        let offer = Offer { alpn: vec![name.to_vec(), b"zz".to_vec()], ..published() };
        assert_eq!(&ja4(&offer)[8..10], expected, "{name:x?}");
    }
    assert_eq!(&ja4(&Offer { alpn: Vec::new(), ..published() })[8..10], "00");
}

#[test]
fn what_is_no_hello_says_why_it_cannot_be_read() {
    let whole = published().records(16_384);
    let edited = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        parse(&bytes)
    };
    assert_eq!(parse(b""), Err(HelloError::Incomplete));
    assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotHello));
    assert_eq!(parse(b"\x16G"), Err(HelloError::NotHello));
    assert_eq!(edited(0, 21), Err(HelloError::NotHello));
    assert_eq!(edited(1, 2), Err(HelloError::NotHello));
    assert_eq!(edited(5, 2), Err(HelloError::NotHello));
    assert_eq!(edited(6, 1), Err(HelloError::TooLong));
    assert_eq!(edited(3, 0x41), Err(HelloError::Malformed("length of a record")));
    assert_eq!(parse(&[22, 3, 1, 0, 0]), Err(HelloError::Malformed("length of a record")));
    assert_eq!(edited(43, 33), Err(HelloError::Malformed("session id")));
    assert_eq!(edited(45, 31), Err(HelloError::Malformed("cipher suites")));
    let mut twice = published();
    twice.extensions.push(ALPN);
    assert_eq!(parse(&twice.records(999)), Err(HelloError::Malformed("an extension stands twice")));
}

#[test]
fn a_hello_cut_off_anywhere_is_incomplete_and_what_follows_it_is_not_looked_at() {
    for size in [1, 100, 16_384] {
        let mut bytes = published().records(size);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Err(HelloError::Incomplete), "{end} of {size}");
        }
        let hello = parse(&bytes);
        bytes.extend(b"\x17\x03\x03 anything");
        assert_eq!(parse(&bytes), hello);
        assert!(hello.is_ok());
    }
}

fn offers() -> impl Strategy<Value = Offer> {
    let wide = |most| prop::collection::vec(any::<u16>(), 0..most);
    (any::<u16>(), wide(60), prop::collection::btree_set(any::<u16>(), 0..60), wide(20), wide(20)).prop_flat_map(
        |(legacy_version, cipher_suites, extensions, supported_versions, signature_algorithms)| {
            let mut extensions: Vec<u16> = extensions.into_iter().collect();
            extensions.extend([SIGNATURE_ALGORITHMS, SUPPORTED_VERSIONS, ALPN]);
            extensions.sort_unstable();
            extensions.dedup();
            let alpn = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..5);
            (Just(extensions).prop_shuffle(), alpn).prop_map(move |(extensions, alpn)| Offer {
                legacy_version,
                cipher_suites: cipher_suites.clone(),
                extensions,
                supported_versions: supported_versions.clone(),
                signature_algorithms: signature_algorithms.clone(),
                alpn,
            })
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
        // Past the heads, so that the lists are reached.
        let mut hello = vec![CLIENT_HELLO, 0];
        hello.extend(with_length16(&bytes));
        if let Ok(hello) = parse(&fragments(&hello, 16_384)) {
            hello.ja4();
        }
    }

    #[test]
    fn what_was_offered_is_what_is_read_however_it_is_fragmented(offer in offers(), size in 1..2000usize) {
        let hello = parse(&offer.records(size)).unwrap();
        prop_assert_eq!(hello.legacy_version, offer.legacy_version);
        prop_assert_eq!(&hello.cipher_suites, &offer.cipher_suites);
        prop_assert_eq!(&hello.extensions, &offer.extensions);
        prop_assert_eq!(&hello.supported_versions, &offer.supported_versions);
        prop_assert_eq!(&hello.signature_algorithms, &offer.signature_algorithms);
        prop_assert_eq!(&hello.alpn, &offer.alpn.iter().find(|name| !is_grease_protocol(name)).cloned());
    }

    #[test]
    fn a_fingerprint_always_has_its_form(offer in offers()) {
        let ja4 = ja4(&offer);
        let parts: Vec<&str> = ja4.split('_').collect();
        prop_assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [10, 12, 12]);
        prop_assert!(parts[0].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        prop_assert!(parts[1..].iter().all(|part| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))));
    }

    #[test]
    fn a_damaged_hello_is_refused_or_read_but_never_a_panic(offer in offers(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = offer.records(300);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(hello) = parse(&bytes) {
            hello.ja4();
        }
    }
}
