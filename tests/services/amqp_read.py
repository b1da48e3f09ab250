"""amqp_read.py PORT QUEUE BINDING COUNT: has the durable QUEUE bound to amq.topic, and prints its messages until it has seen so many ids.

Each as a line of JSON: exchange, routing key, content type, delivery mode, id, timestamp, type, body.
"""

import json
import sys

import pika

port, queue, binding, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
credentials = pika.PlainCredentials("reader", "reader")
connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, credentials=credentials))
channel = connection.channel()
channel.queue_declare(queue, durable=True)
channel.queue_bind(queue, "amq.topic", binding)
seen = set()
if count:
    for method, properties, body in channel.consume(queue, inactivity_timeout=60):
        assert method, f"only {len(seen)} ids of {count}"
        channel.basic_ack(method.delivery_tag)
        message = [method.exchange, method.routing_key, properties.content_type, properties.delivery_mode]
        message += [properties.message_id, properties.timestamp, properties.type, body.decode()]
        print(json.dumps(message), flush=True)
        seen.add(properties.message_id)
        if len(seen) == count:
            break
connection.close()
