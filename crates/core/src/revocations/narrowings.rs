//! The scopes that sessions lost by changes of policy. One change may concern a million sessions, and takes the same
//! scopes from most: equal losses are stored once, so that each session costs about 50 bytes.

use std::{collections::HashMap, sync::Arc};

use super::id_map::IdMap;
use crate::{
    id::SessionId,
    scope::{Scope, ScopeSet},
    sequence::Sequence,
    time::Timestamp,
};

/// By session.
#[derive(Clone, Debug, Default)]
pub(super) struct Narrowings {
    sessions: IdMap<Narrowed>,
    losses: Losses,
}

#[derive(Clone, Copy, Debug)]
struct Narrowed {
    /// The last event that took something.
    last: u64,
    /// Its index among the losses.
    losses: u32,
}

/// Scopes, each with the distance from the event that took it last to the last event of its session: sessions that lose
/// the same scopes at once have different positions of the log.
type Taken = [(Scope, u64)];

/// Distinct losses, each with the number of sessions that lost exactly that.
#[derive(Clone, Debug, Default)]
struct Losses {
    kept: Vec<(Arc<Taken>, u32)>,
    free: Vec<u32>,
    places: HashMap<Arc<Taken>, u32>,
}

impl Narrowings {
    /// A session lost scopes. Its earlier losses stay, and are kept as long. An earlier event is ignored.
    pub(super) fn add(&mut self, session: &SessionId, lost: &ScopeSet, at: Sequence, until: Timestamp) {
        let id = session.as_bytes();
        let earlier = self.sessions.get(id);
        if earlier.is_some_and(|earlier| earlier.last > at.0) {
            return;
        }
        let mut taken: Vec<_> = lost.iter().map(|scope| (scope.clone(), 0)).collect();
        if let Some(earlier) = earlier {
            let since = at.0 - earlier.last;
            let others = self.losses.get(earlier.losses).iter();
            let others = others.filter(|(scope, _)| !lost.contains(scope));
            taken.extend(others.map(|(scope, before)| (scope.clone(), before + since)));
        }
        let narrowed = Narrowed {
            last: at.0,
            losses: self.losses.keep(&taken),
        };
        if let Some(earlier) = self.sessions.put(id, until, narrowed) {
            self.losses.release(earlier.losses);
        }
    }

    /// Whether a session lost `scope` after the position `rev`.
    pub(super) fn took(&self, session: &SessionId, scope: &Scope, rev: Sequence) -> bool {
        let Some(narrowed) = self.sessions.get(session.as_bytes()) else {
            return false;
        };
        let taken = self.losses.get(narrowed.losses);
        taken
            .iter()
            .any(|(lost, before)| lost == scope && rev.0 < narrowed.last.saturating_sub(*before))
    }

    /// See [`IdMap::forget_expired`].
    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        let losses = &mut self.losses;
        self.sessions
            .forget_expired(now, |narrowed| losses.release(narrowed.losses));
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

impl Losses {
    fn get(&self, place: u32) -> &Taken {
        let kept = self.kept.get(place as usize);
        kept.map_or(&[], |(taken, _)| taken)
    }

    fn keep(&mut self, taken: &Taken) -> u32 {
        if let Some(place) = self.places.get(taken) {
            if let Some((_, sessions)) = self.kept.get_mut(*place as usize) {
                *sessions += 1;
            }
            return *place;
        }
        let taken: Arc<Taken> = Arc::from(taken);
        let place = self.free.pop().unwrap_or_else(|| {
            self.kept.push((Arc::clone(&taken), 0));
            // At most as many as there are sessions, which an `IdMap` counts in 32 bits.
            u32::try_from(self.kept.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(kept) = self.kept.get_mut(place as usize) {
            *kept = (Arc::clone(&taken), 1);
        }
        self.places.insert(taken, place);
        place
    }

    fn release(&mut self, place: u32) {
        let Some((taken, sessions)) = self.kept.get_mut(place as usize) else {
            return;
        };
        *sessions = sessions.saturating_sub(1);
        if *sessions == 0 {
            self.places.remove(taken);
            *taken = Arc::from([]);
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests;
