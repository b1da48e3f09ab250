"""kafka_topic.py BROKERS TOPIC PARTITIONS: makes a topic."""

import sys

from confluent_kafka.admin import AdminClient, NewTopic

admin = AdminClient({"bootstrap.servers": sys.argv[1]})
for future in admin.create_topics([NewTopic(sys.argv[2], int(sys.argv[3]), 1)]).values():
    future.result(30)
