use super::*;
use crate::clock::ManualClock;

fn start() -> Timestamp {
    Timestamp::from_seconds(1_795_000_000)
}

const TOKEN_LIFE: Seconds = Seconds(900);

#[derive(Debug, Default)]
struct ManualUptime(AtomicI64);

impl Uptime for ManualUptime {
    fn millis(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A machine whose clock can be set while time continues.
struct Machine {
    wall: Arc<ManualClock>,
    uptime: Arc<ManualUptime>,
    clock: SteadyClock,
}

impl Machine {
    fn new(wall: Timestamp, last: Option<LastTimes>) -> Self {
        Self::told(wall, last, MachineClock::Unknown)
    }

    fn told(wall: Timestamp, last: Option<LastTimes>, told: MachineClock) -> Self {
        let wall = Arc::new(ManualClock::new(wall));
        let uptime = Arc::new(ManualUptime::default());
        let clock = SteadyClock::resume(wall.clone(), uptime.clone(), last, told, TOKEN_LIFE);
        Self { wall, uptime, clock }
    }

    fn run(&self, seconds: i64) -> ClockState {
        for _ in 0..seconds {
            self.wall.advance_millis(1000);
            self.uptime.0.fetch_add(1000, Ordering::SeqCst);
            self.clock.observe();
            assert!(self.clock.settled() <= self.clock.now());
        }
        self.clock.observe()
    }

    fn step(&self, seconds: i64) {
        self.wall.advance_millis(seconds * 1000);
    }

    /// How far the time differs from the start plus the passed time, and how far the settled time does.
    fn lead(&self) -> (i64, i64) {
        let true_time = start().plus_millis(self.uptime.millis());
        (
            self.clock.now().millis_since(true_time) / 1000,
            self.clock.settled().millis_since(true_time) / 1000,
        )
    }
}

/// An authority that was stopped when everything was settled.
fn stopped(at: Timestamp) -> LastTimes {
    LastTimes { now: at, settled: at }
}

const HOURS: i64 = 3600;
const YEARS: i64 = 365 * 24 * HOURS;

#[test]
fn a_clock_that_is_wrong_for_a_while_changes_nothing() {
    for step in [300, 2 * HOURS, 10 * YEARS, -300, -2 * HOURS, -10 * YEARS] {
        let machine = Machine::new(start(), Some(stopped(start())));
        machine.run(10);
        machine.step(step);
        let state = machine.run(25);
        assert!(state.is_stepped, "{step}");
        assert_eq!((state.steps, state.offset_millis / 1000), (1, step));
        assert_eq!(machine.lead(), (0, 0), "{step}");
        machine.step(-step);
        let state = machine.run(10);
        assert!(!state.is_stepped);
        assert_eq!((state.steps, machine.lead()), (1, (0, 0)));
    }
}

#[test]
fn small_differences_are_followed_and_time_never_goes_backwards_for_them() {
    for step in [1, -1, 5, -5] {
        let machine = Machine::new(start(), Some(stopped(start())));
        machine.run(10);
        machine.step(step);
        let mut before = machine.clock.now();
        for _ in 0..12 {
            let state = machine.run(1);
            assert!(!state.is_stepped && state.steps == 0);
            assert!(machine.clock.now() > before);
            before = machine.clock.now();
        }
        assert_eq!(machine.lead().0, step);
    }
}

#[test]
fn a_step_that_lasts_is_believed_and_what_was_issued_before_outlives_it() {
    let machine = Machine::new(start(), Some(stopped(start())));
    machine.step(2 * HOURS);
    machine.run(700);
    assert_eq!(machine.lead(), (0, 0));
    machine.run(30);
    assert_eq!(machine.lead(), (2 * HOURS, 0), "a tenth of two hours");
    machine.run(880);
    assert_eq!(machine.lead(), (2 * HOURS, 0), "tokens from before are alive");
    machine.run(100);
    assert_eq!(machine.lead(), (2 * HOURS, 2 * HOURS));
    machine.step(-2 * HOURS);
    machine.run(700);
    assert_eq!(machine.lead(), (2 * HOURS, 2 * HOURS));
    machine.run(30);
    assert_eq!(machine.lead(), (0, 0));
}

#[test]
fn ten_years_take_a_year() {
    let machine = Machine::new(start(), Some(stopped(start())));
    machine.step(10 * YEARS);
    machine.run(24 * HOURS);
    assert_eq!(machine.lead(), (0, 0));
}

#[test]
fn a_clock_that_keeps_moving_is_never_believed() {
    let machine = Machine::new(start(), Some(stopped(start())));
    for _ in 0..600 {
        machine.step(9);
        machine.run(1);
    }
    assert_eq!(machine.lead().1, machine.lead().0);
    assert!(machine.lead().0 <= 5, "{:?}", machine.lead());
}

#[test]
fn a_start_after_a_stop_goes_on_by_the_clock_and_removes_by_what_is_sure() {
    let machine = Machine::new(start(), Some(stopped(start().minus(Seconds::HOUR))));
    machine.run(890);
    assert_eq!(machine.lead(), (0, -HOURS));
    machine.run(20);
    assert_eq!(machine.lead(), (0, 0));
}

/// It served for a moment after a long stop, so that nothing since is settled. Its clock may have been ahead then, or
/// be behind now: what has ended must not begin again.
#[test]
fn a_clock_set_back_between_two_short_runs_is_a_step_though_it_is_after_what_was_settled() {
    let last = LastTimes {
        now: start(),
        settled: start().minus(Seconds::HOUR),
    };
    for step in [-10, -600, -HOURS, -2 * HOURS] {
        let machine = Machine::new(start().plus_millis(step * 1000), Some(last));
        assert_eq!(machine.lead(), (0, -HOURS), "{step}");
        let state = machine.run(6);
        assert!(state.is_stepped && state.steps == 1, "{step}");
        assert_eq!(machine.lead(), (0, -HOURS), "{step}");
        machine.step(-step);
        assert!(!machine.run(1).is_stepped, "{step}");
    }
    let behind = Machine::new(start().minus(Seconds(4)), Some(last));
    assert_eq!(behind.lead().0, 0, "time does not go back");
    assert!(!behind.run(9).is_stepped);
    assert_eq!(behind.lead().0, -4);
    let ahead = Machine::new(start().plus(Seconds(600)), Some(last));
    assert!(!ahead.run(1).is_stepped);
    assert_eq!(ahead.lead(), (600, -HOURS));
}

#[test]
fn a_clock_that_an_operator_says_is_right_is_believed_at_once_and_removes_nothing_for_it() {
    for step in [-2 * HOURS, -10 * YEARS, 10 * YEARS] {
        let wall = start().plus_millis(step * 1000);
        let machine = Machine::told(wall, Some(stopped(start())), MachineClock::Right);
        let state = machine.run(20);
        assert!(!state.is_stepped && state.steps == 0);
        assert_eq!(machine.lead(), (step, step.min(0)), "{step}");
    }
}

#[test]
fn a_start_with_a_clock_that_is_behind_or_years_ahead_goes_on_where_it_was() {
    for step in [-300, -2 * HOURS, -10 * YEARS, 10 * YEARS] {
        let machine = Machine::new(start().plus_millis(step * 1000), Some(stopped(start())));
        assert_eq!(machine.lead(), (0, 0), "{step}");
        let state = machine.run(20);
        assert!(state.is_stepped && state.steps == 1);
        assert_eq!(machine.lead(), (0, 0), "{step}");
        machine.step(-step);
        assert!(!machine.run(1).is_stepped);
    }
}
