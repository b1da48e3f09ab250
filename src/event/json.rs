//! An event as JSON, written by hand.
//!
//! The same bytes as `serde_json` writes by way of the derived `Serialize`, in a fifth of its
//! instructions: the line is much of what an event costs after it was decided. Names of fields come with
//! the punctuation around them as constants, texts are looked at many bytes together, since nearly none
//! has a character to be escaped, and what has one is left to `serde_json`. The invariant: what [`line`]
//! answers is what `serde_json::to_string` would; tests hold the two together, so a field that is added to
//! an event and forgotten here shows.

use std::fmt::{Display, Write};
use std::net::IpAddr;

use super::text::eight::{below, is, none};
use super::{
    Actor, Client, Event, Geo, Metadata, Mode, Network, Organization, Request, Source, Target, Text, Timestamp, Tls,
};

/// Room for a usual login, so that a line is seldom moved while it grows.
const USUAL: usize = 1024;
/// Below this, a decimal with one digit behind its point has far fewer digits than tell two numbers apart.
const PLAIN_NUMBERS: f64 = 1e9;

/// One line, without its end.
pub(super) fn line(event: &Event) -> String {
    let mut out = String::with_capacity(USUAL);
    write(event, &mut out);
    out
}

/// Adds the line, without its end, to `out`.
pub(super) fn write(event: &Event, out: &mut String) {
    let Event { schema_version, id, event_type, timestamp, outcome, reason, .. } = event;
    let Event { actor, target, organization, metadata, source, .. } = event;
    out.push_str("{\"schema_version\":");
    whole(out, u64::from(*schema_version));
    out.push_str(",\"id\":\"");
    out.push_str(id.write_to(&mut [0; 36]));
    out.push_str("\",\"event_type\":");
    text(out, event_type.as_str());
    out.push_str(",\"timestamp\":\"");
    moment(out, *timestamp);
    out.push_str("\",\"outcome\":\"");
    out.push_str(outcome.as_str());
    out.push('"');
    optional(out, ",\"reason\":", reason);
    if !actor.is_empty() {
        out.push_str(",\"actor\":{");
        who(out, actor);
    }
    if let Some(Target { kind, id, email }) = target {
        out.push_str(",\"target\":{");
        members(out, [("\"type\":", kind), ("\"id\":", id), ("\"email\":", email)]);
        out.push('}');
    }
    if let Some(Organization { id }) = organization {
        out.push_str(",\"organization\":{\"id\":");
        cleaned(out, id);
        out.push('}');
    }
    out.push_str(",\"metadata\":{");
    from_where(out, metadata);
    out.push_str("},\"source\":{");
    how_known(out, source);
    out.push_str("}}");
}

fn who(out: &mut String, actor: &Actor) {
    let Actor { id, email, login, kind } = actor;
    members(out, [("\"id\":", id), ("\"email\":", email), ("\"login\":", login), ("\"type\":", kind)]);
    out.push('}');
}

fn from_where(out: &mut String, metadata: &Metadata) {
    let Metadata { ip_address, user_agent, method, provider, session_id, .. } = metadata;
    let Metadata { geo, network, client, tls, request, fields, .. } = metadata;
    let begin = out.len();
    if let Some(ip) = ip_address {
        out.push_str("\"ip_address\":\"");
        address(out, *ip);
        out.push('"');
    }
    optional(out, ",\"user_agent\":", user_agent);
    optional(out, ",\"method\":", method);
    optional(out, ",\"provider\":", provider);
    optional(out, ",\"session_id\":", session_id);
    if let Some(Geo { country, region, city, latitude, longitude }) = geo {
        out.push_str(",\"geo\":{");
        let begin = out.len();
        optional(out, ",\"country\":", country);
        optional(out, ",\"region\":", region);
        optional(out, ",\"city\":", city);
        for (key, degrees) in [(",\"latitude\":", latitude), (",\"longitude\":", longitude)] {
            if let Some(degrees) = degrees {
                out.push_str(key);
                number(out, *degrees);
            }
        }
        end(out, begin);
    }
    if let Some(Network { asn, organization, hosting, anonymous, tor }) = network {
        out.push_str(",\"network\":{");
        let begin = out.len();
        if let Some(asn) = asn {
            out.push_str(",\"asn\":");
            whole(out, u64::from(*asn));
        }
        optional(out, ",\"organization\":", organization);
        for (key, flag) in [(",\"hosting\":", hosting), (",\"anonymous\":", anonymous), (",\"tor\":", tor)] {
            if let Some(flag) = flag {
                out.push_str(key);
                out.push_str(truth(*flag));
            }
        }
        end(out, begin);
    }
    if let Some(Client { browser, os, device, bot }) = client {
        out.push_str(",\"client\":{");
        for (key, value) in [("\"browser\":", browser), ("\"os\":", os), ("\"device\":", device)] {
            if let Some(value) = value {
                out.push_str(key);
                cleaned(out, value);
                out.push(',');
            }
        }
        out.push_str(if *bot { "\"bot\":true}" } else { "\"bot\":false}" });
    }
    if let Some(Tls { version, sni, ja4, subject }) = tls {
        out.push_str(",\"tls\":{");
        members(out, [("\"version\":", version), ("\"sni\":", sni), ("\"ja4\":", ja4), ("\"subject\":", subject)]);
        out.push('}');
    }
    if let Some(request) = request {
        asked(out, request);
    }
    if !fields.is_empty() {
        out.push_str(",\"fields\":{");
        let begin = out.len();
        for (key, value) in fields {
            out.push(',');
            cleaned(out, key);
            out.push(':');
            cleaned(out, value);
        }
        end(out, begin);
    }
    if ip_address.is_none() {
        without_first_comma(out, begin);
    }
}

fn asked(out: &mut String, request: &Request) {
    let Request { id, method, host, path, status, duration_ms, ended, trace_id } = request;
    out.push_str(",\"request\":{\"id\":");
    cleaned(out, id);
    out.push_str(",\"method\":");
    cleaned(out, method);
    optional(out, ",\"host\":", host);
    out.push_str(",\"path\":");
    cleaned(out, path);
    if let Some(status) = status {
        out.push_str(",\"status\":");
        whole(out, u64::from(*status));
    }
    out.push_str(",\"duration_ms\":");
    number(out, *duration_ms);
    if let Some(ended) = ended {
        out.push_str(",\"ended\":\"");
        out.push_str(ended.as_str());
        out.push('"');
    }
    optional(out, ",\"trace_id\":", trace_id);
    out.push('}');
}

fn how_known(out: &mut String, source: &Source) {
    let Source { route, rule, preset, mode, confidence } = source;
    for (key, value) in [("\"route\":", route), ("\"rule\":", rule), ("\"preset\":", preset)] {
        if let Some(value) = value {
            out.push_str(key);
            cleaned(out, value);
            out.push(',');
        }
    }
    out.push_str(match mode {
        Mode::Routes => "\"mode\":\"routes\",\"confidence\":",
        Mode::Preset => "\"mode\":\"preset\",\"confidence\":",
        Mode::Auto => "\"mode\":\"auto\",\"confidence\":",
        Mode::Internal => "\"mode\":\"internal\",\"confidence\":",
    });
    number(out, *confidence);
}

/// A member that may be absent, with the comma before it.
fn optional(out: &mut String, key: &'static str, value: &Option<Text>) {
    if let Some(value) = value {
        out.push_str(key);
        cleaned(out, value);
    }
}

/// Members of which each may be absent, with commas between them.
fn members<const N: usize>(out: &mut String, all: [(&'static str, &Option<Text>); N]) {
    let mut more = false;
    for (key, value) in all {
        if let Some(value) = value {
            if std::mem::replace(&mut more, true) {
                out.push(',');
            }
            out.push_str(key);
            cleaned(out, value);
        }
    }
}

/// Ends an object whose members, from `begin` on, each have a comma before them.
fn end(out: &mut String, begin: usize) {
    without_first_comma(out, begin);
    out.push('}');
}

fn without_first_comma(out: &mut String, begin: usize) {
    if out.len() > begin {
        out.remove(begin);
    }
}

/// Adds a text of an event, in quotes.
fn cleaned(out: &mut String, value: &Text) {
    match value.plain() {
        Some(plain) => {
            out.reserve(plain.len() + 2);
            out.push('"');
            out.push_str(plain);
            out.push('"');
        }
        None => text(out, value.as_str()),
    }
}

/// Adds a text in quotes.
pub(crate) fn text(out: &mut String, text: &str) {
    if none(text.as_bytes(), |word| below(word, 0x20) | is(word, b'"') | is(word, b'\\')) {
        out.reserve(text.len() + 2);
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else if let Ok(escaped) = serde_json::to_string(text) {
        // A text is never refused.
        out.push_str(&escaped);
    }
}

fn moment(out: &mut String, moment: Timestamp) {
    match moment.plain() {
        Some(text) => out.push_str(std::str::from_utf8(&text).unwrap_or_default()),
        None => shown(out, moment),
    }
}

/// Adds an address, without quotes.
pub(crate) fn address(out: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else { return shown(out, address) };
    out.reserve("255.255.255.255".len());
    for (n, octet) in address.octets().into_iter().enumerate() {
        if n > 0 {
            out.push('.');
        }
        whole(out, u64::from(octet));
    }
}

/// Adds a whole number.
pub(crate) fn whole(out: &mut String, number: u64) {
    // Few are long; each digit is pushed by itself, as room and a look at its bytes would cost more.
    if number >= 10 {
        whole(out, number / 10);
    }
    out.push(char::from(b'0' + (number % 10) as u8));
}

fn number(out: &mut String, number: f64) {
    // Nearly all have one digit behind the point, as durations and certainties are rounded to. What such a
    // number is nearest to is also its shortest way of being written: of decimals with so few digits no two
    // are the same number.
    let tenths = (number * 10.0).round();
    if number.is_sign_positive() && number < PLAIN_NUMBERS && tenths / 10.0 == number {
        let tenths = tenths as u64;
        whole(out, tenths / 10);
        out.push('.');
        out.push(char::from(b'0' + (tenths % 10) as u8));
        return;
    }
    match serde_json::Number::from_f64(number) {
        Some(number) => shown(out, number),
        None => out.push_str("null"),
    }
}

const fn truth(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

fn shown(out: &mut String, value: impl Display) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Ended, Outcome, notice, sample};

    fn same(event: &Event) {
        assert_eq!(Some(line(event)), serde_json::to_string(event).ok());
    }

    fn full() -> Event {
        let mut event = sample::login("al\"ice\\");
        let text = |text: &str| Text::other(text);
        event.reason = text("why");
        event.actor =
            Actor { id: text("1"), email: text("a@example.test"), login: text("a\tb\"c"), kind: text("user") };
        event.target = Some(Target { kind: text("user"), id: text("ü"), email: text("x@example.test") });
        event.organization = Some(Organization { id: Text::fixed("o") });
        let metadata = &mut event.metadata;
        metadata.ip_address = "2001:db8::1".parse().ok();
        metadata.user_agent = text("Mozilla/5.0 (X11; Linux x86_64)");
        (metadata.method, metadata.provider, metadata.session_id) = (text("password"), text("okta"), text("s_1"));
        metadata.fields = vec![(Text::fixed("a\"b"), Text::fixed("on")), (Text::fixed("c"), Text::fixed(""))];
        let (country, region, city) = (text("GB"), text("ENG"), text("London"));
        metadata.geo = Some(Geo { country, region, city, latitude: Some(51.5074), longitude: Some(-0.0) });
        let (hosting, anonymous, tor) = (Some(true), Some(false), Some(false));
        metadata.network = Some(Network { asn: Some(u32::MAX), organization: text("isp"), hosting, anonymous, tor });
        metadata.client =
            Some(Client { browser: text("Firefox"), os: text("Linux"), device: text("other"), bot: true });
        metadata.tls = Some(Tls { version: text("1.3"), sni: text("a"), ja4: text("t13"), subject: text("CN=a") });
        if let Some(request) = &mut metadata.request {
            (request.host, request.ended, request.trace_id) = (text("h"), Some(Ended::ClientGone), text("4bf9"));
        }
        event.source.rule = text("default");
        event.source.preset = text("django");
        event
    }

    #[test]
    fn an_event_that_has_everything_or_next_to_nothing_is_written_as_serde_json_writes_it() {
        same(&full());
        same(&sample::login("alice"));
        same(&notice::notice(notice::STARTED, Outcome::Success, &[("version", "1".into())]));
        let mut empty = sample::login("alice");
        empty.reason = None;
        empty.actor = Actor { kind: Text::other("user"), ..Actor::default() };
        empty.metadata = Metadata::default();
        same(&empty);
        let (geo, client) = (Some(Geo::default()), Some(Client::default()));
        empty.metadata = Metadata { geo, client, network: Some(Network::default()), ..Metadata::default() };
        empty.metadata.tls = Some(Tls::default());
        empty.target = Some(Target::default());
        same(&empty);
    }

    #[test]
    fn whatever_is_left_out_the_rest_is_written_as_serde_json_writes_it() {
        // One absent value after the other, by the way of the derived reader: names of fields are not repeated here.
        let whole = serde_json::to_value(full()).unwrap();
        let mut paths = Vec::new();
        fn walk(value: &serde_json::Value, path: &str, paths: &mut Vec<String>) {
            for (key, inner) in value.as_object().into_iter().flatten() {
                let path = format!("{path}/{key}");
                walk(inner, &path, paths);
                paths.push(path);
            }
        }
        walk(&whole, "", &mut paths);
        let mut read = 0;
        for path in paths {
            let mut less = whole.clone();
            let (parent, key) = path.rsplit_once('/').unwrap();
            less.pointer_mut(parent).and_then(|p| p.as_object_mut()).unwrap().remove(key);
            if let Ok(event) = serde_json::from_value::<Event>(less) {
                same(&event);
                read += 1;
            }
        }
        assert!(read > 30, "only {read} values can be left out");
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_writes_it(any in any::<String>(), plain in "[ -~]{0,40}[\\x00-\\x7fü]{0,3}[ -~]{0,10}") {
            for value in [any, plain] {
                let mut out = String::new();
                text(&mut out, &value);
                prop_assert_eq!(Some(out), serde_json::to_string(&value).ok());
            }
        }

        #[test]
        fn any_number_is_written_as_serde_json_writes_it(any in any::<f64>(), tenths in any::<i64>(), by in 0..50_u32, n in any::<u64>()) {
            let tenths = (tenths >> by) as f64;
            for value in [any, tenths / 10.0, tenths / 100.0, tenths, (any * 10_000.0).round() / 10.0] {
                let mut out = String::new();
                number(&mut out, value);
                prop_assert_eq!(Some(out), serde_json::to_string(&value).ok());
            }
            let mut out = String::new();
            whole(&mut out, n);
            prop_assert_eq!(out, n.to_string());
        }

        #[test]
        fn any_address_is_written_as_serde_json_writes_it(v4 in any::<u32>(), v6 in any::<u128>()) {
            for ip in [IpAddr::from(v4.to_be_bytes()), IpAddr::from(v6.to_be_bytes())] {
                let mut out = String::new();
                address(&mut out, ip);
                prop_assert_eq!(out, ip.to_string());
            }
        }
    }
}
