//! Which access tokens are accepted now, and with which scopes: what a check and an introspection have in common.

use std::sync::Arc;

use tessera_core::{AccessClaims, OnPolicyLoss, Realm, ScopeSet, clock::FOLLOWED_MILLIS};
use tessera_token::{Expectation, VerifyError, access::Verified};

use crate::{
    access::error::TokenRejection, issuance::scopes::Bearer, shared::Shared,
    signing_key::signing_keys::SigningKeys, verified::VerifiedTokens,
};

/// Whether a token is valid, and what it permits.
pub struct Access {
    pub(super) shared: Arc<Shared>,
    pub(super) signing_keys: Arc<SigningKeys>,
    pub(super) verified: Arc<VerifiedTokens>,
}

impl Access {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        signing_keys: &Arc<SigningKeys>,
        verified: &Arc<VerifiedTokens>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            signing_keys: Arc::clone(signing_keys),
            verified: Arc::clone(verified),
        }
    }

    /// The content of an access token that is valid now, with any scopes. A token that can never be valid again is
    /// dropped from the cache.
    pub(crate) fn accepted_now(
        &self,
        token: &str,
        expected: &Expectation<'_>,
    ) -> Result<Arc<Verified>, TokenRejection> {
        let keys = self.signing_keys.in_use();
        let verified = self.verified.verify(token, keys.keyring())?;
        let now = self.shared.clock.now();
        let checked = match verified.check(expected, now) {
            // Issued before a restart, by a clock that was set back a little afterwards.
            Err(VerifyError::NotYetValid) => verified.check(expected, now.plus_millis(FOLLOWED_MILLIS)),
            checked => checked,
        };
        if let Err(failed) = checked {
            if failed == VerifyError::Expired {
                self.verified.forget(token);
            }
            return Err(failed.into());
        }
        if verified.claims().rev > self.shared.committed() {
            self.shared.rollback.note("an access token");
            return Err(TokenRejection::Ahead);
        }
        let revocations = self.shared.store.log().revocations();
        let is_revoked = revocations
            .read()
            .revokes_token(verified.claims(), verified.key_id());
        if is_revoked {
            self.verified.forget(token);
            return Err(TokenRejection::Revoked);
        }
        Ok(verified)
    }

    /// The token's scopes without those that changes of policy took. The policy itself is checked, since the events of
    /// a change that was applied a moment ago may not have arrived yet. The events are checked too, since a scope that
    /// policy gives back comes only with the next token.
    pub(crate) fn scopes_left(&self, realm: &Realm, claims: &AccessClaims) -> ScopeSet {
        if realm.on_policy_loss == OnPolicyLoss::Expire {
            return claims.scopes.clone();
        }
        let granted = Bearer::of_token(claims)
            .grant(&self.shared.policy.load(), &claims.scopes)
            .granted;
        let revocations = self.shared.store.log().revocations().read();
        if realm.on_policy_loss == OnPolicyLoss::Revoke && granted != claims.scopes {
            // The session is ending; its event has not arrived yet.
            return ScopeSet::default();
        }
        granted
            .iter()
            .filter(|scope| !revocations.narrows(claims, scope))
            .cloned()
            .collect()
    }
}
