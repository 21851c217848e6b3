"""Paho for Python as a client under test. The line protocol is that of program_test.go."""

import json
import queue
import sys
import threading
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 20
writing = threading.Lock()


def write(**line):
    with writing:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def to_properties(kind, m):
    p = Properties(kind)
    if "contentType" in m:
        p.ContentType = m["contentType"]
    if "responseTopic" in m:
        p.ResponseTopic = m["responseTopic"]
    if "correlationData" in m:
        p.CorrelationData = m["correlationData"].encode()
    if "format" in m:
        p.PayloadFormatIndicator = m["format"]
    if "expirySeconds" in m:
        p.MessageExpiryInterval = m["expirySeconds"]
    if "alias" in m:
        p.TopicAlias = m["alias"]
    for name, value in m.get("user", []):
        p.UserProperty = (name, value)  # appends
    return p


def to_message(got):
    m = {"topic": got.topic, "payload": got.payload.decode(), "qos": got.qos, "retain": bool(got.retain)}
    p = getattr(got, "properties", None)
    if p is None:
        return m
    for name, attribute in (
        ("contentType", "ContentType"),
        ("responseTopic", "ResponseTopic"),
        ("format", "PayloadFormatIndicator"),
        ("expirySeconds", "MessageExpiryInterval"),
        ("identifiers", "SubscriptionIdentifier"),
        ("user", "UserProperty"),
    ):
        if hasattr(p, attribute):
            m[name] = getattr(p, attribute)
    if hasattr(p, "CorrelationData"):
        m["correlationData"] = p.CorrelationData.decode()
    return m


class Client:
    def __init__(self, arrived):
        self.arrived = arrived

    def connect(self, o):
        self.connected = threading.Event()
        self.subscribed = threading.Event()
        self.session_present = False
        self.granted = []
        self.aliased = {}  # the topic of each alias
        url = urlparse(o["url"])
        self.version = o["version"]
        is5 = self.version == 5
        # From 2.0 on the library asks for the form of the callbacks; these are as in 1.x.
        api = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []
        self.client = mqtt.Client(
            *api,
            o["id"],
            clean_session=None if is5 else not o["persistent"],
            protocol=self.version,
            transport="websockets" if url.scheme == "ws" else "tcp",
        )
        # With a limit, which is 20, what is published may overtake what waits for a place.
        self.client.max_inflight_messages_set(0)
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = self.on_subscribe
        self.client.on_message = lambda client, userdata, got: self.arrived(to_message(got))
        self.client.reconnect_delay_set(min_delay=0.05, max_delay=0.1)
        if url.path:
            self.client.ws_set_options(path=url.path)
        if o["will"]:
            w = o["will"]
            self.client.will_set(
                w["topic"], w["payload"], w["qos"], w["retain"],
                properties=to_properties(PacketTypes.WILLMESSAGE, w) if is5 else None,
            )
        more = {}
        if is5:
            more["clean_start"] = not o["persistent"]
            more["properties"] = Properties(PacketTypes.CONNECT)
            if o["persistent"]:
                more["properties"].SessionExpiryInterval = 3600
        self.client.connect(url.hostname, url.port, **more)
        self.client.loop_start()
        if not self.connected.wait(PATIENCE):
            raise TimeoutError("no CONNACK")
        if o["filters"]:
            self.subscribe(o)
        return {"sessionPresent": self.session_present}

    def subscribe(self, o):
        if self.version == 5:
            properties = Properties(PacketTypes.SUBSCRIBE)
            if o["identifier"]:
                properties.SubscriptionIdentifier = o["identifier"]
            self.client.subscribe([(f, SubscribeOptions(qos=o["qos"])) for f in o["filters"]], properties=properties)
        else:
            self.client.subscribe([(f, o["qos"]) for f in o["filters"]])
        if not self.subscribed.wait(PATIENCE):
            raise TimeoutError("no SUBACK")
        if self.granted != [o["qos"]] * len(o["filters"]):
            raise ValueError("granted %s" % self.granted)

    def on_connect(self, client, userdata, flags, reason, properties=None):
        # Called for each connection. 3.1 and 3.1.1 have the number of the return code, 5.0 has an object like one.
        if reason == 0 and not self.connected.is_set():
            self.session_present = bool(flags["session present"])
            self.connected.set()

    def on_subscribe(self, client, userdata, mid, granted, properties=None):
        self.granted = [getattr(g, "value", g) for g in granted]
        self.subscribed.set()

    def publish(self, messages):
        for sent in self.start(messages):
            sent.wait_for_publish(PATIENCE)
            if not sent.is_published():
                raise TimeoutError("not acknowledged")
        return {}

    def send(self, messages):
        self.start(messages)
        return {}

    def start(self, messages):
        is5 = self.version == 5
        return [
            self.client.publish(
                self.topic(m), m["payload"], m["qos"], m["retain"],
                properties=to_properties(PacketTypes.PUBLISH, m) if is5 else None,
            )
            for m in messages
        ]

    def topic(self, m):
        alias, topic = m.get("alias"), m["topic"]
        if alias and self.aliased.get(alias) == topic:
            return ""
        if alias:
            self.aliased[alias] = topic
        return topic

    def disconnect(self, _):
        self.client.disconnect()
        self.client.loop_stop()
        return {}


    def abandon(self, _):
        return self.disconnect(_)


class Worker:
    """Carries out the commands for one client, one after another."""

    def __init__(self, number):
        self.number = number
        self.client = Client(lambda message: write(client=number, message=message))
        self.commands = queue.Queue()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            command = self.commands.get()
            try:
                argument = command.get("options") or command.get("messages")
                write(client=self.number, answer=getattr(self.client, command["do"])(argument))
            except Exception as err:  # pylint: disable=broad-except
                write(client=self.number, error=repr(err))


def main():
    workers = {}
    for line in sys.stdin:
        command = json.loads(line)
        number = command["client"]
        if number not in workers:
            workers[number] = Worker(number)
        workers[number].commands.put(command)


main()
