//! The ways in which hostile callers attack.

use clap::ValueEnum;

/// What the hostile ones do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// 10,000 requests of all services, without a credential, that are never finished.
    Unfinished,
    /// Public content, requested without a credential on 100 connections that read none of 100 answers.
    Unread,
    /// Calls that wait for something that never happens.
    Waits,
    /// Previews of revocations that match thousands of sessions.
    Previews,
    /// Plans of policy changes.
    Plans,
    /// Lists of sessions, as long as they can be.
    Lists,
    /// Watches that begin with a snapshot, again and again.
    Watches,
    /// Issues that policy denies.
    Denied,
    /// Sessions without end.
    Sessions,
    /// API keys, made and rolled.
    Keys,
    /// Introspections of forged tokens.
    Forged,
    /// Plans of policies that are as large as they can be.
    Policies,
}
