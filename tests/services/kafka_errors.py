"""kafka_errors.py CODE...: prints HOST:PORT of a broker that speaks Kafka's protocol, with a topic
`authtap.events` of one partition, and answers the first requests to store records with these codes
(0 is success, 10 a message that is too large) and all later ones as it should.

Ends with its standard input. Needs PyPI `confluent-kafka`, whose library has the broker inside.
"""

import ctypes
import glob
import os
import sys

import confluent_kafka

PRODUCE = 0  # the key of the request in Kafka's protocol
folder = os.path.dirname(confluent_kafka.__file__) + ".libs"
library = ctypes.CDLL(glob.glob(os.path.join(folder, "librdkafka*"))[0])
library.rd_kafka_conf_new.restype = ctypes.c_void_p
library.rd_kafka_new.restype = ctypes.c_void_p
library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
why = ctypes.create_string_buffer(512)
handle = library.rd_kafka_new(0, ctypes.c_void_p(library.rd_kafka_conf_new()), why, ctypes.c_size_t(512))
cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(ctypes.c_void_p(handle), 1))
library.rd_kafka_mock_topic_create(cluster, b"authtap.events", 1, 1)
codes = [int(code) for code in sys.argv[1:]]
library.rd_kafka_mock_push_request_errors_array(
    cluster, ctypes.c_int16(PRODUCE), ctypes.c_size_t(len(codes)), (ctypes.c_int * len(codes))(*codes)
)
print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
sys.stdin.read()
