"""grpcio hears the reason of the largest errors, each time.

Reads requests of Issue from standard input, a JSON list of lists of scopes; prints for each the code, the reason and
the length of the message. The authority and its API key are TESSERA_ADDR and TESSERA_API_KEY of the environment.
"""

import json
import os
import sys

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from tessera.v1 import token_service_pb2 as tokens_pb
from tessera.v1.token_service_pb2_grpc import TokenServiceStub

# Beyond its soft limit, gRPC's core refuses headers at random.
TIMES = 20

CHANNEL = grpc.insecure_channel(os.environ["TESSERA_ADDR"].removeprefix("http://"))
CREDENTIAL = ("authorization", f"Bearer {os.environ['TESSERA_API_KEY']}")


def refusal(scopes):
    """The code and the reason that an Issue of these scopes is refused with."""
    request = tokens_pb.IssueRequest(subject="user:nobody", scopes=scopes)
    try:
        TokenServiceStub(CHANNEL).Issue(request, metadata=[CREDENTIAL], timeout=20)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        if status is None:
            raise SystemExit(f"no details: {error.code()} {error.details()}") from error
        info = ErrorInfo()
        reasons = [info.reason for detail in status.details if detail.Unpack(info)]
        return f"{error.code().name} {' '.join(reasons)}"
    raise SystemExit("not refused")


print(json.dumps([sorted({refusal(scopes) for _ in range(TIMES)}) for scopes in json.load(sys.stdin)]))
