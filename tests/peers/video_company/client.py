"""The video company's Python client, unmodified, against our endpoint.

HOST, API_KEY, SANDBOX_API_KEY and TESSERA (the binary, with its address and key in the environment) tell
where. Access tokens live 12 seconds, so that the client's timer renews them soon: it does 10 seconds before.
"""

import os
import subprocess
import time
from threading import Thread

import apivideo
from apivideo import AuthenticatedApiClient
from apivideo.api.videos_api import VideosApi
from apivideo.exceptions import ApiException

PATIENCE = 20


def client(api_key):
    made = AuthenticatedApiClient(api_key)
    made.configuration.host = os.environ["HOST"]
    return made


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def refused(call):
    """The status of a call that fails."""
    try:
        call()
    except ApiException as error:
        return error.status
    raise AssertionError("it was not refused")


def revoke(token):
    """Ends a token or, by its refresh token, a session, until every service knows."""
    command = [os.environ["TESSERA"], "token", "revoke", "-", "--wait"]
    done = subprocess.run(command, input=token, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def it_signs_in_calls_and_renews_on_its_timer():
    with client(os.environ["API_KEY"]) as signed_in:
        assert signed_in.token_type == "Bearer"
        VideosApi(signed_in).list()
        first = signed_in._access_token
        until("a renewal", lambda: signed_in._access_token != first)
        VideosApi(signed_in).list()
    # As the block ends it refreshes once more, which must find its place.


def two_threads_refresh_at_once():
    signed_in = client(os.environ["API_KEY"])
    signed_in.connect()
    failures = []

    def refresh():
        try:
            signed_in.refresh_token()
        except Exception as error:  # Whatever it is, the test must see it.
            failures.append(error)

    threads = [Thread(target=refresh) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failures == [], failures
    VideosApi(signed_in).list()
    signed_in.refresh_token()


def wrong_keys_are_refused():
    assert refused(client("tsk_production_wrong").connect) == 400
    # A key of another realm signs in there, and its tokens are none of the service's realm.
    elsewhere = client(os.environ["SANDBOX_API_KEY"])
    elsewhere.connect()
    assert refused(lambda: VideosApi(elsewhere).list()) == 401


def a_revoked_session_ends():
    signed_in = client(os.environ["API_KEY"])
    signed_in.connect()
    VideosApi(signed_in).list()
    revoke(signed_in._access_token)
    assert refused(lambda: VideosApi(signed_in).list()) == 401
    # One access token is not the session: that is ended with its refresh token.
    signed_in.refresh_token()
    revoke(signed_in._refresh_token)
    assert refused(signed_in.refresh_token) == 400


assert apivideo.__version__ == "1.4.7", apivideo.__version__
it_signs_in_calls_and_renews_on_its_timer()
two_threads_refresh_at_once()
wrong_keys_are_refused()
a_revoked_session_ends()
