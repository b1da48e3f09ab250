//! From a YAML file to a checked configuration, or to every problem it has.

pub mod node;
pub mod problem;
pub mod shape;
