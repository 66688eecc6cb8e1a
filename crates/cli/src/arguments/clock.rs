//! What an operator says of the machine's clock.

use clap::Args;
use tessera_core::MachineClock;

#[derive(Args)]
pub(crate) struct AcceptClock {
    /// Accept the machine's clock at this start, even if it is behind the last time in the data, or years ahead.
    /// Without this, such a clock is accepted after a tenth of the difference. Anything that expired only because the
    /// clock was ahead becomes valid again.
    #[arg(long)]
    accept_clock: bool,
}

impl AcceptClock {
    pub(crate) fn machine_clock(&self) -> MachineClock {
        if self.accept_clock {
            MachineClock::Right
        } else {
            MachineClock::Unknown
        }
    }
}
