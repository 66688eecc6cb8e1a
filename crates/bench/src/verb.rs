//! The verbs that are measured with one call after the other, and the data that their callers need beforehand.

use std::{sync::Arc, time::Duration};

use tessera_proto::v1::IssueResponse;

use crate::{
    arguments::Part,
    caller::{Caller, Introspect, Issue, Refresh, Revoke, Tokens},
    drive::drive,
    failure::Failure,
    parcel::Sizes,
    report::Goal,
    stage::Target,
};

/// The tokens of the hot introspections.
const HOT_TOKENS: usize = 64;
/// Callers that begin the sessions for verbs that need a new one for each call.
const ISSUERS: u16 = 256;

/// The call to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Issue,
    Refresh,
    IntrospectHot,
    IntrospectCold,
    Revoke,
}

impl Verb {
    /// Revoking is the last, as introspection would search the revocations that it leaves.
    pub(crate) const ALL: [Self; 5] = [
        Self::Issue,
        Self::Refresh,
        Self::IntrospectHot,
        Self::IntrospectCold,
        Self::Revoke,
    ];

    pub(crate) fn part(self) -> Part {
        match self {
            Self::Issue => Part::Issue,
            Self::Refresh => Part::Refresh,
            Self::IntrospectHot => Part::IntrospectHot,
            Self::IntrospectCold => Part::IntrospectCold,
            Self::Revoke => Part::Revoke,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Refresh => "refresh",
            Self::IntrospectHot => "introspect, seen before",
            Self::IntrospectCold => "introspect, distinct",
            Self::Revoke => "revoke",
        }
    }

    /// The goal for a call's processor time, in echoes.
    pub(crate) fn goal(self) -> Goal {
        Goal::AtMost(match self {
            Self::Issue => 3.5,
            Self::Refresh => 3.0,
            Self::IntrospectHot => 1.1,
            Self::IntrospectCold => 3.3,
            Self::Revoke => 4.0,
        })
    }

    /// The sizes of a call's request and answer.
    pub(crate) async fn sizes(self, tessera: &Target) -> Result<Sizes, Failure> {
        let mut callers = self.callers(tessera, 1, Duration::from_millis(50)).await?;
        let caller = callers.first_mut().ok_or_else(|| Failure::new("no caller"))?;
        let called = caller.call().await;
        let called = called.map_err(|status| Failure::at("a call", status))?;
        called.ok_or_else(|| Failure::new("there is nothing to call with"))
    }

    /// Callers with the data for calls during `time`.
    pub(crate) async fn callers(
        self,
        tessera: &Target,
        count: u16,
        time: Duration,
    ) -> Result<Vec<Caller>, Failure> {
        Ok(match self {
            Self::Issue => issuers(tessera, count).map(Caller::Issue).collect(),
            Self::Refresh => refreshers(tessera, count).await?,
            Self::IntrospectHot => {
                let tokens = Tokens::again(few_tokens(tessera).await?);
                introspectors(tessera, count, &tokens)
            }
            Self::IntrospectCold => {
                // If they are used up before the time is over, the round ends early.
                let issued = fresh(tessera, time.mul_f64(1.5)).await?.into_iter();
                let tokens = issued.filter_map(|answer| Some(answer.tokens?.access_token));
                introspectors(tessera, count, &Tokens::once(tokens.collect()))
            }
            Self::Revoke => {
                let issued = fresh(tessera, time.mul_f64(2.0)).await?.into_iter();
                let sessions = Tokens::once(issued.map(|answer| answer.session_id).collect());
                revokers(tessera, count, &sessions)
            }
        })
    }
}

fn issuers(tessera: &Target, count: u16) -> impl Iterator<Item = Issue> {
    let channels = tessera.channels_for(count).enumerate();
    channels.map(|(number, channel)| Issue::new(channel, tessera.authorization(), number))
}

/// Each has its own session.
async fn refreshers(tessera: &Target, count: u16) -> Result<Vec<Caller>, Failure> {
    let mut callers = Vec::new();
    for (mut issuer, channel) in issuers(tessera, count).zip(tessera.channels_for(count)) {
        let issued = issuer.issue().await;
        let (_, issued) = issued.map_err(|status| Failure::at("beginning a session", status))?;
        let token = issued.tokens.unwrap_or_default().refresh_token;
        callers.push(Caller::Refresh(Refresh::new(
            channel,
            tessera.authorization(),
            token,
        )));
    }
    Ok(callers)
}

fn introspectors(tessera: &Target, count: u16, tokens: &Arc<Tokens>) -> Vec<Caller> {
    let channels = tessera.channels_for(count);
    let introspector = |channel| {
        Caller::Introspect(Introspect::new(
            channel,
            tessera.authorization(),
            Arc::clone(tokens),
        ))
    };
    channels.map(introspector).collect()
}

fn revokers(tessera: &Target, count: u16, sessions: &Arc<Tokens>) -> Vec<Caller> {
    let channels = tessera.channels_for(count);
    let revoker = |channel| {
        let (authorization, sessions) = (tessera.authorization(), Arc::clone(sessions));
        Caller::Revoke(Revoke::new(channel, authorization, sessions))
    };
    channels.map(revoker).collect()
}

async fn few_tokens(tessera: &Target) -> Result<Vec<String>, Failure> {
    let mut tokens = Vec::new();
    for mut issuer in issuers(tessera, 1) {
        while tokens.len() < HOT_TOKENS {
            let issued = issuer.issue().await;
            let (_, issued) = issued.map_err(|status| Failure::at("issuing a token", status))?;
            tokens.push(issued.tokens.unwrap_or_default().access_token);
        }
    }
    Ok(tokens)
}

/// As many sessions as can be begun in `time`. The server has not seen their access tokens.
async fn fresh(tessera: &Target, time: Duration) -> Result<Vec<IssueResponse>, Failure> {
    let issuers = issuers(tessera, ISSUERS).map(|issuer| Caller::Issue(issuer.keeping_answers()));
    let (_, callers) = drive(issuers.collect(), time, &tessera.process).await?;
    let answers = callers.into_iter().filter_map(|caller| match caller {
        Caller::Issue(issuer) => Some(issuer.into_answers()),
        _ => None,
    });
    Ok(answers.flatten().collect())
}
