use super::super::tests::login;
use super::*;

fn built(cache: usize) -> UserAgent {
    UserAgent { cache: Cache::new(cache), device: true }
}

fn asked(enricher: &UserAgent, agent: Option<&[u8]>) -> Option<Client> {
    let (facts, mut event) = login("192.0.2.1", agent);
    enricher.enrich(&facts, &mut event);
    event.metadata.client
}

fn name(value: &Option<Text>) -> Option<&str> {
    value.as_ref().map(Text::as_str)
}

const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

#[test]
fn common_clients_are_told_apart() {
    let enricher = built(64);
    for (agent, browser, os, device, bot) in [
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
            "Firefox",
            "Linux",
            "desktop",
            false,
        ),
        (CHROME, "Chrome", "Windows", "desktop", false),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
            "Mobile Safari",
            "iOS",
            "mobile",
            false,
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Mobile/15E148 Safari/604.1",
            "Mobile Safari",
            "iOS",
            "tablet",
            false,
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
            "Chrome Mobile",
            "Android",
            "mobile",
            false,
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; SM-X710) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
            "Chrome",
            "Android",
            "tablet",
            false,
        ),
        (
            "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0.0.0 Mobile Safari/537.36",
            "Chrome Mobile",
            "Android",
            "mobile",
            false,
        ),
        (
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/5.0 TV Safari/537.36",
            "Safari",
            "Tizen",
            "other",
            false,
        ),
        ("curl/8.5.0", "curl", "", "other", true),
        ("python-requests/2.32.3", "Python Requests", "", "other", true),
        ("Go-http-client/1.1", "Go-http-client", "", "other", true),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot", "", "other", true),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36",
            "HeadlessChrome",
            "Linux",
            "other",
            true,
        ),
    ] {
        let client = asked(&enricher, Some(agent.as_bytes())).expect("a client");
        let found =
            (name(&client.browser).unwrap_or(""), name(&client.os).unwrap_or(""), name(&client.device), client.bot);
        assert_eq!(found, (browser, os, Some(device), bot), "{agent}");
        // Once more, from the cache.
        assert_eq!(asked(&enricher, Some(agent.as_bytes())), Some(client));
    }
}

#[test]
fn programs_are_bots_and_applications_are_not() {
    for agent in [
        "Wget/1.21.4",
        "Python/3.11 aiohttp/3.9.1",
        "python-httpx/0.27.0",
        "Java/17.0.9",
        "Apache-HttpClient/4.5.14 (Java/17.0.9)",
        "axios/1.7.2",
        "node",
        "PostmanRuntime/7.43.0",
        "libwww-perl/6.72",
        "sqlmap/1.8#stable (https://sqlmap.org)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.22621.4391",
        "TelegramBot (like TwitterBot)",
        "Mozilla/4.0 (Hydra)",
    ] {
        assert!(recognise(agent, true).bot, "{agent}");
    }
    for agent in [
        CHROME,
        "okhttp/4.12.0",
        "MyApp/3.1 CFNetwork/1490.0.4 Darwin/23.2.0",
        "Dart/3.2 (dart:io)",
        "Mozilla/5.0 (Linux; Android 12; CUBOT NOTE 20) AppleWebKit/537.36 Chrome/120.0.0.0 Mobile Safari/537.36",
        "Nodebook/1.0",
    ] {
        assert!(!recognise(agent, true).bot, "{agent}");
    }
}

#[test]
fn no_header_says_nothing_and_garbage_is_something_unknown() {
    let enricher = built(16);
    assert_eq!(asked(&enricher, None), None);
    assert_eq!(asked(&enricher, Some(b"")), None);
    let unknown = Client { device: Some(Text::fixed("other")), ..Client::default() };
    assert_eq!(asked(&enricher, Some(b"\xff\xfe\x80")), Some(unknown.clone()));
    let garbage: Vec<u8> = (0..10_240u32).map(|i| 0x21 + (i.wrapping_mul(2_654_435_761) >> 24) as u8 % 0x5e).collect();
    let client = asked(&enricher, Some(&garbage)).expect("a client");
    assert!(!client.bot);
    // What stands beyond the cap is not looked at, even by a caller that did not cap.
    assert_eq!(recognise(&format!("{}curl Firefox/1.0 Googlebot/2.1", "é".repeat(512)), true), unknown);
}

#[test]
fn the_events_own_text_is_preferred_to_the_header() {
    let (facts, mut event) = login("192.0.2.1", Some(b"curl/8.5.0"));
    event.metadata.user_agent = Some(Text::other(CHROME).expect("a text"));
    built(16).enrich(&facts, &mut event);
    let client = event.metadata.client.expect("a client");
    assert_eq!((name(&client.browser), client.bot), (Some("Chrome"), false));
}

#[test]
fn the_device_is_left_out_where_it_is_switched_off() {
    assert_eq!(recognise(CHROME, false).device, None);
    assert_eq!(name(&recognise(CHROME, true).device), Some("desktop"));
}

#[test]
fn the_cache_stays_within_its_bound() {
    let enricher = built(64);
    for i in 0..2_000 {
        assert!(asked(&enricher, Some(format!("client-{i}/1.0").as_bytes())).is_some());
    }
    assert!(!enricher.cache.is_empty());
    assert!(enricher.cache.len() as u64 <= enricher.cache.capacity(), "{}", enricher.cache.len());
    assert!(enricher.cache.capacity() <= 128, "{}", enricher.cache.capacity());
}

#[test]
fn every_regex_that_is_built_in_compiles() {
    let parser = Parser::new();
    assert!(parser.browser.is_some() && parser.os.is_some() && parser.bot.is_some());
}
