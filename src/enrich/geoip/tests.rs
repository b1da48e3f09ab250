use std::path::Path;

use super::super::mmdb_fixture::{Value, database, map};
use super::super::tests::login;
use super::super::{EnrichError, Enricher, EnricherPlan};
use super::*;

fn names(en: &'static str) -> Value {
    // The first language is not the one wanted.
    map([("names", map([("de", Value::Text("anders")), ("en", Value::Text(en))]))])
}

fn country(code: &'static str) -> Value {
    map([("country", map([("iso_code", Value::Text(code)), ("geoname_id", Value::Whole(2_635_167))]))])
}

fn nested_city() -> Value {
    map([
        ("city", names("London")),
        ("country", map([("iso_code", Value::Text("GB"))])),
        ("location", map([("latitude", Value::Double(51.5142)), ("longitude", Value::Double(-0.0931))])),
        (
            "subdivisions",
            Value::List(vec![map([("iso_code", Value::Text("ENG"))]), map([("iso_code", Value::Text("X"))])]),
        ),
    ])
}

fn nested_cities(kind: &'static str) -> Vec<u8> {
    database(kind, true, &[("203.0.113.0/24", nested_city()), ("2001:db8:1::/48", nested_city())])
}

/// A folder with these files, and the enricher that reads them.
fn opened(files: &[(Role, Vec<u8>)]) -> (tempfile::TempDir, Box<dyn Enricher>) {
    let folder = tempfile::tempdir().expect("a folder");
    for (role, bytes) in files {
        fs::write(folder.path().join(role.key()), bytes).expect("written");
    }
    let plan =
        GeoIpPlan { off: false, files: files.iter().map(|(role, _)| (*role, PathBuf::from(role.key()))).collect() };
    let enricher = plan.build(folder.path()).expect("opens").expect("is on");
    (folder, enricher)
}

fn asked(enricher: &dyn Enricher, address: &str) -> (Option<Geo>, Option<Network>) {
    let (facts, mut event) = login(address, None);
    enricher.enrich(&facts, &mut event);
    // No value may break the event's one line or turn into null.
    assert!(!event.to_line().contains("null"), "{}", event.to_line());
    (event.metadata.geo, event.metadata.network)
}

fn text(value: &Option<Text>) -> Option<&str> {
    value.as_ref().map(Text::as_str)
}

/// Puts new content in a file's place as updaters do, so that no clock is needed to see it.
fn replace(file: &Path, bytes: &[u8]) {
    let aside = file.with_extension("new");
    fs::write(&aside, bytes).expect("written");
    fs::rename(aside, file).expect("renamed");
}

#[test]
fn a_nested_city_record_gives_every_part_of_the_place_for_both_families() {
    let (_folder, enricher) = opened(&[(Role::City, nested_cities("GeoLite2-City"))]);
    for address in ["203.0.113.42", "::ffff:203.0.113.42", "2001:db8:1::7"] {
        let (geo, network) = asked(&*enricher, address);
        let geo = geo.unwrap_or_else(|| panic!("{address}"));
        assert_eq!(text(&geo.country), Some("GB"), "{address}");
        assert_eq!(text(&geo.region), Some("ENG"));
        assert_eq!(text(&geo.city), Some("London"));
        assert_eq!((geo.latitude, geo.longitude), (Some(51.5142), Some(-0.0931)));
        assert_eq!(network, None);
    }
    assert_eq!(asked(&*enricher, "198.51.100.1"), (None, None));
}

#[test]
fn a_configured_country_database_replaces_the_built_in_one() {
    let (_folder, enricher) = opened(&[(Role::Country, database("c", true, &[("203.0.113.0/24", country("nl"))]))]);
    let (geo, _) = asked(&*enricher, "203.0.113.1");
    assert_eq!(geo, Some(Geo { country: Some(Text::fixed("NL")), ..Geo::default() }));
    assert_eq!(asked(&*enricher, "8.8.8.8").0, None);
}

#[test]
fn flat_records_without_a_description_are_read_with_numbers_as_they_come() {
    let place = |latitude, longitude| {
        map([
            ("city", Value::Text("Utrecht")),
            ("country_code", Value::Text("NL")),
            ("latitude", latitude),
            ("longitude", longitude),
            ("state1", Value::Text("Provincie Utrecht")),
            ("state2", Value::Text("")),
        ])
    };
    let cities = database(
        "flat",
        false,
        &[
            ("203.0.113.0/25", place(Value::Float(52.0907), Value::Float(5.1214))),
            ("203.0.113.128/25", place(Value::Text("52.0907"), Value::Text("5.1214"))),
            ("198.51.100.0/24", map([("country_code", Value::Text("US")), ("state", Value::Text("Ohio"))])),
        ],
    );
    let asn = map([
        ("autonomous_system_number", Value::Whole(64_500)),
        ("autonomous_system_organization", Value::Text("Example ISP")),
    ]);
    let networks = database("flat", false, &[("203.0.113.0/24", asn)]);
    let (_folder, enricher) = opened(&[(Role::Asn, networks), (Role::City, cities)]);
    for address in ["203.0.113.1", "203.0.113.200"] {
        let (geo, network) = asked(&*enricher, address);
        let geo = geo.expect("a place");
        assert_eq!((text(&geo.country), text(&geo.region)), (Some("NL"), Some("Provincie Utrecht")));
        assert_eq!(text(&geo.city), Some("Utrecht"));
        assert_eq!((geo.latitude, geo.longitude), (Some(52.0907), Some(5.1214)), "{address}");
        let network = network.expect("a network");
        assert_eq!((network.asn, text(&network.organization)), (Some(64_500), Some("Example ISP")));
        assert_eq!((network.hosting, network.anonymous, network.tor), (None, None, None));
    }
    assert_eq!(text(&asked(&*enricher, "198.51.100.9").0.expect("a place").region), Some("Ohio"));
}

#[test]
fn flags_are_told_where_a_record_speaks_of_anonymity_and_nowhere_else() {
    let flags = |names: &[&'static str]| map(names.iter().map(|name| (*name, Value::Flag(true))).collect::<Vec<_>>());
    let anonymous = database(
        "GeoIP2-Anonymous-IP",
        true,
        &[
            ("203.0.113.1/32", flags(&["is_anonymous", "is_tor_exit_node"])),
            ("203.0.113.2/32", flags(&["is_hosting_provider"])),
            ("203.0.113.3/32", flags(&["is_anonymous_vpn"])),
            ("203.0.113.4/32", flags(&["is_public_proxy"])),
            ("203.0.113.5/32", map([("is_anonymous", Value::Text("yes"))])),
        ],
    );
    let isp = map([("autonomous_system_number", Value::Whole(64_501)), ("isp", Value::Text("Example"))]);
    let asn = database("GeoIP2-ISP", true, &[("203.0.113.0/24", isp)]);
    let (_folder, enricher) = opened(&[(Role::Anonymous, anonymous), (Role::Asn, asn)]);
    for (address, hosting, anonymous, tor) in [
        ("203.0.113.1", Some(false), Some(true), Some(true)),
        ("203.0.113.2", Some(true), Some(false), Some(false)),
        ("203.0.113.3", Some(false), Some(true), Some(false)),
        ("203.0.113.4", Some(false), Some(true), Some(false)),
        ("203.0.113.5", None, None, None),
        ("203.0.113.6", None, None, None),
    ] {
        let network = asked(&*enricher, address).1.expect("a network");
        assert_eq!((network.hosting, network.anonymous, network.tor), (hosting, anonymous, tor), "{address}");
        assert_eq!((network.asn, text(&network.organization)), (Some(64_501), Some("Example")));
    }
}

#[test]
fn an_enterprise_record_gives_place_and_network_at_once() {
    let Value::Map(mut record) = nested_city() else { panic!("a map") };
    let traits = [
        ("autonomous_system_number", Value::Whole(64_502)),
        ("autonomous_system_organization", Value::Text("Example Hosting")),
        ("is_hosting_provider", Value::Flag(true)),
    ];
    record.push(("traits", map(traits)));
    let (_folder, enricher) = opened(&[(Role::City, database("E", true, &[("203.0.113.0/24", map(record))]))]);
    let (geo, network) = asked(&*enricher, "203.0.113.1");
    assert_eq!(text(&geo.expect("a place").city), Some("London"));
    let network = network.expect("a network");
    assert_eq!((network.asn, network.hosting, network.anonymous), (Some(64_502), Some(true), Some(false)));
}

#[test]
fn records_that_make_no_sense_cost_their_own_values_only() {
    let record = map([
        ("city", Value::List(vec![Value::Whole(1)])),
        ("country", map([("iso_code", Value::Text("GB"))])),
        ("location", map([("latitude", Value::Double(f64::NAN)), ("longitude", Value::Double(1.0))])),
        ("subdivisions", Value::Text("ENG")),
        ("autonomous_system_number", map([])),
        ("traits", Value::Text("none")),
    ]);
    let far =
        map([("location", map([("latitude", Value::Double(91.0)), ("longitude", Value::Double(f64::INFINITY))]))]);
    let file = database(
        "odd",
        true,
        &[
            ("203.0.113.1/32", record),
            ("203.0.113.2/32", far),
            ("203.0.113.3/32", country("ZZ")),
            ("203.0.113.4/32", map([("country_code", Value::Text("None"))])),
            ("203.0.113.5/32", Value::Text("no map at all")),
            ("203.0.113.6/32", map([("country_code", Value::Text("GB")), ("city", Value::Text("Lon\r\ndon\u{202e}"))])),
        ],
    );
    let (_folder, enricher) = opened(&[(Role::City, file)]);
    let expected = Geo { country: Some(Text::fixed("GB")), ..Geo::default() };
    assert_eq!(asked(&*enricher, "203.0.113.1"), (Some(expected), None));
    for address in ["203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.5"] {
        assert_eq!(asked(&*enricher, address), (None, None), "{address}");
    }
    assert_eq!(text(&asked(&*enricher, "203.0.113.6").0.expect("a place").city), Some("London"));
}

#[test]
fn a_missing_file_or_folder_or_broken_file_at_start_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = nested_cities("GeoLite2-City");
    let middle = good.len() / 2;
    // Every child of the root leads past the end of the data.
    let mut astray = good.clone();
    astray[..8].copy_from_slice(&[0x7f; 8]);
    let mut circle = good.clone();
    circle[..8].fill(0);
    for (name, bytes) in [
        ("empty.mmdb", &[][..]),
        ("text.mmdb", b"<html>please log in to download</html>"),
        ("cut.mmdb", &good[..middle]),
        ("tail.mmdb", &good[middle..]),
        ("astray.mmdb", &astray),
        ("circle.mmdb", &circle),
    ] {
        fs::write(folder.path().join(name), bytes).expect("written");
        let plan = GeoIpPlan { off: false, files: vec![(Role::City, name.into())] };
        let error = plan.build(folder.path()).err().unwrap_or_else(|| panic!("{name} was taken"));
        assert!(matches!(error, EnrichError::Damaged { .. }), "{name}: {error:?}");
        let said = error.to_string();
        assert!(said.contains(name) && said.contains("geoip.city") && said.contains("download it again"), "{said}");
    }
    for (name, remedy) in [("missing.mmdb", "check the path"), ("", "name a MaxMind DB file")] {
        let plan = GeoIpPlan { off: false, files: vec![(Role::Asn, name.into())] };
        let said = plan.build(folder.path()).err().expect("is refused").to_string();
        assert!(said.contains(name) && said.contains("geoip.asn") && said.contains(remedy), "{said}");
    }
}

#[test]
fn a_flat_database_without_a_description_is_verified_too() {
    let good = database("flat", false, &[("203.0.113.0/24", map([("country_code", Value::Text("NL"))]))]);
    assert!(Reader::from_source(good.clone()).is_ok_and(|reader| verify(&reader).is_ok()));
    let mut circle = good.clone();
    circle[..8].fill(0);
    assert!(Reader::from_source(circle).is_ok_and(|reader| verify(&reader).is_err()));
    // A text that says it is longer than the data: `NL` becomes a text of 28 bytes.
    let at = good.windows(3).position(|bytes| bytes == b"\x42NL").expect("the code");
    let mut long = good;
    long[at] = 0x5c;
    assert!(Reader::from_source(long).is_ok_and(|reader| verify(&reader).is_err()));
}

#[test]
fn a_good_replacement_is_picked_up_and_a_bad_one_is_reported_once_and_keeps_the_old() {
    let with = |code| database("c", true, &[("203.0.113.0/24", country(code))]);
    let (folder, enricher) = opened(&[(Role::Country, with("NL"))]);
    let file = folder.path().join("country");
    let now = || asked(&*enricher, "203.0.113.1").0.and_then(|geo| geo.country).map(|code| code.to_string());
    assert!(enricher.refresh().is_empty());

    replace(&file, &with("BE"));
    assert_eq!(now().as_deref(), Some("NL"));
    let refreshed = enricher.refresh();
    assert!(refreshed.len() == 1 && refreshed[0].result.is_ok(), "{refreshed:?}");
    assert_eq!((refreshed[0].what, &refreshed[0].file), ("geoip.country", &file));
    assert_eq!(now().as_deref(), Some("BE"));
    assert!(enricher.refresh().is_empty());

    replace(&file, &with("FR")[..40]);
    let refreshed = enricher.refresh();
    assert!(matches!(refreshed[0].result, Err(EnrichError::Damaged { .. })), "{refreshed:?}");
    assert_eq!(now().as_deref(), Some("BE"));
    assert!(enricher.refresh().is_empty());

    fs::remove_file(&file).expect("removed");
    assert!(matches!(enricher.refresh()[0].result, Err(EnrichError::Read { .. })));
    assert!(enricher.refresh().is_empty());
    assert_eq!(now().as_deref(), Some("BE"));

    replace(&file, &with("DE"));
    assert!(enricher.refresh()[0].result.is_ok());
    assert_eq!(now().as_deref(), Some("DE"));
}

#[cfg(feature = "geoip-embedded")]
mod built_in {
    use super::*;

    #[test]
    fn it_passes_verification_and_is_not_copied() {
        let reader = built_in().expect("is sound").expect("is there");
        assert!(verify(&reader).is_ok());
        assert!(reader.metadata().node_count > 100_000);
    }

    #[test]
    fn it_knows_well_known_addresses_and_nothing_of_private_ones() {
        let enricher = GeoIpPlan::default().build(Path::new("")).expect("opens").expect("is on");
        for (address, code) in [
            ("8.8.8.8", "US"),
            ("::ffff:8.8.8.8", "US"),
            ("2001:4860:4860::8888", "US"),
            ("193.0.6.139", "NL"),
            ("2001:67c:2e8:22::c100:68b", "NL"),
            ("202.12.29.1", "AU"),
            ("133.11.0.1", "JP"),
            ("131.111.8.46", "GB"),
        ] {
            let (geo, network) = asked(&*enricher, address);
            assert_eq!(geo.and_then(|geo| geo.country), Some(Text::fixed(code)), "{address}");
            assert_eq!(network, None);
        }
        for address in
            ["127.0.0.1", "10.1.2.3", "192.168.1.1", "192.0.2.1", "203.0.113.42", "::1", "fe80::1", "2001:db8::1"]
        {
            assert_eq!(asked(&*enricher, address), (None, None), "{address}");
        }
    }
}
