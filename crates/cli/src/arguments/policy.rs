//! What can be typed behind `tessera policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

#[derive(Args)]
pub(crate) struct Policy {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
    /// The format of the answer; `json` is the same as `--json`.
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Output")]
    pub(crate) format: Option<Format>,
}

/// How an answer looks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One document for programs.
    Json,
}

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Read a policy as strictly as the authority does, and show every mistake.
    ///
    /// This needs no running authority. Exit code 0 if everything is right, 1 if something is wrong, 2 if the directory
    /// can't be read.
    #[command(after_help = "Example:\n  tessera policy check policies")]
    Check(Directory),
    /// Run a policy's own tests, and name the rules and routes that none of them covers.
    ///
    /// This needs no running authority. Exit code 0 if all tests pass, 1 if one fails, 2 if they could not run.
    #[command(after_help = "Example:\n  tessera policy test policies --deny-uncovered")]
    Test {
        #[command(flatten)]
        directory: Directory,
        /// Fail with exit code 1 if no test covers a rule or route.
        #[arg(long)]
        deny_uncovered: bool,
    },
    /// Explain why a subject may or may not have a scope.
    ///
    /// It reads a policy directory, or asks the authority with `--live`. Exit code 0 for both answers, 2 if there is no
    /// answer.
    #[command(
        after_help = "Examples:\n  tessera policy explain user:ann videos:write --realm production --role \
                      role:viewer\n  tessera policy explain --decision 0198f2c3-5a1e-7c44-9d21-0b1f6a7e8c90"
    )]
    Explain {
        /// The subject that a token would be issued for.
        #[arg(required_unless_present = "decision", value_name = "SUBJECT")]
        subject: Option<String>,
        /// The scope, or a permission of the authority, such as `tessera/tokens:introspect`.
        #[arg(required_unless_present = "decision", value_name = "SCOPE")]
        scope: Option<String>,
        #[command(flatten)]
        about: About,
        /// Explain an earlier decision. Its id is in an answer, an error, the log or the audit trail.
        #[arg(
            long,
            value_name = "ID",
            conflicts_with_all = ["subject", "scope", "realm", "roles", "directory", "policy"]
        )]
        decision: Option<String>,
    },
    /// Say whether a subject may have a scope: `yes`, or `no` and why.
    ///
    /// It reads a policy directory, or asks the authority with `--live`. Exit code 0 for yes, 1 for no, 2 if there is
    /// no answer.
    #[command(
        after_help = "Example:\n  tessera policy can user:ann videos:read --realm production --role \
                      role:viewer"
    )]
    Can {
        /// The subject that a token would be issued for.
        #[arg(value_name = "SUBJECT")]
        subject: String,
        /// The scope, or a permission of the authority, such as `tessera/tokens:introspect`.
        #[arg(value_name = "SCOPE")]
        scope: String,
        #[command(flatten)]
        about: About,
    },
    /// Compare two policies: who gains and who loses what, and which requests need more or less.
    ///
    /// Exit code 0 if they allow the same, 2 if they do not, 1 if they can't be compared.
    #[command(
        after_help = "Examples:\n  tessera policy diff main/policies policies\n  tessera policy diff \
                      main/policies policies --fail-on-gain"
    )]
    Diff(Diff),
    /// Format the rules of `*.csv` with the same spacing; comments and meaning do not change.
    ///
    /// This needs no running authority, and also formats a policy with mistakes. Exit code 0 if it is done, 1 if
    /// `--check` found something, 2 if a file can't be read or written.
    #[command(after_help = "Example:\n  tessera policy fmt policies --check")]
    Fmt {
        #[command(flatten)]
        directory: Directory,
        /// Change nothing. List the files that would change, and exit with code 1 if there are any.
        #[arg(long)]
        check: bool,
    },
    /// Show the policy in force, and the last attempt to change it.
    ///
    /// Exit code 1 if the last attempt was refused.
    #[command(after_help = "Example:\n  tessera policy status")]
    Status,
    /// Put the policy of the authority's policy directory in force.
    #[command(after_help = "Example:\n  tessera policy reload")]
    Reload,
    /// Show what a change of policy would do, and change nothing.
    ///
    /// It plans the files in the authority's own policy directory, or those in DIR.
    #[command(after_help = "Examples:\n  tessera policy plan\n  tessera policy plan policies")]
    Plan {
        /// A local directory. Its files are sent to the authority.
        #[arg(value_name = "DIR", conflicts_with = "policy", value_hint = ValueHint::DirPath)]
        directory: Option<PathBuf>,
        /// The same as DIR.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        policy: Option<PathBuf>,
    },
    /// Put a planned policy in force, if the authority's policy directory still has it.
    #[command(
        after_help = "Example:\n  tessera policy apply \"$(tessera policy plan --field plan)\" \
                      --max-sessions 100"
    )]
    Apply {
        /// The plan, as `tessera policy plan` prints it.
        plan: String,
        /// The maximum number of live sessions that may lose scopes or end.
        #[arg(long, value_name = "N")]
        max_sessions: Option<u64>,
    },
}

/// A directory of policy files, named as an argument or as an option.
#[derive(Args)]
pub(crate) struct Directory {
    /// The directory of the policy.
    #[arg(value_name = "DIR", default_value = "policies", conflicts_with = "policy", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
    /// The same as DIR.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    policy: Option<PathBuf>,
}

impl Directory {
    pub(crate) fn into_path(self) -> PathBuf {
        self.policy.unwrap_or(self.directory)
    }
}

/// What a question is about besides subject and scope, and who is asked.
#[derive(Args)]
pub(crate) struct About {
    /// The realm; with `--live` it must be the realm of the API key.
    #[arg(long, value_name = "REALM", value_parser = super::text::filled)]
    pub(crate) realm: Option<String>,
    /// A role to assert for the subject; repeat it for several.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// Ask the authority about the policy in force instead.
    #[arg(long, conflicts_with_all = ["directory", "policy"])]
    pub(crate) live: bool,
}

/// Two policies to compare.
#[derive(Args)]
pub(crate) struct Diff {
    /// The directory of the old policy.
    #[arg(value_name = "OLD", value_hint = ValueHint::DirPath)]
    pub(crate) old: PathBuf,
    /// The directory of the new policy.
    #[arg(value_name = "NEW", value_hint = ValueHint::DirPath)]
    pub(crate) new: PathBuf,
    /// Ask the authority how many live sessions NEW would affect.
    #[arg(long)]
    pub(crate) server: bool,
    /// Fail with exit code 1 if anybody gains something, a route needs less, or a route that needed a token was
    /// removed.
    #[arg(long)]
    pub(crate) fail_on_gain: bool,
}
