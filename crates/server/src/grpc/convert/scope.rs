//! Scopes that were requested and not granted.

use tessera_core::Scope;
use tessera_proto::v1;

pub(crate) fn denied_scopes(denied: Vec<(Scope, String)>) -> Vec<v1::DeniedScope> {
    denied
        .into_iter()
        .map(|(scope, reason)| v1::DeniedScope {
            scope: scope.to_string(),
            reason,
        })
        .collect()
}
