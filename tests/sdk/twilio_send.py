"""Uses the simulated Twilio through Twilio's own library: send, fetch, list, account, numbers, errors, signatures.

Usage: twilio_send.py URL   (the simulator's base URL, with its demo accounts)
"""

import json
import sys
import threading
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

URL = sys.argv[1].rstrip("/")
ACCOUNT = "AC00000000000000000000000000000001"
TOKEN = "simulated-twilio-token"
SERVICE = "MG00000000000000000000000000000001"
OURS = "+12125550100"
CUSTOMER = "+14155550188"


class SimulatorHttpClient(TwilioHttpClient):
    """Sends what is meant for api.twilio.com to the simulator."""

    def request(self, method, url, *args, **kwargs):
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname == "api.twilio.com", url
        query = f"?{parts.query}" if parts.query else ""
        return super().request(method, f"{URL}{parts.path}{query}", *args, **kwargs)


def client(token=TOKEN):
    return Client(ACCOUNT, token, http_client=SimulatorHttpClient(timeout=10))


def refused(call, status, code):
    """Asserts that a call is refused with this HTTP status and Twilio code."""
    try:
        call()
    except TwilioRestException as refusal:
        assert (refusal.status, refusal.code) == (status, code), f"wanted {status} {code}, got {refusal}"
        return
    raise AssertionError(f"not refused, wanted {status} {code}")


def control(path, value):
    """Calls the simulator's control API."""
    request = urllib.request.Request(
        f"{URL}/_simulator/{path}",
        data=json.dumps(value).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or "null")


def texts_are_sent_fetched_and_listed(twilio):
    sent = [twilio.messages.create(to=CUSTOMER, from_=OURS, body=f"text {number}") for number in range(5)]
    first = sent[0]
    assert first.sid.startswith("SM") and len({message.sid for message in sent}) == 5
    assert (first.status, first.direction, first.num_segments) == ("queued", "outbound-api", "1"), first.status
    assert first.error_code is None and first.date_created is not None
    fetched = twilio.messages(first.sid).fetch()
    assert (fetched.sid, fetched.body, fetched.to) == (first.sid, "text 0", CUSTOMER)
    listed = twilio.messages.list(to=CUSTOMER, page_size=2)
    assert [message.body for message in listed] == [f"text {number}" for number in (4, 3, 2, 1, 0)]
    picture = twilio.messages.create(to=CUSTOMER, messaging_service_sid=SERVICE, media_url=["https://example.com/a.png"])
    assert (picture.status, picture.num_media) == ("accepted", "1") and picture.sid.startswith("MM")


def the_account_and_its_numbers_are_shown(twilio):
    account = twilio.api.accounts(ACCOUNT).fetch()
    assert (account.sid, account.status, account.type) == (ACCOUNT, "active", "Full")
    numbers = twilio.incoming_phone_numbers.list(phone_number=OURS)
    assert [number.phone_number for number in numbers] == [OURS]
    assert numbers[0].capabilities["sms"] is True
    updated = twilio.incoming_phone_numbers(numbers[0].sid).update(sms_url="https://sms.example.com/in", sms_method="POST")
    assert updated.sms_url == "https://sms.example.com/in"


def errors_have_twilios_codes(twilio):
    create = twilio.messages.create
    refused(lambda: client("wrong").messages.create(to=CUSTOMER, from_=OURS, body="x"), 401, 20003)
    refused(lambda: twilio.messages("SM" + "0" * 32).fetch(), 404, 20404)
    refused(lambda: create(to=CUSTOMER, from_=OURS), 400, 21602)
    refused(lambda: create(to=CUSTOMER, body="x"), 400, 21603)
    refused(lambda: create(to="", from_=OURS, body="x"), 400, 21604)
    refused(lambda: create(to=CUSTOMER, from_="+12125550000", body="x"), 400, 21606)
    refused(lambda: create(to=CUSTOMER, from_=OURS, body="x" * 1601), 400, 21617)
    for number, code in (("1", 21211), ("2", 21612), ("3", 21408), ("4", 21610), ("9", 21614)):
        refused(lambda number=number: create(to=f"+1500555000{number}", from_=OURS, body="x"), 400, code)
    for number, code in (("1", 21212), ("7", 21606), ("8", 21611)):
        refused(lambda number=number: create(to=CUSTOMER, from_=f"+1500555000{number}", body="x"), 400, code)
    assert create(to=CUSTOMER, from_="+15005550006", body="magic").status == "queued"
    control("faults", {"route": "twilio_send", "fault": {"status": {"status": 429}}, "times": 1})
    refused(lambda: create(to=CUSTOMER, from_=OURS, body="x"), 429, 20429)


class Webhook(BaseHTTPRequestHandler):
    """Keeps what is posted to it, and answers as Switchboard does."""

    got = []
    arrived = threading.Condition()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(urllib.parse.parse_qsl(body, keep_blank_values=True))
        with self.arrived:
            self.got.append((self.path, fields, self.headers["X-Twilio-Signature"]))
            self.arrived.notify_all()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def webhooks_carry_valid_signatures(twilio):
    server = HTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    control("webhooks", {"number": OURS, "url": f"{base}/in?key=a%20b"})
    answer = control("texts", {"from": CUSTOMER, "to": OURS, "body": "Grüße & more 😀 +1="})
    assert answer["status"] == 204, answer
    twilio.messages.create(to=CUSTOMER, from_=OURS, body="x", status_callback=f"{base}/status?mid=1")
    with Webhook.arrived:
        assert Webhook.arrived.wait_for(lambda: len(Webhook.got) >= 3, timeout=20), "webhooks are missing"
    server.shutdown()
    validator = RequestValidator(TOKEN)
    for path, fields, signature in Webhook.got:
        assert validator.validate(base + path, fields, signature), f"{path} is signed wrongly"
        assert not validator.validate(base + path, {**fields, "Body": "forged"}, signature)
    assert Webhook.got[0][1]["Body"] == "Grüße & more 😀 +1=", Webhook.got[0]
    assert [fields.get("MessageStatus") for _, fields, _ in Webhook.got[1:]] == ["sent", "delivered"]


def main():
    twilio = client()
    texts_are_sent_fetched_and_listed(twilio)
    the_account_and_its_numbers_are_shown(twilio)
    errors_have_twilios_codes(twilio)
    webhooks_carry_valid_signatures(twilio)
    print("twilio_send: all of it held")


if __name__ == "__main__":
    main()
