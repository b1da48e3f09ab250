"""kafka_topic.py BROKERS TOPIC: makes a topic, by asking for it: the broker of kafka.py gives it four partitions."""

import sys

from confluent_kafka import Producer

topic = Producer({"bootstrap.servers": sys.argv[1]}).list_topics(sys.argv[2], timeout=30).topics[sys.argv[2]]
assert topic.error is None and len(topic.partitions) == 4, topic.error
