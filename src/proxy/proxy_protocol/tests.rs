use std::net::Ipv4Addr;

use proptest::prelude::*;
use proxy_header::SslInfo;
use tokio::io::AsyncWriteExt;

use super::*;

const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const TRUSTED: &str = "10.0.0.5:4000";
const STRANGER: &str = "203.0.113.9:4000";
const LONG: Duration = Duration::from_secs(10);

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn policy(required: bool) -> Policy {
    Policy::new(&["10.0.0.0/8".parse().expect("a network")], required)
}

/// Everything at once, then the end.
async fn accept(bytes: &[u8], peer: &str, required: bool) -> Result<Accepted, ProxyProtocolError> {
    let mut bytes = bytes;
    read(&mut bytes, at(peer), &policy(required), LONG).await
}

fn v2(command: u8, family: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
    let len = u16::try_from(addresses.len() + tlvs.len()).expect("short");
    [V2, &[command, family], &len.to_be_bytes(), addresses, tlvs].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("short");
    [&[kind], &len.to_be_bytes()[..], value].concat()
}

/// 9.9.9.9:1234 to 10.0.0.1:80.
const TCP4: &[u8] = &[9, 9, 9, 9, 10, 0, 0, 1, 4, 210, 0, 80];

#[tokio::test]
async fn a_trusted_header_names_client_and_destination_and_leaves_the_request() {
    let tcp6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 80\r\n".to_vec();
    let mapped = b"PROXY TCP6 ::ffff:9.9.9.9 ::ffff:10.0.0.1 1234 80\r\n".to_vec();
    for (header, client, local) in [
        (b"PROXY TCP4 9.9.9.9 10.0.0.1 1234 80\r\n".to_vec(), "9.9.9.9:1234", "10.0.0.1:80"),
        (tcp6, "[2001:db8::7]:1234", "[2001:db8::1]:80"),
        (mapped, "9.9.9.9:1234", "10.0.0.1:80"),
        (v2(0x21, 0x11, TCP4, b""), "9.9.9.9:1234", "10.0.0.1:80"),
        (encode_v2(at("[2001:db8::7]:1"), at("[2001:db8::1]:2")), "[2001:db8::7]:1", "[2001:db8::1]:2"),
    ] {
        let whole = [&header[..], HTTP].concat();
        let mut stream = &whole[..];
        let accepted = read(&mut stream, at(TRUSTED), &policy(true), LONG).await.expect("accepted");
        assert_eq!((accepted.peer, accepted.local), (at(client), Some(at(local))));
        if header.starts_with(V2) {
            assert!(accepted.rest.is_empty(), "version 2 is read exactly");
        }
        let mut seen = Vec::new();
        Prefixed::new(accepted.rest, stream).read_to_end(&mut seen).await.expect("reads");
        assert_eq!(seen, HTTP);
    }
}

#[tokio::test]
async fn a_header_that_names_nobody_leaves_the_real_peer() {
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(),
        v2(0x20, 0x00, b"", b""),
        v2(0x20, 0x11, TCP4, b""),
        v2(0x20, 0x7f, b"junk that is not looked at", b""),
        v2(0x21, 0x00, b"", &tlv(0x04, b"pad")),
        v2(0x21, 0x31, &[7; 216], b""),
    ] {
        let accepted = accept(&[&header[..], HTTP].concat(), TRUSTED, true).await.expect("accepted");
        assert_eq!((accepted.peer, accepted.local), (at(TRUSTED), None), "{header:?}");
    }
}

#[tokio::test]
async fn a_strangers_header_closes_and_its_absence_is_fine() {
    for header in [b"PROXY TCP4 6.6.6.6 10.0.0.1 1 2\r\n".to_vec(), v2(0x21, 0x11, TCP4, b""), b"PROXY ".to_vec()] {
        for required in [true, false] {
            let refused = accept(&[&header[..], HTTP].concat(), STRANGER, required).await;
            assert!(matches!(refused, Err(ProxyProtocolError::Untrusted)), "{refused:?}");
        }
    }
    let accepted = accept(HTTP, STRANGER, true).await.expect("accepted");
    assert_eq!(accepted.peer, at(STRANGER));
    assert!(HTTP.starts_with(&accepted.rest) && !accepted.rest.is_empty());
}

#[tokio::test]
async fn absence_from_a_trusted_peer_is_an_error_only_if_required() {
    assert!(matches!(accept(HTTP, TRUSTED, true).await, Err(ProxyProtocolError::Missing)));
    assert_eq!(accept(HTTP, TRUSTED, false).await.expect("accepted").peer, at(TRUSTED));
    // Requests that begin as a header does.
    for begin in [&b"POST / HTTP/1.1\r\n"[..], b"PROPFIND / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n", b"\r\n\r\nGET / "] {
        let accepted = accept(begin, TRUSTED, false).await.expect("accepted");
        assert!(begin.starts_with(&accepted.rest), "{begin:?}");
    }
}

#[tokio::test]
async fn what_begins_like_a_header_and_is_none_is_refused() {
    let mut long_line = b"PROXY TCP4 ".to_vec();
    long_line.extend([b'9'; 200]);
    let too_long = v2(0x21, 0x11, TCP4, &tlv(0x04, &[0; 800]));
    let mut short = v2(0x21, 0x11, TCP4, b"");
    short[15] = 4;
    for (header, word) in [
        (long_line, "too_long"),
        (too_long, "too_long"),
        (b"PROXY TCP4 6.6.6.6 10.0.0.1 1234 80\n".to_vec(), "malformed"),
        (b"PROXY TCP4 999.9.9.9 10.0.0.1 1234 80\r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 6.6.6.6 10.0.0.1 99999 80\r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 6.6.6.6 10.0.0.1 +1 80\r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 6.6.6.6 10.0.0.1 0123 80\r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 6.6.6.6 10.0.0.1 1234 80 \r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 6.6.6.6 10.0.0.1 1234 80 1\r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 2001:db8::7 10.0.0.1 1234 80\r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 6.6.6.6\r\n".to_vec(), "malformed"),
        (b"PROXY UDP4 6.6.6.6 10.0.0.1 1234 80\r\n".to_vec(), "malformed"),
        (b"PROXY UNKNOWNS\r\n".to_vec(), "malformed"),
        (b"PROXY \r\n".to_vec(), "malformed"),
        (v2(0x31, 0x11, TCP4, b""), "malformed"),
        (v2(0x2f, 0x11, TCP4, b""), "malformed"),
        (v2(0x21, 0x12, TCP4, b""), "malformed"),
        (v2(0x21, 0x41, TCP4, b""), "malformed"),
        (v2(0x21, 0x21, TCP4, b""), "malformed"),
        (v2(0x21, 0x11, TCP4, b"\x04\xff\xffab"), "malformed"),
        (v2(0x21, 0x11, TCP4, b"\x04\0"), "malformed"),
        (v2(0x21, 0x11, TCP4, &tlv(0x03, b"abc")), "malformed"),
        (short, "malformed"),
    ] {
        let refused = accept(&[&header[..], HTTP].concat(), TRUSTED, false).await.expect_err("refused");
        assert_eq!(refused.as_str(), word, "{:?}", header.escape_ascii().to_string());
    }
}

#[tokio::test]
async fn tlvs_tell_of_tls_and_the_name_asked_for() {
    let tlvs = [Tlv::Ssl(SslInfo::new(true, false, false, 0)), Tlv::Authority("a.test".into()), Tlv::Noop(4)];
    let header = ProxyHeader::with_tlvs(Some(ProxiedAddress::stream(at("9.9.9.9:1"), at("10.0.0.1:2"))), tlvs);
    let mut bytes = Vec::new();
    header.encode_v2(&mut bytes).expect("encodes");
    let tls = accept(&bytes, TRUSTED, true).await.expect("accepted").tls;
    assert_eq!(tls, Some(Tls { encrypted: true, authority: Some("a.test".into()) }));

    // A name that could break a line or grow a log is not kept.
    let evil = v2(0x21, 0x11, TCP4, &[tlv(0x02, b"a\r\nb"), tlv(0x02, &[b'a'; 300])].concat());
    assert_eq!(accept(&evil, TRUSTED, true).await.expect("accepted").tls, None);
}

#[tokio::test]
async fn a_checksum_is_checked_if_it_is_there() {
    // The check value of CRC-32C: no byte of it is zeroed here.
    assert_eq!(crc32c_without(b"123456789", 9), 0xe306_9283);
    let tlvs = [tlv(0x04, b"pad"), tlv(0x03, &[0; 4]), tlv(0x02, b"a.test")].concat();
    let mut header = v2(0x21, 0x11, TCP4, &tlvs);
    let place = 16 + 12 + 6 + 3;
    let sum = crc32c_without(&header, place).to_be_bytes();
    header[place..place + 4].copy_from_slice(&sum);
    assert_eq!(accept(&header, TRUSTED, true).await.expect("accepted").peer, at("9.9.9.9:1234"));
    for flipped in [17, place, header.len() - 1] {
        let mut broken = header.clone();
        broken[flipped] ^= 1;
        assert!(matches!(accept(&broken, TRUSTED, true).await, Err(ProxyProtocolError::Checksum)), "{flipped}");
    }
}

#[tokio::test]
async fn a_header_that_breaks_off_is_an_error() {
    for bytes in [&b""[..], b"PRO", b"PROXY TCP4 9.", &v2(0x21, 0x11, TCP4, b"")[..20]] {
        assert!(matches!(accept(bytes, TRUSTED, false).await, Err(ProxyProtocolError::Closed)), "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_header_is_held_no_longer_than_the_time_allowed() {
    let (mut client, mut server) = tokio::io::duplex(256);
    client.write_all(b"PROXY TCP4 9.").await.expect("writes");
    let began = tokio::time::Instant::now();
    let refused = read(&mut server, at(TRUSTED), &policy(true), LONG).await;
    assert!(matches!(refused, Err(ProxyProtocolError::Timeout)));
    assert_eq!(began.elapsed(), LONG);
}

fn checked(yaml: &str, client_ip: &str) -> (Option<Policy>, Problems) {
    let nets: Vec<IpNet> = client_ip.split_whitespace().map(|n| n.parse().expect("a network")).collect();
    let client_ip = ClientIp::new(&nets, http::HeaderName::from_static("x-forwarded-for"));
    let mut problems = Problems::new("t.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    let policy = Policy::check(Some(&node), &client_ip, &mut problems);
    (policy, problems)
}

#[test]
fn without_networks_of_its_own_a_listener_trusts_those_of_client_ip() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (policy, problems) = checked("on", "10.0.0.0/8");
    assert!(problems.is_empty());
    assert!(policy.is_some_and(|p| p.required && p.trusts(ip("::ffff:10.1.2.3")) && !p.trusts(ip("11.0.0.1"))));
    let (policy, problems) = checked("{ trusted: [192.0.2.0/24], required: off }", "10.0.0.0/8");
    assert!(problems.is_empty());
    assert!(policy.is_some_and(|p| !p.required && p.trusts(ip("192.0.2.1")) && !p.trusts(ip("10.1.2.3"))));
    assert!(checked("off", "").0.is_none());
}

#[test]
fn a_listener_that_would_trust_nobody_is_an_error() {
    for yaml in ["on", "{ trusted: [] }", "{ trusted: [nonsense] }", "{ trsuted: [10.0.0.1] }", "maybe"] {
        let (policy, problems) = checked(yaml, "");
        assert!(policy.is_none() && problems.has_errors(), "{yaml}");
    }
}

#[test]
fn towards_the_application_both_addresses_are_of_one_family() {
    let v1 = |client, local| String::from_utf8(encode_v1(at(client), at(local))).expect("text");
    assert_eq!(v1("9.9.9.9:1", "10.0.0.1:2"), "PROXY TCP4 9.9.9.9 10.0.0.1 1 2\r\n");
    assert_eq!(v1("[::ffff:9.9.9.9]:1", "10.0.0.1:2"), "PROXY TCP4 9.9.9.9 10.0.0.1 1 2\r\n");
    assert_eq!(v1("9.9.9.9:1", "[2001:db8::1]:2"), "PROXY TCP6 ::ffff:9.9.9.9 2001:db8::1 1 2\r\n");
    for version in [Version::V1, Version::V2] {
        let local = version.encode_local();
        assert_eq!(look(&local).expect("reads"), Look::Header(Header::default(), local.len()));
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
    let v6 = any::<[u8; 16]>().prop_map(|ip| IpAddr::V6(Ipv6Addr::from(ip)));
    (prop_oneof![v4, v6], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

/// Bytes that often come near a header.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let junk = proptest::collection::vec(any::<u8>(), 0..60);
    let start = prop_oneof![
        Just(Vec::new()),
        Just(V1.to_vec()),
        Just(V2.to_vec()),
        "PROXY TCP[46] [0-9.:a-f]{1,12} [0-9.]{7} [0-9]{1,6} 1\r\n".prop_map(String::into_bytes),
        (any::<u8>(), any::<u8>(), 0u8..60).prop_map(|(c, f, l)| [V2, &[c | 0x20, f, 0, l]].concat()),
    ];
    (start, junk).prop_map(|(start, junk)| [start, junk].concat())
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(client in any_address(), local in any_address()) {
        for version in [Version::V1, Version::V2] {
            let bytes = version.encode(client, local);
            let header = Header { addresses: Some((client, local)), tls: None };
            prop_assert_eq!(look(&bytes).expect("reads"), Look::Header(header, bytes.len()));
        }
    }

    #[test]
    fn an_answer_does_not_change_with_what_follows(bytes in nearly(), cut in any::<proptest::sample::Index>()) {
        let whole = look(&bytes);
        let part = bytes.get(..cut.index(bytes.len() + 1)).expect("within");
        match look(part) {
            Ok(Look::More(wanted)) => prop_assert!(wanted > 0),
            Ok(known) => prop_assert_eq!(whole.expect("the same"), known),
            Err(error) => prop_assert_eq!(whole.expect_err("the same").as_str(), error.as_str()),
        }
    }

    #[test]
    fn any_bytes_are_read_in_bounds_however_they_are_split(bytes in nearly(), step in 1usize..40, trusted: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let peer = at(if trusted { TRUSTED } else { STRANGER });
        runtime.block_on(async {
            let once = accept(&bytes, &peer.to_string(), false).await.map(|a| (a.peer, a.local, a.tls));
            let mut stepped = Stepped { left: &bytes, step, read: 0 };
            let split = read(&mut stepped, peer, &policy(false), LONG).await;
            assert!(stepped.read <= MAX_HEADER_BYTES);
            if let Ok(accepted) = &split {
                assert!(bytes[..stepped.read].ends_with(&accepted.rest));
                assert!(trusted || accepted.peer == peer);
            }
            let split = split.map(|a| (a.peer, a.local, a.tls));
            assert_eq!(once.map_err(|e| e.as_str()), split.map_err(|e| e.as_str()));
        });
    }
}

/// Gives at most `step` bytes a read.
struct Stepped<'b> {
    left: &'b [u8],
    step: usize,
    read: usize,
}

impl AsyncRead for Stepped<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = self.step.min(buf.remaining()).min(self.left.len());
        let (now, left) = self.left.split_at(n);
        buf.put_slice(now);
        self.left = left;
        self.read += n;
        Poll::Ready(Ok(()))
    }
}
