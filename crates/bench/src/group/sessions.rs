//! Sessions of all callers, which are refreshed one after the other.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
};

use tonic::transport::Channel;

use crate::{
    caller::{Caller, Refresh},
    failure::Failure,
    sessions,
    stage::Target,
};

/// The refresh tokens of each caller's sessions.
pub(crate) struct Sessions {
    of_callers: Vec<VecDeque<String>>,
    begun: u32,
}

impl Sessions {
    /// None yet, for this number of callers.
    pub(crate) fn of(callers: u16) -> Self {
        Self {
            of_callers: vec![VecDeque::new(); callers.into()],
            begun: 0,
        }
    }

    /// Begins sessions until there are at least `count`, and distributes the new ones in a random order: so those that are
    /// refreshed together were not begun together, and are on different pages.
    pub(crate) async fn grow(&mut self, target: &Target, count: u32) -> Result<(), Failure> {
        let callers = u16::try_from(self.of_callers.len()).unwrap_or(u16::MAX);
        let missing = count.saturating_sub(self.begun);
        let begun = sessions::begin(target, missing, callers).await?;
        let mut tokens: Vec<_> = tokens_of(begun.into_iter().flatten()).flatten().collect();
        self.begun += u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        let order = RandomState::new();
        tokens.sort_by_cached_key(|token| order.hash_one(token));
        let turns = 0..self.of_callers.len();
        for (token, turn) in tokens.into_iter().zip(turns.cycle()) {
            if let Some(own) = self.of_callers.get_mut(turn) {
                own.push_back(token);
            }
        }
        Ok(())
    }

    /// Callers with these sessions, on these targets in turn. The sessions are theirs until [`Sessions::take_back`].
    pub(crate) fn callers(&mut self, targets: &[&Target]) -> Vec<Caller> {
        let count = u16::try_from(self.of_callers.len()).unwrap_or(u16::MAX);
        let mut channels: Vec<_> = targets
            .iter()
            .map(|target| (target.authorization(), target.channels_for(count)))
            .collect();
        let mut callers = Vec::new();
        for (number, own) in self.of_callers.drain(..).enumerate() {
            let turn = number.checked_rem(targets.len()).unwrap_or_default();
            let next = channels.get_mut(turn).and_then(|(authorization, channels)| {
                let channel: Channel = channels.next()?;
                Some((channel, authorization.clone()))
            });
            if let Some((channel, authorization)) = next {
                callers.push(Caller::Refresh(Refresh::of(channel, authorization, own)));
            }
        }
        callers
    }

    pub(crate) fn take_back(&mut self, callers: Vec<Caller>) {
        self.of_callers = tokens_of(callers.into_iter()).collect();
    }
}

/// The refresh tokens of each of them.
fn tokens_of(callers: impl Iterator<Item = Caller>) -> impl Iterator<Item = VecDeque<String>> {
    callers.filter_map(|caller| match caller {
        Caller::Refresh(refresh) => Some(refresh.into_tokens()),
        _ => None,
    })
}
