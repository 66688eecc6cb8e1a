//! The files under `deploy`: they match the build, and systemd and Helm accept them.
//!
//! These tools are peers (docs/peers.md): without them their tests print that nothing is tested, unless `TESSERA_PEERS`
//! is `required`.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    serving::Place,
    support::{binary, root, stderr, stdout, tessera},
};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a tool prints its version; otherwise prints how to get it.
fn tool(program: &Path, advice: &str) -> bool {
    if Command::new(program)
        .arg("--help")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return true;
    }
    let is_required = env::var_os("TESSERA_PEERS").is_some_and(|value| value == "required");
    assert!(!is_required, "{advice}");
    // Not `eprintln!`, whose output is hidden for a test that passes.
    let _ = writeln!(io::stderr(), "nothing tested: {advice}");
    false
}

fn helm() -> Option<PathBuf> {
    let directory = env::var_os("TESSERA_PEERS_DIR").unwrap_or_else(|| "target/peers".into());
    let helm = root().join(directory).join("helm");
    tool(&helm, "no helm: run .ci/peers (docs/peers.md)").then_some(helm)
}

/// Each visible command of `tessera help`, with its subcommands, by the name of its manual page.
fn commands(page: &str, words: &[&str], into: &mut Vec<String>) {
    let help = stdout(&tessera().args(words).arg("--help").output().unwrap());
    into.push(page.to_owned());
    let Some((_, listed)) = help.split_once("\nCommands:\n") else {
        return;
    };
    let listed = listed.lines().take_while(|line| !line.is_empty());
    for name in listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        if !["", "help"].contains(&name) {
            commands(&format!("{page}-{name}"), &[words, &[name]].concat(), into);
        }
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let made = tessera().arg("man").arg(directory.path()).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let mut expected = Vec::new();
    commands("tessera", &[], &mut expected);
    assert!(expected.len() > 30, "{expected:?}");
    for page in expected {
        let text = fs::read_to_string(directory.path().join(format!("{page}.1")));
        let text = text.unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(
            text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"),
            "{page}"
        );
    }
}

#[test]
fn versions_under_deploy_are_that_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("deploy/helm/tessera/Chart.yaml").contains(&format!("appVersion: \"{version}\"")));
    assert!(read("deploy/compose.yaml").contains(&format!("image: tessera:{version}\n")));
}

/// The text of a block such as `config: |`, without its indentation.
fn block(yaml: &str, name: &str) -> String {
    let (_, rest) = yaml.split_once(&format!("\n{name}: |\n")).unwrap();
    let lines = rest
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("  "));
    lines
        .map(|line| format!("{}\n", line.get(2..).unwrap_or_default()))
        .collect()
}

#[test]
fn the_configuration_of_the_chart_can_be_served() {
    let place = Place::new();
    let config = block(&read("deploy/helm/tessera/values.yaml"), "config");
    let mounts = read("deploy/helm/tessera/templates/_helpers.tpl");
    let mut moved = config.clone();
    for mount in ["/data", "/policies", "/run/secrets/tessera"] {
        assert!(mounts.contains(&format!("mountPath: {mount}\n")) && config.contains(&format!("\"{mount}")));
        let directory = place.path(mount.rsplit('/').next().unwrap());
        fs::create_dir_all(&directory).unwrap();
        moved = moved.replace(&format!("\"{mount}"), &format!("\"{}", directory.display()));
    }
    fs::write(place.config(), moved).unwrap();
    let checked = tessera()
        .args(["config", "check", "--config"])
        .arg(place.config())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn systemd_finds_nothing_wrong_with_the_unit_and_little_exposed() {
    let analyze = Path::new("systemd-analyze");
    if !tool(analyze, "no systemd-analyze: it is in Debian's package systemd") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("tessera.service");
    let text = read("deploy/systemd/tessera.service");
    let here = binary().to_str().unwrap();
    fs::write(&unit, text.replace("/usr/bin/tessera", here)).unwrap();
    let verified = Command::new(analyze)
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()
        .unwrap();
    let said = stderr(&verified);
    assert!(
        verified.status.success() && !said.contains("tessera.service:"),
        "{said}"
    );
    let mut security = Command::new(analyze);
    // In tenths: 2.0.
    security
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&unit);
    let exposed = security.output().unwrap();
    assert!(exposed.status.success(), "{}", stdout(&exposed));
    // An incorrect unit is detected.
    fs::write(
        &unit,
        text.replace("/usr/bin/tessera", here)
            .replace("ProtectSystem=strict", "ProtectSystem=much"),
    )
    .unwrap();
    let verified = Command::new(analyze)
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()
        .unwrap();
    assert!(
        stderr(&verified).contains("ignoring: much"),
        "{}",
        stderr(&verified)
    );
}

/// `UPDATE_DOCS=1` writes them again, for a review of the changes.
#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_chart_is_rendered_as_its_golden_files_say() {
    let Some(helm) = helm() else { return };
    for name in ["default", "everything", "maintenance", "nodes"] {
        let values = format!("deploy/helm/golden/{name}.values.yaml");
        let mut lint = Command::new(&helm);
        lint.args(["lint", "--strict", "deploy/helm/tessera", "--values", &values])
            .current_dir(root());
        let linted = lint.output().unwrap();
        assert!(
            linted.status.success(),
            "{name}: {}{}",
            stdout(&linted),
            stderr(&linted)
        );
        let mut template = Command::new(&helm);
        template.args([
            "template",
            "tessera",
            "deploy/helm/tessera",
            "--namespace",
            "auth",
            "--values",
            &values,
        ]);
        let rendered = template.current_dir(root()).output().unwrap();
        assert!(rendered.status.success(), "{name}: {}", stderr(&rendered));
        let golden = format!("deploy/helm/golden/{name}.yaml");
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(root().join(&golden), &rendered.stdout).unwrap();
        }
        assert_eq!(
            stdout(&rendered),
            read(&golden),
            "{golden}: UPDATE_DOCS=1 prints it anew"
        );
    }
    // Required values are requested.
    for missing in ["policy.configMap=", "serverKey.secret=", "nodes=2"] {
        let mut template = Command::new(&helm);
        template.args([
            "template",
            "tessera",
            "deploy/helm/tessera",
            "--set",
            "policy.configMap=p",
            "--set",
            missing,
        ]);
        let refused = template.current_dir(root()).output().unwrap();
        assert!(
            !refused.status.success() && stderr(&refused).contains("must be set"),
            "{missing}: {}",
            stderr(&refused)
        );
    }
}
