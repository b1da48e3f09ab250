//! Signature version 4 of Amazon Web Services, for requests without a query.
//!
//! After "Signature calculations for the Authorization header" of the S3 API reference. It must
//! never print a key: what is signed holds none, and what is keyed is a hash.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::sinks::http::secret::Secret;

/// Whose requests, and for where.
#[derive(Debug)]
pub struct Keys {
    /// The access key id.
    pub access: Secret,
    /// The secret access key.
    pub secret: Secret,
    /// The token of a session, if the keys are of one.
    pub token: Option<Secret>,
    /// The region, such as `eu-central-1`.
    pub region: String,
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// `GET` or `PUT`.
    pub method: &'r str,
    /// The path as it is sent, percent-encoded.
    pub path: &'r str,
    /// The header `Host`.
    pub host: &'r str,
    /// The hash of the body, in hexadecimal.
    pub body: &'r str,
    /// Further headers that are signed: lower-case names and their values.
    pub more: &'r [(&'static str, &'r str)],
}

impl Keys {
    /// The headers that carry the signature. `now` is a time like `2026-01-15T09:32:17.123Z`.
    pub fn sign(&self, request: &Request<'_>, now: &str) -> Vec<(&'static str, String)> {
        let digits: String = now.chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
        let (date, time) = (digits.chars().take(8).collect::<String>(), format!("{digits}Z"));
        let mut headers: Vec<(&'static str, &str)> =
            vec![("host", request.host), ("x-amz-content-sha256", request.body), ("x-amz-date", &time)];
        if let Some(token) = &self.token {
            headers.push(("x-amz-security-token", token.reveal()));
        }
        headers.extend_from_slice(request.more);
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let mut canonical = format!("{}\n{}\n\n", request.method, request.path);
        for (name, value) in &headers {
            // Writing into memory cannot fail.
            let _ = writeln!(canonical, "{name}:{}", value.trim());
        }
        let _ = write!(canonical, "\n{names}\n{}", request.body);

        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
        let mut key = keyed(format!("AWS4{}", self.secret.reveal()).as_bytes(), &date);
        for step in [self.region.as_str(), "s3", "aws4_request"] {
            key = keyed(&key, step);
        }
        let signature = hex(&keyed(&key, &to_sign));
        let access = self.access.reveal();
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={access}/{scope},SignedHeaders={names},Signature={signature}");
        let mut signed = vec![
            ("authorization", authorization),
            ("x-amz-content-sha256", request.body.to_owned()),
            ("x-amz-date", time.clone()),
        ];
        if let Some(token) = &self.token {
            signed.push(("x-amz-security-token", token.reveal().to_owned()));
        }
        signed
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::http::secret::SecretSource;

    /// The worked examples of Amazon's documentation, with its published keys.
    #[test]
    fn signatures_are_those_of_amazons_examples() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            SecretSource::File(name.into()).read(folder.path()).unwrap()
        };
        let keys = Keys {
            access: secret("a", concat!("AKIA", "IOSFODNN7EXAMPLE")),
            secret: secret("s", concat!("wJalrXUtnFEMI/K7MDENG", "/bPxRfiCYEXAMPLEKEY")),
            token: None,
            region: "us-east-1".into(),
        };
        let host = "examplebucket.s3.amazonaws.com";
        let empty = sha256_hex(b"");
        let body = sha256_hex(b"Welcome to Amazon S3.");
        for (request, expected) in [
            (
                Request { method: "GET", path: "/test.txt", host, body: &empty, more: &[("range", "bytes=0-9")] },
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                Request {
                    method: "PUT",
                    path: "/test%24file.text",
                    host,
                    body: &body,
                    more: &[("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
                },
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
        ] {
            let signed = keys.sign(&request, "2013-05-24T00:00:00.000Z");
            assert!(signed[0].1.ends_with(&format!("Signature={expected}")), "{}", signed[0].1);
            assert!(!format!("{keys:?}{signed:?}").contains("wJalrXUtnFEMI"));
        }
    }
}
