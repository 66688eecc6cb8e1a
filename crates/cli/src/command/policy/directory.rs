//! The directory of a policy, and why it is refused.

use std::path::Path;

use tessera_policy::{Policy, Sources};

use crate::{draw::Refused, failure::Failure, terminal::visible};

/// Reads a directory. If the files are not a policy, they are kept to show the mistakes in them.
pub(crate) fn load(directory: &Path) -> Result<Result<Policy, Refused>, Failure> {
    let sources = match read(directory)? {
        Ok(sources) => sources,
        Err(refused) => return Ok(Err(refused)),
    };
    Ok(Policy::from_sources(&sources).map_err(|error| Refused {
        sources: Some(sources),
        error,
    }))
}

/// Reads the files of a directory, without parsing them.
pub(crate) fn read(directory: &Path) -> Result<Result<Sources, Refused>, Failure> {
    if !directory.is_dir() {
        return Err(Failure::cannot_run(format!(
            "there is no directory `{}`; name the directory of the policy",
            shown(directory)
        )));
    }
    Ok(Sources::read(directory).map_err(|error| Refused { sources: None, error }))
}

/// The policy of a directory; a failure if it has mistakes.
pub(crate) fn load_right(directory: &Path) -> Result<Policy, Failure> {
    load(directory)?.map_err(|refused| is_refused(directory, refused))
}

pub(crate) fn is_refused(directory: &Path, refused: Refused) -> Failure {
    Failure::policy(
        format!("the policy in `{}` is refused", shown(directory)),
        refused,
    )
}

/// A path in its typed form.
pub(crate) fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}
