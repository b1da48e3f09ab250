"""kafka_read.py BROKERS TOPIC COUNT: prints so many records as JSON lines: partition, offset, key, value, headers.

A client of its own (librdkafka), so that nobody marks their own work.
"""

import json
import sys

from confluent_kafka import Consumer, TopicPartition

brokers, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "test"})
partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
while count:
    message = consumer.poll(30)
    assert message is not None and message.error() is None, message and message.error()
    headers = {name: value.decode() for name, value in message.headers() or []}
    key = message.key().decode() if message.key() is not None else None
    fields = [message.partition(), message.offset(), key, message.value().decode(), headers, message.timestamp()[1]]
    print(json.dumps(fields), flush=True)
    count -= 1
