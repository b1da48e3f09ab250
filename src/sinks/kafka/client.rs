//! The producer. The library finds the leader of a partition and follows it when it moves; what it
//! lacks is here: partitions by key, a bound on every call, and a fresh start after any failure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rskafka::record::Record;
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::partition::partition;
use super::{Key, Plan};
use crate::sinks::http::answer::{Answer, Fate};
use crate::sinks::http::parts::{Courier, Ledger, Limits};
use crate::sinks::net::link::build_tls_of_library;
use crate::sinks::net::topic::Topic;
use crate::sinks::{BoxFuture, BuildCx, Sink, SinkError, Verdict};
use crate::spool::Stored;

/// Below what a broker takes in one request unless told otherwise (1 MiB).
const LIMITS: Limits = Limits { events: 500, bytes: 700_000 };
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// The most topics, and partitions of them, to which connections are kept.
const MAX_KEPT: usize = 256;

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let sasl = match &plan.sign_in {
        None => None,
        Some((mechanism, user, password)) => {
            let credentials = Credentials::new(user.clone(), password.read(&cx.base)?.reveal().to_owned());
            Some(match *mechanism {
                "scram-sha-256" => SaslConfig::ScramSha256(credentials),
                "scram-sha-512" => SaslConfig::ScramSha512(credentials),
                _ => SaslConfig::Plain(credentials),
            })
        }
    };
    let tls = match &plan.tls {
        Some(plan) => build_tls_of_library(Some(plan), &cx.base)?.map(Arc::new),
        None => None,
    };
    let brokers: Vec<String> = plan.brokers.iter().map(ToString::to_string).collect();
    let producer = Producer {
        place: brokers.join(", "),
        brokers,
        topic: plan.topic.clone(),
        key: plan.key.clone(),
        compression: match plan.compression {
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            _ => Compression::NoCompression,
        },
        media: cx.media.one,
        sasl,
        tls,
        timeout: plan.timeout,
        turn: AtomicUsize::new(0),
        cluster: Mutex::default(),
    };
    Ok(Box::new(Kafka { producer, ledger: Ledger::default() }))
}

struct Kafka {
    producer: Producer,
    ledger: Ledger,
}

impl Sink for Kafka {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(&self.producer, LIMITS, batch))
    }

    /// Connects, signs in, and asks for the topic, if its name is known without an event.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let producer = &self.producer;
            let deadline = Instant::now() + producer.timeout;
            let cluster = producer.connect(deadline).await?;
            let topic = producer.topic.text();
            if !topic.contains('{') && !cluster.topics.contains_key(topic) {
                return Err(producer.told(&format!("there is no topic {topic}")));
            }
            Ok(())
        })
    }
}

struct Producer {
    place: String,
    brokers: Vec<String>,
    topic: Topic,
    key: Key,
    compression: Compression,
    media: &'static str,
    sasl: Option<SaslConfig>,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    /// Counts up for records without a key.
    turn: AtomicUsize,
    cluster: Mutex<Option<Cluster>>,
}

/// What is known of the brokers; thrown away after any failure.
struct Cluster {
    client: Client,
    /// The partitions of each topic.
    topics: HashMap<String, Vec<i32>>,
    partitions: HashMap<(String, i32), Arc<PartitionClient>>,
}

impl Producer {
    async fn connect(&self, deadline: Instant) -> Result<Cluster, SinkError> {
        let connecting = async {
            let mut builder = ClientBuilder::new(self.brokers.clone())
                .client_id("authtap")
                .max_message_size(MAX_ANSWER)
                .backoff_config(BackoffConfig {
                    init_backoff: Duration::from_millis(50),
                    max_backoff: Duration::from_secs(1),
                    base: 2.0,
                    deadline: Some(self.timeout),
                });
            if let Some(tls) = &self.tls {
                builder = builder.tls_config(tls.clone());
            }
            if let Some(sasl) = &self.sasl {
                builder = builder.sasl_config(sasl.clone());
            }
            let client = builder.build().await?;
            let topics = client.list_topics().await?;
            let topics = topics.into_iter().map(|topic| (topic.name, topic.partitions.into_iter().collect())).collect();
            Ok(Cluster { client, topics, partitions: HashMap::new() })
        };
        match timeout_at(deadline, connecting).await {
            Ok(result) => result.map_err(|error: Error| self.told(&format!("no connection: {}", why(&error)))),
            Err(_) => Err(self.told(&format!("no connection within {:?}", self.timeout))),
        }
    }

    /// Stores each event in its partition; what became of each, in order.
    async fn produce(&self, part: &[Stored]) -> Result<Vec<Fate>, SinkError> {
        let deadline = Instant::now() + self.timeout;
        let mut kept = self.cluster.lock().await;
        let mut cluster = match kept.take() {
            Some(cluster) => cluster,
            None => self.connect(deadline).await?,
        };
        let turn = self.turn.fetch_add(1, Relaxed);
        let mut groups: BTreeMap<(String, i32), Vec<usize>> = BTreeMap::new();
        let mut records: Vec<Option<Record>> = Vec::with_capacity(part.len());
        for (place, one) in part.iter().enumerate() {
            let topic = self.topic.of(&one.event);
            let Some(partitions) = cluster.topics.get(&topic).filter(|partitions| !partitions.is_empty()) else {
                return Err(self.told(&format!("there is no topic {topic}")));
            };
            let key = self.key.of(&one.line);
            let chosen = match &key {
                Some(key) => partition(key.as_bytes(), partitions.len()),
                None => turn.checked_rem(partitions.len()).unwrap_or(0),
            };
            let number = partitions.get(chosen).copied().unwrap_or(0);
            groups.entry((topic, number)).or_default().push(place);
            records.push(Some(self.record(one, key)));
        }
        let mut fates: Vec<Fate> = part.iter().map(|_| Fate::Later(String::new())).collect();
        let mut failed = false;
        for (to, places) in groups {
            let group: Vec<Record> = places.iter().filter_map(|at| records.get_mut(*at)?.take()).collect();
            let mut results = Vec::with_capacity(places.len());
            let whole = self.store(&mut cluster, &to, group.clone(), deadline).await;
            if group.len() > 1 && matches!(whole, Fate::Refused(_)) {
                // One of them is the reason.
                for record in group {
                    results.push(self.store(&mut cluster, &to, vec![record], deadline).await);
                }
            } else {
                results.resize(places.len(), whole);
            }
            for (place, fate) in places.into_iter().zip(results) {
                failed |= matches!(fate, Fate::Later(_));
                if let Some(slot) = fates.get_mut(place) {
                    *slot = fate;
                }
            }
        }
        if !failed {
            *kept = Some(cluster);
        }
        Ok(fates)
    }

    fn record(&self, one: &Stored, key: Option<String>) -> Record {
        let headers = [
            ("id", one.event.id.to_string()),
            ("type", one.event.event_type.as_str().to_owned()),
            ("content-type", self.media.to_owned()),
        ];
        let millis = one.event.timestamp.as_millis();
        Record {
            key: key.map(String::into_bytes),
            value: Some(one.line.as_bytes().to_vec()),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect(),
            timestamp: rskafka::chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default(),
        }
    }

    /// Stores records in one partition, all or none.
    async fn store(&self, cluster: &mut Cluster, to: &(String, i32), records: Vec<Record>, deadline: Instant) -> Fate {
        let storing = async {
            let partition = match cluster.partitions.get(to) {
                Some(partition) => partition.clone(),
                None => {
                    let made = cluster.client.partition_client(to.0.clone(), to.1, UnknownTopicHandling::Error).await;
                    let made = Arc::new(made?);
                    if cluster.partitions.len() >= MAX_KEPT {
                        cluster.partitions.clear();
                    }
                    cluster.partitions.insert(to.clone(), made.clone());
                    made
                }
            };
            partition.produce(records, self.compression).await.map(drop)
        };
        match timeout_at(deadline, storing).await {
            Ok(Ok(())) => Fate::Taken,
            Ok(Err(error)) if is_about_a_record(&error) => Fate::Refused(format!("Kafka answered {}", why(&error))),
            Ok(Err(error)) => Fate::Later(self.told(&why(&error)).to_string()),
            Err(_) => Fate::Later(self.told(&format!("not stored within {:?}", self.timeout)).to_string()),
        }
    }

    fn told(&self, what: &str) -> SinkError {
        SinkError::Other(format!("{}: {what}", self.place))
    }
}

impl Courier for Producer {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            match self.produce(part).await {
                Ok(fates) => Answer::Items(fates),
                Err(why) => Answer::lost(why),
            }
        })
    }
}

/// True if trying again can never help.
fn is_about_a_record(error: &Error) -> bool {
    let Error::ServerError { protocol_error, .. } = error else { return false };
    matches!(
        protocol_error,
        ProtocolError::MessageTooLarge
            | ProtocolError::RecordListTooLarge
            | ProtocolError::InvalidRecord
            | ProtocolError::InvalidTimestamp
    )
}

/// An error without what the broker may have quoted.
fn why(error: &Error) -> String {
    match error {
        Error::ServerError { protocol_error, .. } => format!("{protocol_error:?}"),
        Error::InvalidResponse(_) => "an answer without sense".into(),
        other => other.to_string(),
    }
}
