//! `tessera policy plan`: asks the authority for the effect of a change.

use std::{path::Path, process::ExitCode};

use tessera_policy::{RouteChanges, Sources};
use tessera_proto::v1::{self, ChangeKind, PlanRequest, PlanResponse, PolicyFile};

use super::{
    directory::{is_refused, read},
    explain::{self, short},
    routes, wire,
};
use crate::{
    arguments::{Connection, Output},
    failure::Failure,
    terminal::{Paint, counted, visible},
};

/// The most bytes that an authority accepts.
const BYTES_MAX: usize = 1024 * 1024;

pub(super) async fn run(
    directory: Option<&Path>,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let sources = match directory {
        None => None,
        Some(directory) => Some(read(directory)?.map_err(|refused| is_refused(directory, refused))?),
    };
    let plan = ask(sources.as_ref(), connection).await?;
    let routes = routes::of_plan(&plan)?;
    output.print(&wire::plan_response(&plan, &routes), || {
        text(&plan, &routes, sources.is_none(), Paint::stdout())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for the effect of files; `None`: those of the authority's directory.
pub(super) async fn ask(sources: Option<&Sources>, connection: &Connection) -> Result<PlanResponse, Failure> {
    if let Some(bytes) = sources
        .map(Sources::byte_count)
        .filter(|bytes| *bytes > BYTES_MAX)
    {
        return Err(Failure::cannot_run(format!(
            "the files have {bytes} bytes, and an authority accepts {BYTES_MAX}; put them into its directory, and \
             plan without DIR"
        )));
    }
    let files = sources.map(|sources| {
        let files = sources.iter().map(|(name, content)| PolicyFile {
            name: name.to_owned(),
            content: content.to_vec(),
        });
        files.collect()
    });
    let request = PlanRequest {
        files: files.unwrap_or_default(),
    };
    Ok(connection.policies().await?.plan(request).await?.into_inner())
}

fn text(plan: &PlanResponse, routes: &RouteChanges, is_of_directory: bool, paint: Paint) -> String {
    if plan.current_revision == plan.new_revision {
        return format!(
            "revision {} is in force already",
            visible(&short(&plan.current_revision))
        );
    }
    let mut text = format!(
        "revision {} → {}\n",
        visible(&short(&plan.current_revision)),
        visible(&short(&plan.new_revision))
    );
    for change in &plan.changes {
        text += &line(change, paint);
    }
    let of_routes = routes::changes(routes, paint);
    if !of_routes.is_empty() {
        text += &format!("{of_routes}\n");
    }
    let shown = u64::try_from(plan.changes.len()).unwrap_or(u64::MAX);
    let changes = counted(plan.changes_total, "change");
    let changes = match plan.changes_total.saturating_sub(shown) {
        0 => format!("{changes} in the realm of the API key"),
        more => format!("{changes}, {more} of them not shown"),
    };
    text += &format!("{changes}{}\n", routes::summary(routes));
    text += &format!(
        "sessions of that realm: {}\n",
        impact(plan.sessions.as_ref(), Tense::Future)
    );
    let id = visible(&plan.plan);
    text += &if is_of_directory {
        format!("\nplan {id}\nput it in force with: tessera policy apply {id}\n")
    } else {
        format!(
            "\nplan {id}\nthe authority applies only the files in its own directory: put them there, then run `tessera policy \
             plan`\n"
        )
    };
    text
}

fn line(change: &v1::PolicyChange, paint: Paint) -> String {
    let sign = match change.kind() {
        ChangeKind::Gained => paint.good("+"),
        ChangeKind::Lost => paint.bad("-"),
        ChangeKind::Unspecified => "?".to_owned(),
    };
    let mark = if change.scope.starts_with("tessera/") {
        paint.warn("!")
    } else {
        " ".to_owned()
    };
    let rule = change.rule.as_ref().map_or_else(String::new, |rule| {
        format!("   {}  {}", explain::place(rule), visible(&rule.text))
    });
    format!(
        "{mark} {sign} {}  {}{rule}\n",
        visible(&change.holder),
        visible(&change.scope)
    )
}

/// Whether something happened, or would happen.
#[derive(Clone, Copy)]
pub(super) enum Tense {
    Past,
    Future,
}

/// The impact on live sessions, in one line.
pub(super) fn impact(effect: Option<&v1::SessionImpact>, tense: Tense) -> String {
    let effect = effect.copied().unwrap_or_default();
    let (lose, end) = match tense {
        Tense::Past => ("lost scopes", "ended"),
        Tense::Future => ("would lose scopes", "would end"),
    };
    if effect.narrowed == 0 && effect.ended == 0 {
        return format!("none of {} live is affected", effect.live);
    }
    format!(
        "of {} live, {} {lose} and {} {end}",
        effect.live, effect.narrowed, effect.ended
    )
}
