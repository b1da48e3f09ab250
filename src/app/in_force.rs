//! What `/config` shows: the configuration as it is in force, not as the file has it.
//!
//! The command line goes over the file, ports that were asked for as 0 are the real ones, and what
//! only a start can follow stays as it was started with, whatever a reload read. Must never show a
//! secret: it adds addresses, a folder and words to what [`Config::shown`] shows.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Overrides, data_folder};
use crate::config::settings::{Config, Listen};

/// What was settled by the start, each by its place in what is shown.
pub(super) struct Started(Vec<(&'static str, Value)>);

impl Started {
    /// `listens` with their real ports, and as many threads for them.
    pub(super) fn new(
        config: &Config,
        overrides: &Overrides,
        listens: &[Listen],
        threads: usize,
        admin: Option<SocketAddr>,
    ) -> Started {
        let shown = config.shown();
        let of_file = |pointer: &'static str| (pointer, shown.pointer(pointer).cloned().unwrap_or_default());
        let token_env = config.admin.as_ref().and_then(|admin| admin.token_env.as_ref());
        let (data, durability) = match overrides.ephemeral {
            true => (Value::Null, json!("memory")),
            false => (json!(data_folder(config, overrides)), of_file("/durability").1),
        };
        Started(vec![
            ("/listen", listens.iter().map(Listen::shown).collect()),
            ("/workers", json!(threads)),
            ("/admin", admin.map_or(Value::Null, |listen| json!({"listen": listen, "token_env": token_env}))),
            ("/data", data),
            ("/durability", durability),
            of_file("/retention"),
            of_file("/session/share"),
        ])
    }
}

/// What is in force now that this configuration is, as JSON.
pub(super) fn text(config: &Config, overrides: &Overrides, started: &Started) -> String {
    let mut shown = config.shown();
    let upstream = overrides.upstream.as_ref().map(|one| ("/upstream", json!(one.to_string())));
    let auto = overrides.auto.map(|auto| ("/auto", json!(auto)));
    for (pointer, value) in started.0.iter().cloned().chain(upstream).chain(auto) {
        if let Some(at) = shown.pointer_mut(pointer) {
            *at = value;
        }
    }
    format!("{shown:#}\n")
}
