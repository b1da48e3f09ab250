"""kafka.py BROKERS: prints HOST:PORT[,HOST:PORT…] of a broker that speaks Kafka's protocol and keeps records in memory.

Ends with its standard input. Needs PyPI `confluent-kafka`, whose library has the broker inside.
"""

import logging
import re
import sys
import threading

from confluent_kafka import Producer


class Address(logging.Handler):
    def emit(self, record):
        found = re.search(r"replaced with (\S+)", record.getMessage())
        if found:
            print(found[1], flush=True)


log = logging.getLogger("kafka")
log.setLevel(logging.DEBUG)
log.addHandler(Address())
producer = Producer({"test.mock.num.brokers": int(sys.argv[1]), "bootstrap.servers": "none:1"}, logger=log)
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
while not done.is_set():
    producer.poll(0.2)
