"""OAuth 2.0 libraries of others, unmodified, against our routes: authlib, requests-oauthlib.

TESSERA_ADDR and TESSERA_API_KEY tell where; the client is `dev`.
"""

import os

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, InvalidScopeError
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session as RequestsSession

ADDRESS = os.environ["TESSERA_ADDR"]
KEY = os.environ["TESSERA_API_KEY"]
METADATA = requests.get(f"{ADDRESS}/.well-known/oauth-authorization-server", timeout=20).json()
TOKEN = METADATA["token_endpoint"]
OFFLINE = "offline_access videos:read"


def with_authlib(method):
    """Client credentials, refresh, introspection and revocation, authenticated by `method`."""
    session = OAuth2Session("dev", KEY, scope=OFFLINE, token_endpoint_auth_method=method)
    token = session.fetch_token(TOKEN, grant_type="client_credentials", audience="api")
    assert token["token_type"] == "Bearer" and token["scope"] == "videos:read", token
    renewed = session.refresh_token(TOKEN, refresh_token=token["refresh_token"])
    assert renewed["access_token"] != token["access_token"]
    seen = session.introspect_token(METADATA["introspection_endpoint"], token=renewed["access_token"]).json()
    assert seen["active"] and seen["client_id"] == "client:dev", seen
    assert session.revoke_token(METADATA["revocation_endpoint"], token=renewed["refresh_token"]).status_code == 200
    seen = session.introspect_token(METADATA["introspection_endpoint"], token=renewed["access_token"]).json()
    assert seen == {"active": False}, seen
    try:
        session.refresh_token(TOKEN, refresh_token=renewed["refresh_token"])
        raise AssertionError("a revoked session was refreshed")
    except OAuthError as error:
        assert error.error == "invalid_grant", error


def with_requests_oauthlib():
    client = BackendApplicationClient(client_id="dev", scope=OFFLINE)
    session = RequestsSession(client=client)
    # It is told in the answer that the scope is another than it asked for, which it takes for an error.
    os.environ["OAUTHLIB_RELAX_TOKEN_SCOPE"] = "1"
    token = session.fetch_token(TOKEN, auth=HTTPBasicAuth("dev", KEY), audience="api")
    assert token["scope"] == ["videos:read"], token
    renewed = session.refresh_token(TOKEN, refresh_token=token["refresh_token"], auth=HTTPBasicAuth("dev", KEY))
    assert renewed["access_token"] != token["access_token"]
    wrong = RequestsSession(client=BackendApplicationClient(client_id="dev"))
    try:
        wrong.fetch_token(TOKEN, auth=HTTPBasicAuth("dev", "tsk_production_no"))
        raise AssertionError("a wrong key was accepted")
    except InvalidClientError:
        pass
    greedy = RequestsSession(client=BackendApplicationClient(client_id="dev", scope="videos:fly"))
    try:
        greedy.fetch_token(TOKEN, auth=HTTPBasicAuth("dev", KEY), audience="api")
        raise AssertionError("an unknown scope was granted")
    except InvalidScopeError:
        pass


with_authlib("client_secret_basic")
with_authlib("client_secret_post")
with_requests_oauthlib()
