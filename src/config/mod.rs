//! From a YAML file to a checked configuration, or to every problem it has.
//!
//! `file` gives its text; `parse` reads it into `node`, a tree that knows its places; `shape` has the tables of what
//! may stand in it, and `reference` shows the same tables to readers; `problem` is what is wrong and
//! how it is shown; `settings` is the whole file, checked, and `collide` what of it cannot stand beside
//! each other. Each part of the program reads its own
//! section; checking touches nothing but the text.

pub mod collide;
pub mod file;
pub mod node;
mod parse;
pub mod problem;
pub mod reference;
pub mod settings;
pub mod shape;

pub use settings::{Config, check};
