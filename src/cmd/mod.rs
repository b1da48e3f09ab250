//! The subcommands, one file each.
//!
//! A subcommand takes its options and its output handles as arguments; it never reads the command
//! line, never prints past its handles and never ends the process.

pub mod tail;
