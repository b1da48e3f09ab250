use super::*;

fn listens(yaml: &str) -> Vec<Listen> {
    let (config, problems) = settings::check("t.yaml", &format!("version: 1\nlisten: {yaml}\n"));
    config.unwrap_or_else(|| panic!("{problems}")).listen
}

fn socket() -> Inherited {
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    Inherited { name: "web".into(), address: listener.local_addr().expect("its address"), listener }
}

const TLS: &str = "{ address: 127.0.0.1:1, tls: { cert: c.pem, key: k.pem } }";

#[test]
fn a_socket_speaks_what_the_entry_with_its_address_says() {
    let (first, second) = (socket(), socket());
    let (one, two) = (first.address, second.address);
    let wanted = format!("[{{ address: {two}, tls: {{ cert: c.pem, key: k.pem }} }}, {one}, 127.0.0.1:1]");
    let found = matched(listens(&wanted), vec![first, second]).expect("each has its entry");
    let told: Vec<_> = found.iter().map(|(listen, _)| (listen.address.clone(), listen.tls.is_some())).collect();
    assert_eq!(told, [(ListenAt::Tcp(one), false), (ListenAt::Tcp(two), true)]);
    assert!(
        found
            .iter()
            .all(|(listen, socket)| socket.local_addr().ok().map(ListenAt::Tcp) == Some(listen.address.clone()))
    );
}

#[test]
fn without_their_addresses_the_order_counts_if_there_are_as_many() {
    let (first, second) = (socket(), socket());
    let two = second.address;
    let found = matched(listens(&format!("[127.0.0.1:2, {TLS}]")), vec![first, second]).expect("as many");
    assert_eq!(found.iter().map(|(listen, _)| listen.tls.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(found[1].0.address, ListenAt::Tcp(two));
}

#[test]
fn plain_entries_need_not_agree_but_tls_is_never_guessed() {
    let found = matched(listens("127.0.0.1:2"), vec![socket(), socket()]).expect("all plain");
    assert!(found.len() == 2 && found.iter().all(|(listen, _)| listen.tls.is_none()));
    let refused = matched(listens(TLS), vec![socket(), socket()]).expect_err("which of them speaks TLS?");
    assert!(refused.to_string().contains("socket `web` on 127.0.0.1:"), "{refused}");
}
