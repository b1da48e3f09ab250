-- The table of authtap's postgres sink: psql -f table.sql
-- `event` is the whole event; the other columns are taken out of it, so that questions need no JSON.
CREATE TABLE IF NOT EXISTS authtap_events
(
    id           uuid PRIMARY KEY,
    timestamp    timestamptz NOT NULL,
    event_type   text        NOT NULL,
    outcome      text        NOT NULL,
    reason       text,
    actor_id     text,
    actor_login  text,
    actor_email  text,
    organization text,
    ip_address   inet,
    country      text,
    event        jsonb       NOT NULL
);
CREATE INDEX IF NOT EXISTS authtap_events_timestamp ON authtap_events (timestamp);
CREATE INDEX IF NOT EXISTS authtap_events_actor ON authtap_events (actor_login, timestamp);
CREATE INDEX IF NOT EXISTS authtap_events_address ON authtap_events (ip_address, timestamp);
