use proptest::prelude::*;

use super::*;

const NONE: Tried = Tried(0);

fn checked(yaml: &str) -> (Option<Upstreams>, Problems) {
    let mut problems = Problems::new("t.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    (Upstreams::check(&node, &mut problems), problems)
}

/// The usual numbers of checks.
fn usual() -> Health {
    checked("{ servers: [http://a:1], health: { path: / } }").0.and_then(|u| u.health).expect("good")
}

fn chosen(balancer: &Balancer, turn: &Turn, now_ms: u64, times: usize) -> Vec<usize> {
    (0..times).map(|_| balancer.choose(turn, NONE, now_ms).expect("one")).collect()
}

fn fail(balancer: &Balancer, server: usize, now_ms: u64, times: u32) -> bool {
    (0..times).fold(false, |out, _| out | balancer.failed(server, now_ms))
}

#[test]
fn one_address_a_list_and_the_long_form_are_read() {
    for (yaml, servers) in [
        ("http://a:1", 1),
        ("[http://a:1, 'unix:/run/app.sock']", 2),
        ("{ servers: http://a:1 }", 1),
        ("{ servers: [http://a:1, http://b:1, http://c:1] }", 3),
    ] {
        let (found, problems) = checked(yaml);
        assert!(problems.is_empty(), "{problems}");
        assert!(found.is_some_and(|u| u.servers.len() == servers && u.health.is_none()), "{yaml}");
    }
    let health = checked("{ servers: [http://a:1], health: { path: /up, interval: 1s } }").0.and_then(|u| u.health);
    let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(2));
    assert_eq!(health, Some(Health { path: "/up".into(), interval, timeout, healthy_after: 2, unhealthy_after: 3 }));
    let long = "{ servers: [http://a:1], protocol: h2, proxy_protocol: v2, health: { path: /, healthy_after: 1, unhealthy_after: 5 } }";
    let long = checked(long).0.expect("good");
    assert_eq!((long.protocol, long.proxy_protocol), (Protocol::Http2, Some(proxy_protocol::Version::V2)));
    assert!(long.health.is_some_and(|h| (h.healthy_after, h.unhealthy_after) == (1, 5)));
}

#[test]
fn what_is_no_address_or_no_check_is_an_error() {
    let many: Vec<String> = (0..65).map(|i| format!("http://h{i}:1")).collect();
    let many = format!("[{}]", many.join(", "));
    for wrong in [
        "[]",
        "[http://a:1, ftp://b]",
        "[http://a:1, http://a:1]",
        "{ health: { path: / } }",
        "{ servers: [http://a:1], health: { path: up } }",
        "{ servers: [http://a:1], health: { path: /up, interval: 0 } }",
        "{ servers: [http://a:1], health: { path: /up, healthy_after: 0 } }",
        "{ servers: [http://a:1], healthy: {} }",
        "{ servers: [http://a:1], protocol: h3 }",
        "{ servers: [http://a:1], proxy_protocol: v3 }",
        &many,
    ] {
        assert!(checked(wrong).1.has_errors(), "{wrong}");
    }
}

#[test]
fn addresses_take_turns_and_threads_begin_elsewhere() {
    let balancer = Balancer::new(3);
    assert_eq!(chosen(&balancer, &Turn::default(), 0, 6), [0, 1, 2, 0, 1, 2]);
    assert_eq!(chosen(&balancer, &Turn::starting_at(4), 0, 3), [1, 2, 0]);
    assert_eq!(Balancer::new(0).choose(&Turn::default(), NONE, 0), None);
}

#[test]
fn a_retry_goes_to_another_address_until_all_were_tried() {
    let balancer = Balancer::new(3);
    let turn = Turn::default();
    assert!(fail(&balancer, 1, 0, FAILURES));
    let mut tried = NONE;
    let mut seen = Vec::new();
    while let Some(server) = balancer.choose(&turn, tried, 0) {
        seen.push(server);
        tried.add(server);
    }
    // The one that is out comes last.
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2], 1);
    let alone = Balancer::new(1);
    assert_eq!(alone.choose(&turn, NONE, 0), Some(0));
    let mut tried = NONE;
    tried.add(0);
    assert_eq!(alone.choose(&turn, tried, 0), None);
}

#[test]
fn three_failures_in_a_row_put_out_for_ten_seconds_and_then_twice_as_long() {
    let balancer = Balancer::new(2);
    assert!(!fail(&balancer, 0, 0, FAILURES - 1));
    balancer.succeeded(0);
    assert!(!fail(&balancer, 0, 0, FAILURES - 1));
    assert!(balancer.failed(0, 0));
    let mut now = 0;
    for span in [10_000, 20_000, 40_000, 60_000, 60_000] {
        // What was on its way fails too, and does not count again.
        assert!(!balancer.failed(0, now));
        assert!(!balancer.is_in(0, now + span - 1));
        assert_eq!(chosen(&balancer, &Turn::default(), now, 2), [1, 1]);
        assert!(balancer.is_in(0, now + span));
        now += span;
        // Back on probation: one failure is enough.
        assert!(balancer.failed(0, now));
    }
    balancer.succeeded(0);
    assert!(balancer.is_in(0, now));
    assert!(!fail(&balancer, 0, now, FAILURES - 1));
    assert!(balancer.failed(0, now));
    assert!(balancer.is_in(0, now + FIRST_OUT_MS));
}

#[test]
fn if_all_are_out_all_are_tried_and_the_first_success_ends_it() {
    let balancer = Balancer::new(3);
    for server in 0..3 {
        assert!(fail(&balancer, server, 0, FAILURES));
    }
    assert_eq!(chosen(&balancer, &Turn::default(), 1, 3), [0, 1, 2]);
    balancer.succeeded(2);
    assert_eq!(chosen(&balancer, &Turn::default(), 1, 3), [2, 2, 2]);
}

#[test]
fn health_falls_after_three_bad_checks_and_rises_after_two_good_ones() {
    let balancer = Balancer::new(2);
    let health = usual();
    let say = |words: &[bool]| words.iter().map(|good| balancer.checked(0, *good, &health)).collect::<Vec<_>>();
    assert_eq!(say(&[false, false, true, false, false]), [None; 5]);
    assert_eq!(say(&[false]), [Some(false)]);
    assert_eq!(balancer.down(), 1);
    assert_eq!(chosen(&balancer, &Turn::default(), 0, 2), [1, 1]);
    // A request that succeeds does not overrule the checks.
    balancer.succeeded(0);
    assert!(!balancer.is_in(0, 0));
    assert!(fail(&balancer, 0, 0, FAILURES));
    assert_eq!(say(&[true, false, true]), [None; 3]);
    assert_eq!(say(&[true]), [Some(true)]);
    assert!(balancer.is_in(0, 0), "the checks have ended the passive ejection too");
}

#[test]
fn threads_together_put_an_address_out_once() {
    let balancer = Balancer::new(2);
    let times: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..1000).filter(|_| balancer.failed(0, 5)).count())).collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).sum()
    });
    assert_eq!(times, 1);
    assert!(balancer.is_in(0, 5 + FIRST_OUT_MS) && !balancer.is_in(0, 4 + FIRST_OUT_MS));
}

/// The same rules, written down plainly.
#[derive(Clone, Default)]
struct Model {
    failures: u32,
    until: u64,
    times: u32,
    down: bool,
    streak: u32,
}

impl Model {
    fn is_in(&self, now: u64) -> bool {
        !self.down && now >= self.until
    }

    fn back(&mut self) {
        (self.failures, self.until, self.times) = (0, 0, 0);
    }

    fn failed(&mut self, now: u64) {
        self.failures += 1;
        if self.failures >= 3 && now >= self.until {
            self.until = now + [10_000, 20_000, 40_000, 60_000][usize::min(self.times as usize, 3)];
            self.times += 1;
        }
    }

    fn checked(&mut self, good: bool) {
        self.streak = if good == self.down { self.streak + 1 } else { 0 };
        if self.streak == if self.down { 2 } else { 3 } {
            (self.down, self.streak) = (!self.down, 0);
            if !self.down {
                self.back();
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Failed(usize),
    Succeeded(usize),
    Checked(usize, bool),
}

fn steps(servers: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0u64..40_000).prop_map(Step::Wait),
        6 => (0..servers).prop_map(Step::Failed),
        1 => (0..servers).prop_map(Step::Succeeded),
        3 => (0..servers, any::<bool>()).prop_map(|(server, good)| Step::Checked(server, good)),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn it_behaves_as_the_plain_rules_say(steps in (1usize..5).prop_flat_map(|n| (Just(n), steps(n)))) {
        let (servers, steps) = steps;
        let balancer = Balancer::new(servers);
        let mut model = vec![Model::default(); servers];
        let turn = Turn::default();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Wait(ms) => now += ms,
                Step::Failed(at) => {
                    balancer.failed(at, now);
                    model[at].failed(now);
                }
                Step::Succeeded(at) => {
                    balancer.succeeded(at);
                    model[at].back();
                }
                Step::Checked(at, good) => {
                    balancer.checked(at, good, &usual());
                    model[at].checked(good);
                }
            }
            let within: Vec<usize> = (0..servers).filter(|at| model[*at].is_in(now)).collect();
            for at in 0..servers {
                prop_assert_eq!(balancer.is_in(at, now), within.contains(&at));
            }
            // One round: each that is in exactly once, or all if none is.
            let expected = if within.is_empty() { (0..servers).collect() } else { within };
            let mut round = chosen(&balancer, &turn, now, expected.len());
            round.sort_unstable();
            prop_assert_eq!(round, expected);
        }
    }

    #[test]
    fn whatever_is_said_of_whatever_address_nothing_panics(
        servers in 0usize..200, at in any::<usize>(), now: u64, tried: u64, good: bool
    ) {
        let balancer = Balancer::new(servers);
        for _ in 0..FAILURES {
            balancer.failed(at, now);
        }
        balancer.checked(at, good, &usual());
        let chosen = balancer.choose(&Turn::starting_at(at), Tried(tried), now);
        if let Some(chosen) = chosen {
            prop_assert!(chosen < balancer.len() && tried & bit(chosen) == 0);
        } else {
            prop_assert!((0..balancer.len()).all(|i| tried & bit(i) != 0));
        }
    }
}
