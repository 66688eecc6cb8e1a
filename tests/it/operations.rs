//! The page about operations, run unchanged: from an empty directory to an authority that serves, and to one that is
//! stopped again.
//!
//! The lines of its `sh` blocks are run in order. Those under "First start" need no authority, those under "Restoring"
//! and after it need a stopped one, and those in between a running one.

use std::{fs, path::Path};

use crate::{
    serving::{free_port, serve},
    support::{root, stderr, tessera},
    tour::{run_in, steps},
};

struct Page {
    first_start: Vec<(String, Vec<String>)>,
    while_it_runs: Vec<(String, Vec<String>)>,
    stopped: Vec<(String, Vec<String>)>,
}

impl Page {
    fn read() -> Self {
        let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
        let (first_start, rest) = page.split_once("\n## While it runs\n").unwrap();
        let (while_it_runs, stopped) = rest.split_once("\n## Restoring\n").unwrap();
        let page = Self {
            first_start: steps(first_start),
            while_it_runs: steps(while_it_runs),
            stopped: steps(stopped),
        };
        for (part, least) in [
            (&page.first_start, 4),
            (&page.while_it_runs, 10),
            (&page.stopped, 3),
        ] {
            let checked = part.iter().filter(|(_, expected)| !expected.is_empty()).count();
            assert!(part.len() >= least && checked * 5 >= part.len() * 2, "{part:?}");
        }
        page
    }
}

#[test]
fn everything_goes_as_the_page_about_operations_says() {
    let page = Page::read();
    let directory = tempfile::tempdir().unwrap();
    let printed = run_in(directory.path(), &page.first_start, &[]);
    let config = directory.path().join("auth/tessera.toml");
    let ports = [("7600", free_port()), ("7601", free_port())];
    for (port, free) in &ports {
        edit(
            &config,
            &format!("127.0.0.1:{port}"),
            &format!("127.0.0.1:{free}"),
        );
    }
    let address = format!("http://127.0.0.1:{}", ports[0].1);
    let mut words = printed.split_whitespace();
    let key = words.find(|word| word.starts_with("tsk_production_")).unwrap();
    let authority = serve(&config, &address);
    let moved: Vec<(String, Vec<String>)> = page
        .while_it_runs
        .iter()
        .map(|(command, expected)| {
            let moved = ports.iter().fold(command.clone(), |command, (port, free)| {
                command.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"))
            });
            (moved, expected.clone())
        })
        .collect();
    let reach = [("TESSERA_ADDR", address.as_str()), ("TESSERA_API_KEY", key)];
    run_in(directory.path(), &moved, &reach);
    assert_eq!(authority.stop().code(), Some(0));
    run_in(directory.path(), &page.stopped, &[]);
    // The restored data is served.
    assert_eq!(serve(&config, &address).stop().code(), Some(0));
}

#[test]
fn what_is_there_is_left_alone_and_what_is_wrong_is_told() {
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), &Page::read().first_start, &[]);
    let again = tessera()
        .args(["init", "auth"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("is not empty"), "{}", stderr(&again));
    let config = directory.path().join("auth/tessera.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("issuer = \"https://auth.example.com/production\""));
    edit(&config, "cache_mib = 256", "cache_mib = 0");
    let refused = tessera()
        .args(["config", "check", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("cache_mib"), "{}", stderr(&refused));
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} lacks {from}", file.display());
    fs::write(file, text.replace(from, to)).unwrap();
}
