-- The table of authtap's clickhouse sink. Doubles of an id (at-least-once delivery) go when parts
-- merge; `FINAL` leaves them out of a query at once. The window makes a repeated insert a no-op.
CREATE TABLE IF NOT EXISTS authtap_events
(
    id           UUID,
    timestamp    DateTime64(3, 'UTC'),
    event_type   LowCardinality(String),
    outcome      LowCardinality(String),
    reason       LowCardinality(String),
    actor_id     String,
    actor_email  String,
    actor_login  String,
    actor_type   LowCardinality(String),
    target_type  LowCardinality(String),
    target_id    String,
    target_email String,
    organization LowCardinality(String),
    ip_address   String,
    user_agent   String,
    method       LowCardinality(String),
    provider     LowCardinality(String),
    session_id   String,
    country      LowCardinality(String),
    region       LowCardinality(String),
    city         LowCardinality(String),
    asn          UInt32,
    network      LowCardinality(String),
    browser      LowCardinality(String),
    os           LowCardinality(String),
    device       LowCardinality(String),
    bot          UInt8,
    request_id   String,
    host         LowCardinality(String),
    path         String,
    status       UInt16,
    duration_ms  Float64,
    route        LowCardinality(String),
    rule         LowCardinality(String),
    mode         LowCardinality(String),
    fields       Map(String, String),
    event        String
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (event_type, timestamp, id)
SETTINGS non_replicated_deduplication_window = 1000;
