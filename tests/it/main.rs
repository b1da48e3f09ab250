//! Tests from outside, in one binary: one link, and one place to look.

mod docs;
mod examples;
