//! A writer of small databases in the MaxMind DB format 2.0, for tests. It writes what it is told
//! to, unsound things too, and is as slow as it is short.

use ipnet::IpNet;

/// A value of a record.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(&'static str),
    Double(f64),
    Float(f32),
    Short(u16),
    Whole(u32),
    Long(u64),
    Flag(bool),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

/// A map.
pub(crate) fn map(entries: impl Into<Vec<(&'static str, Value)>>) -> Value {
    Value::Map(entries.into())
}

/// A database of IPv4 and IPv6 with these records; `description` may be left out, as the
/// redistributed databases do.
pub(crate) fn database(kind: &'static str, description: bool, records: &[(&str, Value)]) -> Vec<u8> {
    // Children of a node: 0 is "nothing" (the root is nobody's child), else a node, or a record.
    #[derive(Clone, Copy)]
    enum Child {
        Nothing,
        Node(usize),
        Record(usize),
    }
    let mut tree = vec![[Child::Nothing; 2]];
    let mut data = Vec::new();
    for (network, value) in records {
        let (bits, len) = match network.parse().expect("a network") {
            // The format keeps IPv4 below ::/96.
            IpNet::V4(v4) => (u128::from(u32::from(v4.network())), usize::from(v4.prefix_len()) + 96),
            IpNet::V6(v6) => (u128::from(v6.network()), usize::from(v6.prefix_len())),
        };
        let (mut node, offset) = (0, data.len());
        write(value, &mut data);
        for depth in 0..len {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == len {
                tree[node][side] = Child::Record(offset);
            } else if let Child::Node(next) = tree[node][side] {
                node = next;
            } else {
                tree.push([Child::Nothing; 2]);
                let next = tree.len() - 1;
                tree[node][side] = Child::Node(next);
                node = next;
            }
        }
    }
    let count = tree.len();
    let mut out = Vec::new();
    for child in tree.into_iter().flatten() {
        let number = match child {
            Child::Nothing => count,
            Child::Node(node) => node,
            Child::Record(offset) => count + 16 + offset,
        };
        out.extend(u32::try_from(number).expect("small").to_be_bytes());
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    let words = if description { vec![("en", Value::Text("a fixture"))] } else { Vec::new() };
    let metadata = map([
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(1_700_000_000)),
        ("database_type", Value::Text(kind)),
        ("description", Value::Map(words)),
        ("ip_version", Value::Short(6)),
        ("languages", Value::List(vec![Value::Text("en")])),
        ("node_count", Value::Whole(u32::try_from(count).expect("small"))),
        ("record_size", Value::Short(32)),
    ]);
    write(&metadata, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            head(2, text.len(), out);
            out.extend(text.as_bytes());
        }
        Value::Double(number) => {
            head(3, 8, out);
            out.extend(number.to_be_bytes());
        }
        Value::Float(number) => {
            head(15, 4, out);
            out.extend(number.to_be_bytes());
        }
        Value::Short(number) => whole(5, &number.to_be_bytes(), out),
        Value::Whole(number) => whole(6, &number.to_be_bytes(), out),
        Value::Long(number) => whole(9, &number.to_be_bytes(), out),
        Value::Flag(flag) => head(14, usize::from(*flag), out),
        Value::List(items) => {
            head(11, items.len(), out);
            items.iter().for_each(|item| write(item, out));
        }
        Value::Map(entries) => {
            head(7, entries.len(), out);
            for (key, item) in entries {
                write(&Value::Text(key), out);
                write(item, out);
            }
        }
    }
}

/// A whole number without its leading zeros.
fn whole(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    head(kind, bytes.len() - zeros, out);
    out.extend(&bytes[zeros..]);
}

/// The control byte or bytes: type and size.
fn head(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (low, more) = if size < 29 { (size as u8, None) } else { (29, Some(u8::try_from(size - 29).expect("small"))) };
    if kind < 8 {
        out.push(kind << 5 | low);
    } else {
        out.extend([low, kind - 7]);
    }
    out.extend(more);
}
