//! From a YAML file to a checked configuration, or to every problem it has.
//!
//! `node` is the file as a tree that knows its places, `shape` the tables of what may stand in it,
//! `problem` what is wrong and how it is shown, `settings` the whole file checked, `reference` the
//! same tables for readers. Each part of the
//! program reads its own section; checking touches nothing but the text.

pub mod node;
pub mod problem;
pub mod reference;
pub mod settings;
pub mod shape;

pub use settings::{Config, check};
