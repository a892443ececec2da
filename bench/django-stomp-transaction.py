"""
One transaction as django-stomp sends it, by the library it is built on: stomp.py, no receipt on anything. Prints JSON:
the seconds until the broker has confirmed the DISCONNECT after it, having read all before.
"""
import json
import sys
import threading
import time
import uuid

import stomp

task = json.loads(sys.argv[1])
login, queue, messages = task["login"], task["queue"], task["messages"]


class Listener(stomp.ConnectionListener):
    def __init__(self):
        self.disconnected = threading.Event()

    def on_receipt(self, frame):
        self.disconnected.set()

    def on_error(self, frame):
        sys.exit(f"the broker sent {frame.headers} {frame.body}")


def body(index):
    text = "The quick brown fox jumps over a lazy dog. 12345678901"
    return {"id": 1000000 + index, "customer": "c-000001", "text": text}


destination = f"/queue/{queue}"
connection = stomp.Connection11([(login["host"], login["port"])], vhost=login.get("vhost", "/"))
listener = Listener()
connection.set_listener("bench", listener)
connection.connect(login["user"], login["password"], wait=True)
start = time.perf_counter()
transaction = connection.begin(str(uuid.uuid4()))
for index in range(messages):
    headers = {
        "correlation-id": str(uuid.uuid4()),
        "tshoot-destination": destination,
        "x-dead-letter-routing-key": f"DLQ.{queue}",
        "x-dead-letter-exchange": "",
        "persistent": "true",
    }
    connection.send(
        destination,
        json.dumps(body(index)),
        content_type="application/json;charset=utf-8",
        headers=headers,
        transaction=transaction,
    )
connection.commit(transaction)
connection.disconnect("bye")
if not listener.disconnected.wait(300):
    sys.exit("no receipt for DISCONNECT")
print(json.dumps({"processedSeconds": time.perf_counter() - start}))
