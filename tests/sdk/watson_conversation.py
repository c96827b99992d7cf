"""Holds conversations with the simulated watsonx Assistant through IBM's own SDK.

Usage: watson_conversation.py URL   (the simulator's base URL, with its demo accounts)
"""

import json
import sys
import urllib.request

from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import (
    BasicAuthenticator,
    BearerTokenAuthenticator,
    CloudPakForDataAuthenticator,
    IAMAuthenticator,
    NoAuthAuthenticator,
)
from ibm_watson import AssistantV2
from ibm_watson.assistant_v2 import RuntimeResponseGeneric

URL = sys.argv[1].rstrip("/")
ASSISTANT = "00000000-0000-4000-8000-00000000a551"
ENVIRONMENT = "00000000-0000-4000-8000-0000000e0e0e"
KEY = "simulated-watsonx-apikey"
PASSWORD = "simulated-watsonx-password"
TOKEN = "simulated-watsonx-token"


def assistant(authenticator, prefix=""):
    service = AssistantV2(version="2024-08-25", authenticator=authenticator)
    service.set_service_url(URL + prefix)
    return service


def control(path, value):
    """Calls the simulator's control API."""
    request = urllib.request.Request(
        f"{URL}/_simulator/{path}",
        data=json.dumps(value).encode(),
        headers={"content-type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def refused(call, status, message):
    """Asserts that a call is refused, with this status and a message that holds this."""
    try:
        call()
    except ApiException as refusal:
        assert refusal.status_code == status, f"wanted {status}, got {refusal.status_code}: {refusal.message}"
        assert message in refusal.message, f"wanted {message!r} in {refusal.message!r}"
        assert refusal.global_transaction_id, "no X-Global-Transaction-ID"
        return
    raise AssertionError(f"not refused, wanted {status} {message!r}")


def open_session(service):
    answer = service.create_session(assistant_id=ASSISTANT, environment_id=ENVIRONMENT)
    assert answer.get_status_code() == 201, answer.get_status_code()
    return {
        "assistant_id": ASSISTANT,
        "environment_id": ENVIRONMENT,
        "session_id": answer.get_result()["session_id"],
    }


def say(service, session, text, **more):
    message = {"message_type": "text", "text": text, **more.pop("input", {})}
    return service.message(**session, input=message, **more).get_result()


def generic(reply):
    """The items of a reply; each must be readable by the SDK's own models."""
    items = reply["output"]["generic"]
    for item in items:
        RuntimeResponseGeneric.from_dict(item)
    return items


def every_authenticator_is_let_in():
    for authenticator in (
        BasicAuthenticator("apikey", KEY),
        BearerTokenAuthenticator(TOKEN),
        IAMAuthenticator(KEY, url=URL),
        CloudPakForDataAuthenticator("demo", PASSWORD, url=URL),
        CloudPakForDataAuthenticator("demo", apikey=KEY, url=URL),
    ):
        service = assistant(authenticator, "/instances/demo")
        session = open_session(service)
        assert generic(say(service, session, "hello"))[0]["response_type"] == "text"
        service.delete_session(**session)
    refused(lambda: open_session(assistant(NoAuthAuthenticator())), 401, "Unauthorized")
    control("anonymous", True)
    open_session(assistant(NoAuthAuthenticator()))
    control("anonymous", False)
    refused(lambda: open_session(assistant(BasicAuthenticator("apikey", "wrong"))), 401, "Unauthorized")
    refused(lambda: open_session(assistant(BearerTokenAuthenticator("wrong"))), 401, "Unauthorized")


def a_conversation_goes_on_in_its_session(service):
    session = open_session(service)
    greeting = generic(say(service, session, "hello"))
    options = greeting[1]["options"]
    assert [option["label"] for option in options][:2] == ["Opening hours", "See a picture"], options
    chosen = say(service, session, options[1]["value"]["input"]["text"])
    picture = generic(chosen)[0]
    assert picture["response_type"] == "image" and picture["source"].startswith(URL), picture
    suggestions = generic(say(service, session, "order"))[0]["suggestions"]
    answer = service.message(**session, input=suggestions[0]["value"]["input"]).get_result()
    assert generic(answer)[0]["text"] == "You meant track order. Good choice.", answer
    assert [item["response_type"] for item in generic(say(service, session, "several"))].count("text") == 3
    assert generic(say(service, session, "bye"))[-1]["response_type"] == "end_session"
    reply = say(service, session, "count", input={"options": {"return_context": True}}, user_id="somebody")
    assert generic(reply)[0]["text"] == "This is turn 7 of our conversation.", reply
    assert reply["context"]["global"]["system"]["turn_count"] == 7, reply
    assert reply["user_id"] == "somebody", reply
    service.delete_session(**session)
    refused(lambda: say(service, session, "hello"), 404, "Invalid Session")


def a_turn_without_session_carries_its_context(service):
    place = {"assistant_id": ASSISTANT, "environment_id": ENVIRONMENT}
    first = service.message_stateless(**place, input={"message_type": "text", "text": "count"}).get_result()
    assert generic(first)[0]["text"] == "This is turn 1 of our conversation.", first
    again = service.message_stateless(
        **place, input={"message_type": "text", "text": "count"}, context=first["context"]
    ).get_result()
    assert generic(again)[0]["text"] == "This is turn 2 of our conversation.", again


def what_the_real_service_refuses_is_refused(service):
    session = open_session(service)
    for text in ("a\tb", "a\nb", "a\rb"):
        refused(lambda text=text: say(service, session, text), 400, "text can not contain the following characters")
    refused(lambda: say(service, session, "x" * 2049), 400, "2048")
    refused(lambda: say(service, {**session, "session_id": "none"}, "x"), 404, "Invalid Session")
    refused(lambda: say(service, {**session, "assistant_id": "other"}, "x"), 404, "not found")
    control("expire", "assistant_sessions")
    refused(lambda: say(service, session, "x"), 404, "Invalid Session")


def faults_are_seen_as_the_sdk_reports_them(service):
    session = open_session(service)
    control("faults", {"route": "assistant_message", "fault": {"status": {"status": 500}}, "times": 1})
    refused(lambda: say(service, session, "x"), 500, "Internal Server Error")
    say(service, session, "x")


def the_older_paths_work():
    """SDK 7 to 10 leave the environment out of the path; any authenticated request can be prepared with this one."""
    service = assistant(BasicAuthenticator("apikey", KEY))

    def call(path, body):
        request = service.prepare_request(
            method="POST",
            url=f"/v2/assistants/{ENVIRONMENT}/{path}",
            headers={"content-type": "application/json"},
            params={"version": "2021-11-27"},
            data=json.dumps(body),
        )
        return service.send(request).get_result()

    session = call("sessions", {})["session_id"]
    reply = call(f"sessions/{session}/message", {"input": {"text": "echo older"}})
    assert generic(reply)[0]["text"] == "older", reply
    assert generic(call("message", {"input": {"text": "echo alone"}}))[0]["text"] == "alone"


def main():
    every_authenticator_is_let_in()
    for gzip in (False, True):
        service = assistant(BasicAuthenticator("apikey", KEY))
        service.set_enable_gzip_compression(gzip)
        a_conversation_goes_on_in_its_session(service)
        a_turn_without_session_carries_its_context(service)
        what_the_real_service_refuses_is_refused(service)
        faults_are_seen_as_the_sdk_reports_them(service)
    the_older_paths_work()
    print("watson_conversation: all of it held")


if __name__ == "__main__":
    main()
