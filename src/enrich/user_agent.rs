//! What a client says it is: browser, system, class of device, and whether it is a program.
//!
//! Everything here is hearsay: the header says what its sender wants it to say. It is never used
//! to decide an outcome. Work and memory are bounded: at most 512 characters are looked at, and
//! answers are kept in a cache of fixed size, so that strangers cannot make it grow.
//!
//! Browser and system come from uap-core's regexes, which cost 17 to 35 MB of resident memory from the
//! first request on. Its device regexes are left out: they are more than half of all its regexes and
//! most of the time of a parse, and what they add (the maker's model name) is no part of an event.
//! The four classes of device follow from a few words.

use std::sync::OnceLock;

use quick_cache::sync::Cache;
use regex::Regex;
use serde::Deserialize;
use ua_parser::{os, user_agent};

use super::{EnrichError, Enricher, EnricherKind, EnricherPlan, switch};
use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::{Client, Event, Text};
use crate::exchange::Exchange;

/// The entry of [`super::ENRICHERS`].
pub const KIND: EnricherKind = EnricherKind {
    name: "user_agent",
    doc: "what clients say they are: browser, system, device, bot; or `off`",
    default: "on",
    fields: USER_AGENT_FIELDS,
    check: |node, problems| Box::new(check(node, problems)),
};

/// The top-level key with its shape.
pub const FIELD: Field = KIND.field(&[Kind::Word(&["on", "off"]), Kind::Map(USER_AGENT_FIELDS)]);

/// The keys of `user_agent:`.
pub const USER_AGENT_FIELDS: &[Field] = &[
    Field::new(
        "cache",
        Kind::Int(MIN_CACHE, MAX_CACHE),
        "4096",
        "how many different user agents are remembered, in entries",
    ),
    Field::new("device", Kind::Bool, "on", "tell the class of device: desktop, mobile, tablet or other"),
];

const MIN_CACHE: u64 = 16;
const MAX_CACHE: u64 = 65_536;
const DEFAULT_CACHE: usize = 4096;

/// The checked `user_agent:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAgentPlan {
    off: bool,
    cache: usize,
    device: bool,
}

impl Default for UserAgentPlan {
    fn default() -> UserAgentPlan {
        UserAgentPlan { off: false, cache: DEFAULT_CACHE, device: true }
    }
}

/// Checks the value of `user_agent:`, which may be absent.
pub fn check(node: Option<&Node>, problems: &mut Problems) -> UserAgentPlan {
    let standard = UserAgentPlan::default();
    let Some(node) = node else { return standard };
    if let Some(on) = switch(node) {
        return UserAgentPlan { off: !on, ..standard };
    }
    let Some(map) = node.map(USER_AGENT_FIELDS, problems) else { return standard };
    let cache = map.int("cache", MIN_CACHE..=MAX_CACHE, problems).and_then(|n| usize::try_from(n).ok());
    UserAgentPlan {
        off: false,
        cache: cache.unwrap_or(standard.cache),
        device: map.bool("device", problems).unwrap_or(standard.device),
    }
}

impl EnricherPlan for UserAgentPlan {
    fn build(&self, _base: &std::path::Path) -> Result<Option<Box<dyn Enricher>>, EnrichError> {
        if self.off {
            return Ok(None);
        }
        Ok(Some(Box::new(UserAgent { cache: Cache::new(self.cache), device: self.device })))
    }
}

struct UserAgent {
    cache: Cache<Text, Client>,
    device: bool,
}

impl Enricher for UserAgent {
    fn enrich(&self, facts: &Exchange, event: &mut Event) {
        // The event's own text is cleaned and capped already; the header is the same before that.
        let from_header;
        let agent = match &event.metadata.user_agent {
            Some(agent) => agent,
            None => {
                let header = facts.request.headers.get(http::header::USER_AGENT);
                from_header = header.and_then(|value| Text::user_agent(value.as_bytes()));
                let Some(agent) = &from_header else { return };
                agent
            }
        };
        let client = self.cache.get(agent).unwrap_or_else(|| {
            let client = recognise(agent.as_str(), self.device);
            self.cache.insert(agent.clone(), client.clone());
            client
        });
        event.metadata.client = Some(client);
    }

    fn warm_up(&self) {
        Parser::shared();
    }
}

/// What a user agent says it is; looks at no more than [`crate::event::text::USER_AGENT`]
/// characters.
fn recognise(agent: &str, device: bool) -> Client {
    let end = agent.char_indices().nth(crate::event::text::USER_AGENT).map_or(agent.len(), |(at, _)| at);
    let agent = agent.get(..end).unwrap_or_default();
    let parser = Parser::shared();
    let browser = parser.browser.as_ref().and_then(|p| p.extract(agent)).map(|found| found.family);
    let os = parser.os.as_ref().and_then(|p| p.extract(agent)).map(|found| found.os);
    let bot = parser.bot.as_ref().is_some_and(|re| re.is_match(agent));
    Client {
        browser: browser.and_then(|name| Text::other(name.trim())),
        os: os.and_then(|name| Text::other(name.trim())),
        device: device.then(|| Text::fixed(device_class(agent, bot))),
        bot,
    }
}

/// The regexes, compiled once a process, after the first request or at the first user agent: a program
/// that nobody uses does not pay for them, nor does a reload pay again.
struct Parser {
    browser: Option<user_agent::Extractor<'static>>,
    os: Option<os::Extractor<'static>>,
    bot: Option<Regex>,
}

#[derive(Deserialize)]
struct Data {
    user_agent_parsers: Vec<user_agent::Parser<'static>>,
    os_parsers: Vec<os::Parser<'static>>,
}

impl Parser {
    fn shared() -> &'static Parser {
        static PARSER: OnceLock<Parser> = OnceLock::new();
        PARSER.get_or_init(Parser::new)
    }

    /// Data and patterns are compiled in and a test reads them, so that `None` does not occur; if
    /// it did, events would lack names and nothing else.
    fn new() -> Parser {
        let data: Option<Data> = serde_json::from_str(include_str!("../../data/ua-regexes.json")).ok();
        let (browser, os) = data.map_or((None, None), |data| {
            let browser = user_agent::Builder::new().push_all(data.user_agent_parsers).ok();
            let os = os::Builder::new().push_all(data.os_parsers).ok();
            (browser.and_then(|b| b.build().ok()), os.and_then(|b| b.build().ok()))
        });
        Parser { browser, os, bot: Regex::new(BOT).ok() }
    }
}

/// Programs that say so: crawlers, scripts, scanners, automated browsers.
///
/// `Cubot` makes phones, hence the care before `bot`. okhttp, CFNetwork and Dart are left out:
/// they are what ordinary mobile applications send. A URL after `+` is the crawlers' custom of
/// leaving an address for complaints.
const BOT: &str = r"(?xi)
      (?: ^ | [^u] | [^c]u ) bots? (?: [^a-z] | $ )
    | crawl | spider | scrap(?:er|y|ing) | slurp | \+https?:// | archiver | fetcher
    | headless | phantomjs | puppeteer | playwright | selenium | webdriver | lighthouse | prerender
    | facebookexternalhit | mediapartners-google | bingpreview | uptime | monitoring | healthcheck | pingdom
    | sqlmap | nikto | nmap | nuclei | masscan | zgrab | gobuster | feroxbuster | dirbuster | wfuzz | \bffuf | \(hydra\)
    | ^ (?: curl | wget | libcurl | httpie | xh | python | aiohttp | httpx | urllib3? | requests | pycurl
          | go-http-client | go-resty | fasthttp | hyper | reqwest | ureq
          | java | jakarta | apache-httpclient | apache-http | jersey | unirest
          | libwww-perl | lwp | mechanize | perl | ruby | faraday | rest-client | httparty | typhoeus
          | php | guzzle(?:http)? | symfony | zend_http_client
          | node | node-fetch | node-superagent | undici | axios | got | needle | deno | bun
          | postmanruntime | insomnia | bruno | hoppscotch | powershell | winhttp | restsharp
          | apachebench | wrk | hey | vegeta | k6 | locust | jmeter | siege | gatling )
        (?: [-\ /;_(.] | $ )
    | ^ mozilla/5\.0\ \(windows\ nt;.*\)\ windowspowershell/
";

/// The class of device.
///
/// Android tablets are those that leave out `Mobile` (so Android's own advice to browsers). An
/// iPad with its factory settings says that it is a Macintosh, and so it is told here: nothing in
/// the header gives it away. What a program says about a device is about no device.
fn device_class(agent: &str, bot: bool) -> &'static str {
    let agent = agent.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| agent.contains(word));
    if bot {
        return "other";
    }
    if has(&[
        "smart-tv",
        "smarttv",
        "googletv",
        "android tv",
        "appletv",
        "apple tv",
        "hbbtv",
        "web0s",
        "bravia",
        "; aft",
    ]) || has(&["crkey", "roku", "playstation", "nintendo", "xbox", "oculus", "apple watch"])
    {
        return "other";
    }
    if has(&["ipad", "tablet", "kindle", "silk/", "playbook"]) && !has(&["tablet pc"]) {
        return "tablet";
    }
    if has(&[
        "iphone",
        "ipod",
        "windows phone",
        "iemobile",
        "opera mini",
        "blackberry",
        "bb10",
        "kaios",
        "mobile",
        "mobi ",
    ]) {
        return "mobile";
    }
    if has(&["android"]) {
        return "tablet";
    }
    if has(&["windows nt", "windows;", "macintosh", "mac os x", "x11", "cros", "linux", "bsd"]) {
        return "desktop";
    }
    "other"
}

#[cfg(test)]
mod tests;
