"""A Python client does the main job of Tessera, with stubs generated from our proto.

The authority and its API key are TESSERA_ADDR and TESSERA_API_KEY of the environment.
"""

import json
import os
from queue import SimpleQueue

import grpc
import pyseto
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from tessera.v1 import key_service_pb2 as keys_pb
from tessera.v1 import revocation_service_pb2 as revocations_pb
from tessera.v1 import token_service_pb2 as tokens_pb
from tessera.v1.key_service_pb2_grpc import KeyServiceStub
from tessera.v1.revocation_service_pb2_grpc import RevocationServiceStub
from tessera.v1.token_service_pb2_grpc import TokenServiceStub

SUBJECT = "user:ann"
SCOPES = ["analytics:read", "live-streams:read", "videos:read"]
LABEL = "stream:ls_42"
PATIENCE = 20

CHANNEL = grpc.insecure_channel(os.environ["TESSERA_ADDR"].removeprefix("http://"))
KEYS = KeyServiceStub(CHANNEL)
REVOCATIONS = RevocationServiceStub(CHANNEL)
TOKENS = TokenServiceStub(CHANNEL)


def call(method, request):
    """Calls a method with the API key."""
    credential = ("authorization", f"Bearer {os.environ['TESSERA_API_KEY']}")
    return method(request, metadata=[credential], timeout=PATIENCE)


def expect(what, seen, wanted):
    """Fails unless the two are equal."""
    if seen != wanted:
        raise SystemExit(f"{what}: {seen!r} instead of {wanted!r}")


def expect_refusal(what, method, request, code, reason):
    """Fails unless the call is refused with a code and the reason of a google.rpc.ErrorInfo."""
    try:
        call(method, request)
    except grpc.RpcError as error:
        infos = []
        for detail in rpc_status.from_call(error).details:
            info = ErrorInfo()
            if detail.Unpack(info):
                infos.append((info.domain, info.reason))
        expect(what, (error.code(), infos), (code, [("tessera", reason)]))
    else:
        raise SystemExit(f"{what}: not refused")


def issue(**fields):
    """Begins a session of a viewer."""
    return call(TOKENS.Issue, tokens_pb.IssueRequest(subject=SUBJECT, roles=["role:viewer"], **fields))


def introspect(token):
    """Asks whether a token is active, and what it says."""
    return call(TOKENS.Introspect, tokens_pb.IntrospectRequest(token=token))


def refresh_request(refresh_token):
    """Presents a refresh token."""
    return tokens_pb.RefreshRequest(refresh_token=refresh_token)


def verify_offline(token):
    """The claims of an access token, with no help but the keys that everybody may read."""
    published = KEYS.ListKeys(keys_pb.ListKeysRequest(realm="production"), timeout=PATIENCE).keys
    paserks = {key.kid: key.paserk for key in published}
    kid = json.loads(pyseto.Token.new(token).footer)["kid"]
    key = pyseto.Key.from_paserk(paserks[kid])
    return pyseto.decode(key, token, deserializer=json, aud="api").payload


def issue_and_verify():
    """A session's token says the same to a verifier and to the authority."""
    session = issue()
    expect("scopes", list(session.tokens.scopes), SCOPES)
    claims = verify_offline(session.tokens.access_token)
    expect("claims", (claims["sub"], claims["sid"]), (SUBJECT, session.session_id))
    answer = introspect(session.tokens.access_token)
    expect("introspection", (answer.active, answer.sub, answer.jti), (True, SUBJECT, claims["jti"]))
    expect("scope", answer.scope, claims["scope"])
    return session, answer.as_of


def refresh_and_reuse(session):
    """A replay gives the same successor; a token from further back ends the session."""
    first = refresh_request(session.tokens.refresh_token)
    second = call(TOKENS.Refresh, first)
    expect("first refresh", (second.generation, second.replayed), (2, False))
    replay = call(TOKENS.Refresh, first)
    expect("replay", (replay.generation, replay.replayed), (2, True))
    expect("its successor", replay.tokens.refresh_token, second.tokens.refresh_token)
    third = call(TOKENS.Refresh, refresh_request(second.tokens.refresh_token))
    expect("second refresh", (third.generation, third.replayed), (3, False))

    refused = grpc.StatusCode.UNAUTHENTICATED
    expect_refusal("reuse", TOKENS.Refresh, first, refused, "REFRESH_TOKEN_REUSED")
    last = refresh_request(third.tokens.refresh_token)
    expect_refusal("after reuse", TOKENS.Refresh, last, refused, "SESSION_REVOKED")
    ended = introspect(third.tokens.access_token)
    expect("after reuse", ended, tokens_pb.IntrospectResponse(active=False))


def revoke_by_label():
    """One call ends all sessions that carry a label."""
    bound = [issue(labels=[LABEL]) for _ in range(2)]
    rehearsal = call(TOKENS.Revoke, tokens_pb.RevokeRequest(label=LABEL, validate_only=True))
    expect("would end", rehearsal.matched, 2)
    revoked = call(TOKENS.Revoke, tokens_pb.RevokeRequest(label=LABEL))
    expect("ended", revoked.matched, 2)
    for session in bound:
        expect("after revoke", introspect(session.tokens.access_token).active, False)
    return revoked.cursor


def watch(start, until):
    """Reads the log from a cursor to the echo of a ping, and acknowledges all of it."""
    requests = SimpleQueue()
    begin = revocations_pb.WatchStart(cursor=start, subscriber="python", required=True)
    requests.put(revocations_pb.WatchRequest(start=begin))
    requests.put(revocations_pb.WatchRequest(ping=revocations_pb.Ping(nonce=b"peer")))
    responses = call(REVOCATIONS.Watch, iter(requests.get, None))
    events = []
    for response in responses:
        if response.HasField("event"):
            events.append(response.event)
        elif response.checkpoint.nonce == b"peer":
            break
    expect("echo", response.checkpoint.through_sequence, events[-1].sequence)

    ack = revocations_pb.Ack(cursor=response.checkpoint.through)
    requests.put(revocations_pb.WatchRequest(ack=ack))
    fence = revocations_pb.AwaitPropagationRequest(cursor=until)
    expect("acknowledged", call(REVOCATIONS.AwaitPropagation, fence).acknowledged, 1)
    requests.put(None)
    return events


def main():
    session, start = issue_and_verify()
    refresh_and_reuse(session)
    end = revoke_by_label()
    reuse, label = watch(start, end)
    expect("first event", reuse.kind, revocations_pb.EVENT_KIND_SESSION_REVOKED)
    expect("what ended", (reuse.session_id, reuse.reason), (session.session_id, "reuse"))
    expect("second event", label.kind, revocations_pb.EVENT_KIND_LABEL_REVOKED)
    expect("what ended", (label.label, label.cursor), (LABEL, end))


main()
