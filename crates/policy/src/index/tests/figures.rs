//! How fast the index answers, compared with Casbin.

use std::time::Instant;

use super::*;

/// Run with `cargo test --release -p tessera-policy -- --ignored --nocapture figures`.
#[test]
#[ignore = "measures"]
fn figures_of_index_and_casbin() {
    for count in [100, 1_000, 10_000, 100_000] {
        let rules = large(count);
        let started = Instant::now();
        let index = Index::new(&rules, &realms());
        let compiled = started.elapsed();
        let names = vec!["user:7", "role:5"];
        let question = RawQuestion {
            realm: "production",
            names,
            resource: "films/5/x",
            action: "read",
        };
        let nanos_index = nanos_per_call(200_000, || effects(&index, &question).is_allowed);
        print!("{count:>7} rules: compiled in {compiled:?}, index {nanos_index:.0} ns");
        // Casbin takes minutes to build the roles of 100,000 users; those of the question are enough.
        let some = Rules {
            edges: rules.edges.iter().take(100).cloned().collect(),
            ..rules.clone()
        };
        let oracle = Oracle::new(&some, &realms()).unwrap();
        let nanos_casbin = nanos_per_call(5, || oracle.is_allowed("user:7", &question).unwrap());
        let times = nanos_casbin / nanos_index;
        print!(", casbin {:.2} ms, {times:.0} times as long", nanos_casbin / 1e6);
        println!();
        let goal = if count < 10_000 { "-" } else { "<= 0.00001" };
        println!("figure | one decision of {count} rules | ns | {nanos_index} | {nanos_casbin} | {goal}");
    }
}

fn nanos_per_call(calls: u32, call: impl Fn() -> bool) -> f64 {
    let started = Instant::now();
    for _ in 0..calls {
        std::hint::black_box(call());
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}
