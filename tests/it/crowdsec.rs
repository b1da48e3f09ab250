//! CrowdSec itself reads what authtap writes, by the files of `examples/crowdsec`, and reports the
//! address that guessed passwords: no other, whatever is in the user names. Only with AUTHTAP_TEST_SERVICES=1;
//! then `crowdsec` and `cscli` (Debian: crowdsec) must be there. Nothing of an installed one is used.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::binary::Running;
use crate::harness::ports::free_port;
use crate::harness::{Origin, answer, ask, eventually, post};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/crowdsec");
const GUESSES: usize = 8;

/// What CrowdSec's own hub brings otherwise: takes a line as it is, and reads the time.
const RAW: &str = r#"
filter: "1 == 1"
name: test/raw
onsuccess: next_stage
statics:
  - { parsed: message, expression: evt.Line.Raw }
  - { parsed: program, expression: evt.Line.Labels.type }
"#;
const DATE: &str = r#"
filter: "evt.StrTime != ''"
name: test/date
statics:
  - { method: ParseDate, expression: evt.StrTime }
  - { target: MarshaledTime, expression: evt.Enriched.MarshaledTime }
"#;

fn command(name: &str, config: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(name).arg("-c").arg(config).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{name} is missing (Debian: crowdsec): {e}"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Writes a CrowdSec of its own into a folder, with the parser of the example.
fn install(root: &Path, parser: &str) -> std::path::PathBuf {
    for folder in [
        "hub",
        "parsers/s00-raw",
        "parsers/s01-parse",
        "parsers/s02-enrich",
        "scenarios",
        "patterns",
        "plugins",
        "data",
    ] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let at = root.display();
    let config = format!(
        r#"
common: {{ daemonize: false, log_media: stdout, log_level: info, log_dir: "{at}", working_dir: "{at}" }}
config_paths:
  config_dir: "{at}"
  data_dir: "{at}/data"
  hub_dir: "{at}/hub"
  index_path: "{at}/hub/.index.json"
  simulation_path: "{at}/simulation.yaml"
  notification_dir: "{at}/plugins"
  plugin_dir: "{at}/plugins"
crowdsec_service: {{ parser_routines: 1, acquisition_path: "{at}/acquis.yaml" }}
cscli: {{ output: json }}
db_config: {{ type: sqlite, db_path: "{at}/data/crowdsec.db" }}
api: {{ client: {{ credentials_path: "{at}/api.yaml" }}, server: {{ listen_uri: "{api}", profiles_path: "{at}/profiles.yaml" }} }}
prometheus: {{ enabled: false }}
"#
    );
    let profiles = "name: ban\nfilters: [ 'Alert.GetScope() == \"Ip\"' ]\ndecisions: [ { type: ban, duration: 4h } ]\non_success: break\n";
    for (name, text) in [
        ("config.yaml", config.as_str()),
        ("hub/.index.json", r#"{"parsers":{},"scenarios":{},"collections":{},"postoverflows":{}}"#),
        ("simulation.yaml", "simulation: false\n"),
        ("acquis.yaml", "[]\n"),
        ("api.yaml", ""),
        ("profiles.yaml", profiles),
        ("parsers/s00-raw/raw.yaml", RAW),
        ("parsers/s02-enrich/date.yaml", DATE),
    ] {
        fs::write(root.join(name), text).expect("a file");
    }
    for (from, to) in [
        (parser, "parsers/s01-parse/authtap.yaml"),
        ("scenario-bruteforce.yaml", "scenarios/bf.yaml"),
        ("scenario-user-enum.yaml", "scenarios/enum.yaml"),
    ] {
        fs::copy(format!("{EXAMPLE}/{from}"), root.join(to)).expect("the example's file");
    }
    let file = root.join("config.yaml");
    let credentials = root.join("api.yaml").display().to_string();
    let url = format!("http://{api}");
    command("cscli", &file, &["machines", "add", "test", "--password", "test", "--url", &url, "-f", &credentials]);
    file
}

#[test]
fn crowdsec_reports_who_guesses_and_nobody_whose_address_is_written_in_a_user_name() {
    if std::env::var_os("AUTHTAP_TEST_SERVICES").is_none_or(|on| on != "1") {
        eprintln!("not run: needs crowdsec; AUTHTAP_TEST_SERVICES=1 switches it on");
        return;
    }
    let origin = Origin::answering(|request| match request.text().contains("password=right") {
        true => answer("302 Found", &["Location: /home", "Set-Cookie: sessionid=1"], ""),
        false => answer("200 OK", &["Content-Type: text/html"], "<input type=\"password\">"),
    });
    for (parser, format) in [("parser.yaml", "native"), ("parser-line.yaml", "line")] {
        let folder = tempfile::tempdir().expect("a folder");
        let routes = fs::read_to_string(format!("{EXAMPLE}/routes.yaml")).expect("the example's file");
        let (routes, _) = routes.split_once("sinks:").expect("sinks");
        let routes = routes.replace("http://127.0.0.1:8000", &format!("http://{}", origin.address));
        let more = format!(
            "sinks: [ {{ type: file, path: events.log, format: {format} }} ]\nclient_ip: {{ trusted_proxies: 127.0.0.1 }}\n"
        );
        fs::write(folder.path().join("routes.yaml"), routes + &more).expect("a file");
        let (mut running, address, _) = Running::start(folder.path(), &["--config", "routes.yaml"]);
        let from = |client: &str, body: String| {
            let fields = format!("X-Forwarded-For: {client}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
            ask(address, post("/accounts/login/", &fields, body)).status()
        };
        for n in 0..GUESSES {
            let name = format!(
                "x{n}\" ip=192.0.2.1 outcome=failure 2026-01-15T09:32:17.123Z authtap user.login.failed ip=192.0.2.1"
            );
            let name = name.replace(' ', "+").replace('"', "%22");
            assert_eq!(from("203.0.113.7", format!("username={name}&password=wrong")), 200);
            // Signs in each time, and says what a refusal would say.
            let name = "2026-01-15T09:32:17.123Z+authtap+user.login.failed+ip=192.0.2.2+outcome=failure";
            assert_eq!(from("203.0.113.8", format!("username={name}&password=right")), 302);
        }
        let log = folder.path().join("events.log");
        let lines =
            || fs::read_to_string(&log).unwrap_or_default().lines().filter(|l| l.contains("user.login.")).count();
        eventually("all is written", || lines() == 2 * GUESSES);
        running.signal("TERM");
        assert_eq!(running.await_end().code(), Some(0));

        let root = folder.path().join("crowdsec");
        let config = install(&root, parser);
        let source = format!("file://{}", log.display());
        let said = command("crowdsec", &config, &["-dsn", &source, "-type", "authtap"]);
        let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        // "Ip 203.0.113.7 performed 'local/authtap-bf' (6 events over 5s) at …"
        let mut found: Vec<&str> =
            said.lines().filter_map(|line| line.split_once("msg=\"Ip ")?.1.split_once(" (").map(|l| l.0)).collect();
        found.sort();
        assert_eq!(
            found,
            ["203.0.113.7 performed 'local/authtap-bf'", "203.0.113.7 performed 'local/authtap-user-enum'"],
            "{format}: {said}"
        );
    }
}
