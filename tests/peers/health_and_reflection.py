"""Health and reflection, seen by Python's own clients for them.

The authority is TESSERA_ADDR of the environment; what it must have is read from the generated stubs.
"""

import os
from importlib import import_module
from pkgutil import iter_modules

import grpc
import tessera.v1
from google.protobuf.descriptor_pb2 import ServiceDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

PATIENCE = 20

CHANNEL = grpc.insecure_channel(os.environ["TESSERA_ADDR"].removeprefix("http://"))


def our_services():
    """The descriptor of each service in the stubs, by its full name."""
    modules = [module.name for module in iter_modules(tessera.v1.__path__, "tessera.v1.")]
    files = [import_module(name).DESCRIPTOR for name in modules if name.endswith("_pb2")]
    return {service.full_name: service for file in files for service in file.services_by_name.values()}


def expect(what, seen, wanted):
    """Fails unless the two are equal."""
    if seen != wanted:
        raise SystemExit(f"{what}: {seen!r} instead of {wanted!r}")


def health(service):
    """What the authority says of a service, or the code that it refuses with."""
    try:
        answer = HealthStub(CHANNEL).Check(HealthCheckRequest(service=service), timeout=PATIENCE)
    except grpc.RpcError as error:
        return error.code().name
    return HealthCheckResponse.ServingStatus.Name(answer.status)


def services_by_v1():
    """The services that reflection v1 lists; its messages are those of v1alpha under another name."""
    method = CHANNEL.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    answer = next(method(iter([ServerReflectionRequest(list_services="")]), timeout=PATIENCE))
    return [service.name for service in answer.list_services_response.service]


def as_proto(service):
    """A service's methods with the types of their messages."""
    proto = ServiceDescriptorProto()
    service.CopyToProto(proto)
    return proto


def main():
    ours = our_services()
    for service in ["", *ours]:
        expect(f"health of {service!r}", health(service), "SERVING")
    expect("health of nothing", health("tessera.v1.NoService"), "NOT_FOUND")

    reflected = ProtoReflectionDescriptorDatabase(CHANNEL)
    for version, services in (("v1alpha", reflected.get_services()), ("v1", services_by_v1())):
        expect(f"reflection {version}", sorted(set(ours) - set(services)), [])
    pool = DescriptorPool(reflected)
    for name, service in ours.items():
        expect(name, as_proto(pool.FindServiceByName(name)), as_proto(service))
    print(*ours, sep="\n")


main()
