//! A bounded copy of the beginning of a body, made while the body goes by.

use bytes::{Bytes, BytesMut};

use crate::exchange::Kept;

/// Copies until its limit is reached.
#[derive(Debug)]
pub struct Copier {
    limit: usize,
    copied: BytesMut,
    cut: bool,
    ended: bool,
    /// True if the body broke off before its end.
    pub broke: bool,
}

impl Copier {
    /// Copies at most `limit` bytes.
    pub fn new(limit: usize) -> Copier {
        Copier { limit, copied: BytesMut::new(), cut: false, ended: false, broke: false }
    }

    /// Sees a frame's data go by.
    pub fn see(&mut self, data: &Bytes) {
        let room = self.limit - self.copied.len();
        if data.len() > room {
            self.cut = true;
        }
        self.copied.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// The body came to its end.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// What was kept.
    pub fn kept(&mut self) -> Kept {
        Kept { bytes: std::mem::take(&mut self.copied).freeze(), cut: self.cut || !self.ended, asked: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_is_kept_and_a_cut_is_said() {
        let mut copier = Copier::new(4);
        copier.see(&Bytes::from_static(b"ab"));
        copier.see(&Bytes::from_static(b"cdef"));
        copier.see(&Bytes::from_static(b"g"));
        copier.end();
        let kept = copier.kept();
        assert_eq!((&kept.bytes[..], kept.cut), (&b"abcd"[..], true));

        let mut whole = Copier::new(4);
        whole.see(&Bytes::from_static(b"abcd"));
        whole.end();
        assert!(!whole.kept().cut);

        let mut broken = Copier::new(4);
        broken.see(&Bytes::from_static(b"ab"));
        assert!(broken.kept().cut, "a body that did not end is cut");
    }
}
