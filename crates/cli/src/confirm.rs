//! Confirmation before something ends.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use crate::failure::Failure;

/// Whether a person is asked.
#[derive(Args)]
pub(crate) struct Consent {
    /// Don't ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What to do if no user can be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unattended {
    /// Continue: a script names its target explicitly.
    GoOn,
    /// Refuse: the effect of a mistake would be too large.
    Refuse,
}

impl Consent {
    /// Whether a user is present, and has not agreed already.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Refuses a command that needs a confirmation if no user can be asked.
    pub(crate) fn require(&self, unattended: Unattended, command: &str) -> Result<(), Failure> {
        if self.yes || self.is_to_be_asked() || unattended == Unattended::GoOn {
            return Ok(());
        }
        Err(Failure::cannot_run(format!(
            "`{command}` asks before it ends everything, and there is no terminal to ask on: nothing was \
             changed; --yes continues without a question"
        )))
    }

    /// Asks on the terminal, if a user is present. Any answer except yes ends the command.
    pub(crate) fn ask(&self, what: &str) -> Result<(), Failure> {
        if !self.is_to_be_asked() {
            return Ok(());
        }
        let wrong = |error: io::Error| Failure::cannot_run(format!("the terminal can't be used: {error}"));
        let mut stderr = io::stderr().lock();
        write!(stderr, "{what}\nContinue? [y/N] ")
            .and_then(|()| stderr.flush())
            .map_err(wrong)?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(wrong)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::refused("not confirmed: nothing was changed")),
        }
    }
}
