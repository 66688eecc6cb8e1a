//! How a path is served: who may call it, how long its messages may be, and what a call costs.
//!
//! The table is explicit, so that no RPC is served without a limit: a test compares it with the contract.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use tessera_core::limits::TOKEN_BYTES_MAX;

/// The credential that a request needs before any byte of its body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A client's API key, in the `authorization` header.
    Client,
    /// None, or a credential in the body, which the handler checks.
    Anyone,
}

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One gRPC message.
    Unary,
    /// gRPC messages until either side ends the stream.
    Stream,
    /// Bytes, as HTTP has them.
    Http,
}

/// What a running call takes from its client's allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// It works: it has one of the client's slots for calls at work.
    Call,
    /// It works for long: in addition, it has the client's only slot for such work.
    Heavy,
    /// It waits for something to happen: it has one of the client's slots for waiting calls.
    Wait,
    /// It is a stream of events: it has one of the client's slots for watches.
    Watch,
}

/// How requests to one path are served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// The path, as the table has it.
    pub(crate) path: &'static str,
    /// The name in metrics and logs.
    pub(crate) name: &'static str,
    pub(crate) caller: Caller,
    pub(crate) shape: Shape,
    /// Whether the answer is a stream that either side can end.
    pub(crate) answers_with_stream: bool,
    /// The longest message, in bytes.
    pub(crate) message_bytes_max: usize,
    pub(crate) work: Work,
    /// The cost of a call in the client's rate, before its content is known.
    pub(crate) cost: u32,
    /// About how much a call writes to the disk, in KiB, audit record included.
    pub(crate) writes_kib: u32,
    /// Whether an administrator's call may take a reserved slot.
    pub(crate) is_administration: bool,
    /// Whether the call reads the caller's API key again, as it commits and before it refuses anything: only Issue and
    /// Refresh do.
    pub(crate) reads_key_again: bool,
    /// Whether it only shows public content: a caller that requests it without pause is slowed down.
    pub(crate) is_open: bool,
}

impl Route {
    /// How requests to `path` are served.
    pub(crate) fn of(path: &str) -> &'static Self {
        static BY_PATH: LazyLock<HashMap<&'static str, Route>> = LazyLock::new(|| {
            let routes = ROUTES.iter();
            routes
                .map(|(path, route)| (*path, Route { path, ..*route }))
                .collect()
        });
        // The rest is the path that a proxy asks about.
        let path = match path.strip_prefix(FORWARD_AUTH) {
            Some(called) if called.starts_with('/') => FORWARD_AUTH,
            _ => path,
        };
        BY_PATH.get(path).unwrap_or(&OTHER)
    }

    /// Whether `path` belongs to a gRPC service that is served, though the service may have no such method.
    pub(crate) fn is_rpc(path: &str) -> bool {
        static SERVICES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
            let rpcs = ROUTES.iter().filter(|(_, route)| route.shape != Shape::Http);
            rpcs.filter_map(|(path, _)| service(path)).collect()
        });
        service(path).is_some_and(|service| SERVICES.contains(service))
    }

    const fn client(name: &'static str, message_bytes_max: usize) -> Self {
        Self {
            path: OTHER_PATH,
            name,
            caller: Caller::Client,
            shape: Shape::Unary,
            answers_with_stream: false,
            message_bytes_max,
            work: Work::Call,
            cost: 1,
            writes_kib: 0,
            is_administration: false,
            is_open: false,
            reads_key_again: false,
        }
    }

    const fn anyone(name: &'static str, shape: Shape, message_bytes_max: usize) -> Self {
        Self {
            caller: Caller::Anyone,
            shape,
            answers_with_stream: matches!(shape, Shape::Stream),
            ..Self::client(name, message_bytes_max)
        }
    }

    const fn costs(self, cost: u32) -> Self {
        Self { cost, ..self }
    }

    /// Public content.
    const fn open(name: &'static str, shape: Shape, message_bytes_max: usize) -> Self {
        Self {
            is_open: true,
            ..Self::anyone(name, shape, message_bytes_max)
        }
    }

    const fn works_long(self) -> Self {
        Self {
            work: Work::Heavy,
            ..self
        }
    }

    const fn writes(self, writes_kib: u32) -> Self {
        Self { writes_kib, ..self }
    }

    const fn reads_key_again(self) -> Self {
        Self {
            reads_key_again: true,
            ..self
        }
    }

    const fn administers(self) -> Self {
        Self {
            is_administration: true,
            ..self
        }
    }
}

/// `package.Service` of `/package.Service/Method`.
fn service(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split('/').next()
}

/// A request that names one thing, and little more.
const SMALL: usize = 16 * 1024;
/// A request with lists of names: scopes, roles, labels.
const NAMES: usize = 64 * 1024;
/// A hundred of the longest tokens, and what names them.
const TOKENS: usize = 100 * TOKEN_BYTES_MAX + 64 * 1024;
/// A mebibyte of policy files, and what names them.
const POLICY_FILES: usize = (1024 + 64) * 1024;
/// A request's headers, of which Envoy lets through 60 KiB, and the attributes that describe it.
const CHECKED_REQUEST: usize = 256 * 1024;
/// The name of a service or symbol.
const SYMBOL: usize = 4 * 1024;
/// A body at an HTTP endpoint.
const BODY: usize = 64 * 1024;

/// The path that proxies call.
const FORWARD_AUTH: &str = "/forward-auth";

/// The path for all paths that are not in the table, which callers choose.
const OTHER_PATH: &str = "other";

/// Paths that are not in the table: HTTP endpoints with a variable path, and paths that are not served.
static OTHER: Route = Route::open("other", Shape::Http, BODY);

static ROUTES: [(&str, Route); 44] = [
    (
        "/tessera.v1.TokenService/Issue",
        Route::client("Issue", NAMES).writes(3).reads_key_again(),
    ),
    (
        "/tessera.v1.TokenService/Refresh",
        Route::client("Refresh", NAMES).writes(3).reads_key_again(),
    ),
    (
        "/tessera.v1.TokenService/Introspect",
        Route::client("Introspect", NAMES),
    ),
    (
        "/tessera.v1.TokenService/IntrospectMany",
        Route::client("IntrospectMany", TOKENS),
    ),
    (
        "/tessera.v1.TokenService/Revoke",
        Route::client("Revoke", NAMES).costs(5).writes(2).administers(),
    ),
    (
        "/tessera.v1.SessionService/GetSession",
        Route::client("GetSession", SMALL).administers(),
    ),
    (
        "/tessera.v1.SessionService/ListSessions",
        Route::client("ListSessions", SMALL)
            .costs(20)
            .works_long()
            .administers(),
    ),
    (
        "/tessera.v1.SessionService/RevokeSession",
        Route::client("RevokeSession", SMALL)
            .costs(2)
            .writes(2)
            .administers(),
    ),
    (
        "/tessera.v1.ApiKeyService/CreateApiKey",
        Route::client("CreateApiKey", SMALL)
            .costs(50)
            .writes(2)
            .administers(),
    ),
    (
        "/tessera.v1.ApiKeyService/GetApiKey",
        Route::client("GetApiKey", SMALL).administers(),
    ),
    (
        "/tessera.v1.ApiKeyService/ListApiKeys",
        Route::client("ListApiKeys", SMALL)
            .costs(20)
            .works_long()
            .administers(),
    ),
    (
        "/tessera.v1.ApiKeyService/RollApiKey",
        Route::client("RollApiKey", SMALL)
            .costs(50)
            .writes(2)
            .administers(),
    ),
    (
        "/tessera.v1.ApiKeyService/RevokeApiKey",
        Route::client("RevokeApiKey", SMALL)
            .costs(5)
            .writes(2)
            .administers(),
    ),
    (
        "/tessera.v1.ApiKeyService/EnableClient",
        Route::client("EnableClient", SMALL)
            .costs(5)
            .writes(2)
            .administers(),
    ),
    (
        "/tessera.v1.PolicyService/Check",
        Route::client("Check", NAMES).costs(5),
    ),
    (
        "/tessera.v1.PolicyService/Explain",
        Route::client("Explain", NAMES).costs(20),
    ),
    (
        "/tessera.v1.PolicyService/Plan",
        Route::client("Plan", POLICY_FILES).costs(500).administers(),
    ),
    (
        "/tessera.v1.PolicyService/Apply",
        Route::client("Apply", SMALL)
            .costs(500)
            .works_long()
            .writes(2)
            .administers(),
    ),
    (
        "/tessera.v1.PolicyService/Reload",
        Route::client("Reload", SMALL)
            .costs(500)
            .works_long()
            .writes(2)
            .administers(),
    ),
    (
        "/tessera.v1.PolicyService/GetStatus",
        Route::client("GetStatus", SMALL).costs(2).administers(),
    ),
    (
        "/tessera.v1.RevocationService/Watch",
        Route {
            shape: Shape::Stream,
            answers_with_stream: true,
            work: Work::Watch,
            ..Route::client("Watch", SMALL).costs(20)
        },
    ),
    (
        "/tessera.v1.RevocationService/AwaitPropagation",
        Route {
            work: Work::Wait,
            ..Route::client("AwaitPropagation", SMALL)
        },
    ),
    (
        "/tessera.v1.RevocationService/ListSubscribers",
        Route::client("ListSubscribers", SMALL)
            .costs(20)
            .works_long()
            .administers(),
    ),
    (
        "/tessera.v1.RevocationService/EvictSubscriber",
        Route::client("EvictSubscriber", SMALL).costs(5).administers(),
    ),
    (
        "/tessera.v1.SigningKeyService/ListSigningKeys",
        Route::client("ListSigningKeys", SMALL).costs(5).administers(),
    ),
    (
        "/tessera.v1.SigningKeyService/RotateSigningKey",
        Route::client("RotateSigningKey", SMALL)
            .costs(50)
            .writes(2)
            .administers(),
    ),
    (
        "/tessera.v1.AuditService/ListAuditRecords",
        Route::client("ListAuditRecords", SMALL)
            .costs(20)
            .works_long()
            .administers(),
    ),
    (
        "/tessera.v1.AuditService/TailAuditRecords",
        Route {
            answers_with_stream: true,
            work: Work::Watch,
            ..Route::client("TailAuditRecords", SMALL).costs(20).administers()
        },
    ),
    (
        "/tessera.v1.AuditService/VerifyAudit",
        Route {
            answers_with_stream: true,
            ..Route::client("VerifyAudit", SMALL)
                .costs(500)
                .works_long()
                .administers()
        },
    ),
    (
        "/tessera.v1.BackupService/CreateBackup",
        Route {
            answers_with_stream: true,
            work: Work::Watch,
            ..Route::client("CreateBackup", SMALL)
                .costs(50)
                .writes(2)
                .administers()
        },
    ),
    (
        "/tessera.v1.KeyService/ListKeys",
        Route::open("ListKeys", Shape::Unary, SYMBOL),
    ),
    (
        "/grpc.health.v1.Health/Check",
        Route::open("Health/Check", Shape::Unary, SYMBOL),
    ),
    (
        "/grpc.health.v1.Health/Watch",
        Route {
            answers_with_stream: true,
            ..Route::open("Health/Watch", Shape::Unary, SYMBOL)
        },
    ),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Route::open("ServerReflectionInfo", Shape::Stream, SYMBOL),
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Route::open("ServerReflectionInfo", Shape::Stream, SYMBOL),
    ),
    (
        "/envoy.service.auth.v3.Authorization/Check",
        Route::anyone("Authorization/Check", Shape::Unary, CHECKED_REQUEST),
    ),
    (
        "/auth/api-key",
        Route::anyone("POST /auth/api-key", Shape::Http, BODY)
            .writes(3)
            .reads_key_again(),
    ),
    (
        "/auth/refresh",
        Route::anyone("POST /auth/refresh", Shape::Http, BODY).writes(3),
    ),
    (
        "/oauth2/token",
        Route::anyone("POST /oauth2/token", Shape::Http, BODY)
            .writes(3)
            .reads_key_again(),
    ),
    (
        "/oauth2/introspect",
        Route::anyone("POST /oauth2/introspect", Shape::Http, BODY),
    ),
    (
        "/oauth2/revoke",
        Route::anyone("POST /oauth2/revoke", Shape::Http, BODY)
            .costs(5)
            .writes(2),
    ),
    ("/keys", Route::open("GET /keys", Shape::Http, BODY)),
    (
        "/openapi.json",
        Route::open("GET /openapi.json", Shape::Http, BODY),
    ),
    (
        FORWARD_AUTH,
        Route::anyone("GET /forward-auth", Shape::Http, BODY),
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;
    use tessera_proto::{FILE_DESCRIPTOR_SET, UPSTREAM_DESCRIPTOR_SET};

    use super::*;

    /// The paths of all RPCs that are served, with whether they stream requests and answers.
    fn served() -> Vec<(String, bool, bool)> {
        let sets = [
            FILE_DESCRIPTOR_SET,
            UPSTREAM_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let sets = sets.map(|bytes| FileDescriptorSet::decode(bytes).unwrap());
        let mut served = Vec::new();
        for file in sets.iter().flat_map(|set| &set.file) {
            for service in &file.service {
                served.extend(service.method.iter().map(|method| {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    (path, method.client_streaming(), method.server_streaming())
                }));
            }
        }
        served
    }

    #[test]
    fn every_rpc_has_its_limits() {
        for (path, streams, answers_with_stream) in served() {
            let route = ROUTES.iter().find(|(known, _)| *known == path);
            let (_, route) = route.unwrap_or_else(|| panic!("{path} is not in the table"));
            assert_eq!(route.shape == Shape::Stream, streams, "{path}");
            assert_eq!(route.answers_with_stream, answers_with_stream, "{path}");
            let is_own = path.starts_with("/tessera.v1.");
            let is_open = path == "/tessera.v1.KeyService/ListKeys";
            assert_eq!(route.caller == Caller::Client, is_own && !is_open, "{path}");
        }
    }

    #[test]
    fn the_table_has_nothing_else_and_nothing_twice() {
        let served: BTreeSet<_> = served().into_iter().map(|(path, ..)| path).collect();
        let mut seen = BTreeSet::new();
        for (path, route) in &ROUTES {
            assert!(seen.insert(path), "{path} is there twice");
            let is_endpoint = route.shape == Shape::Http;
            assert!(is_endpoint || served.contains(*path), "nobody serves {path}");
        }
        for path in crate::http::PATHS
            .iter()
            .filter(|path| !path.starts_with("/.well-known"))
        {
            assert!(seen.contains(path), "{path} is not in the table");
        }
    }

    #[test]
    fn only_calls_that_read_the_key_again_go_by_a_key_of_a_moment_ago() {
        let paths = ROUTES.iter().filter(|(_, route)| route.reads_key_again);
        assert_eq!(
            paths.map(|(path, _)| *path).collect::<Vec<_>>(),
            [
                "/tessera.v1.TokenService/Issue",
                "/tessera.v1.TokenService/Refresh",
                "/auth/api-key",
                "/oauth2/token",
            ]
        );
    }

    #[test]
    fn what_nobody_knows_is_served_as_a_stranger() {
        assert_eq!(Route::of("/nothing").caller, Caller::Anyone);
    }

    #[test]
    fn the_path_that_a_proxy_asks_about_is_none_of_ours() {
        for path in [
            "/forward-auth",
            "/forward-auth/",
            "/forward-auth/keys",
            "/forward-auth//",
        ] {
            assert_eq!(Route::of(path).name, "GET /forward-auth", "{path}");
        }
        assert_eq!(Route::of("/forward-authority").name, "other");
    }
}
