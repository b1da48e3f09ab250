use crate::config::settings;

/// The problems of a `share:`, as they are printed.
fn problems(share: &str) -> String {
    let yaml = format!("version: 1\nupstream: http://127.0.0.1:1\nsession: {{ cookies: [sid], share: {share} }}\n");
    settings::check("t.yaml", &yaml).1.to_string()
}

#[test]
fn sharing_demands_a_common_secret_and_repeats_none_that_stands_in_the_address() {
    let told = problems("{ redis: 'redis://redis.example.test' }");
    assert!(told.contains("common secret") && told.contains("secret_env"), "{told}");
    let told = problems("{ redis: 'redis://me:hunter2@redis.example.test', secret_env: S }");
    assert!(told.contains("no address of a Redis") && !told.contains("hunter2"), "{told}");
    for wrong in
        ["redis: 'r:1/70000'", "redis: 'rediss://r', tls: off", "redis: r, timeout: 2s", "redis: r, prefix: 'a b'"]
    {
        let told = problems(&format!("{{ {wrong}, secret_env: S }}"));
        assert!(told.contains("error"), "{wrong}: {told}");
    }
}

#[test]
fn a_build_without_redis_names_the_feature() {
    let told = problems("{ redis: 'redis://redis.example.test/3', secret_env: S }");
    assert_eq!(told.contains("lacks the feature `redis`"), !cfg!(feature = "redis"), "{told}");
    assert_eq!(told.is_empty(), cfg!(feature = "redis"), "{told}");
}
