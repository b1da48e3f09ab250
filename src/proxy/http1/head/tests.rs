//! Heads in pieces, heads that lie, heads written again.
