//! The pace against a clock that the test holds.

use super::*;

/// Milliseconds until `pieces` of `len` bytes have gone, at a rate that changes where `changes` say (millisecond, rate).
fn check(name: &str, rate: Option<u64>, pieces: usize, len: u64, changes: &[(u64, Option<u64>)], expected_ms: u64) {
    let start = Instant::now();
    let mut pace = Pace::unlimited(start);
    pace.set(start, rate);
    let mut changes = changes.iter().map(|(ms, rate)| (start + Duration::from_millis(*ms), *rate)).peekable();
    let mut now = start;
    let mut gone = 0;
    while gone < pieces {
        match (pace.due(now), changes.peek().copied()) {
            (None, _) => {
                pace.spend(now, len);
                gone += 1;
            }
            (Some(due), Some((at, rate))) if at <= due => {
                now = at;
                pace.set(now, rate);
                changes.next();
            }
            (Some(due), _) => now = due,
        }
    }
    let took = u64::try_from((now - start).as_millis()).expect("a short test");
    assert_eq!(took, expected_ms, "{name}");
}

#[test]
fn what_a_rate_means() {
    check("no limit", None, 1000, 1 << 30, &[], 0);
    check("the first piece goes at once", Some(1000), 1, 1000, &[], 0);
    check("a debt is waited for", Some(1000), 2, 1000, &[], 1000);
    check("ten seconds' worth", Some(2000), 40, 500, &[], 9750);
    check("a piece larger than a second's worth", Some(100), 2, 1000, &[], 10_000);
    check("no limit any more", Some(1), 2, 1_000_000, &[(5000, None)], 5000);
    check("ten times the rate", Some(100), 2, 1000, &[(4750, Some(1000))], 5275);
    check("zero is no limit", Some(0), 10, 1000, &[], 0);
    check("a limit that comes later", None, 3, 1000, &[(0, Some(1000))], 0);
}

#[test]
fn an_idle_hour_saves_no_more_than_the_credit() {
    let start = Instant::now();
    let mut pace = Pace::unlimited(start);
    pace.set(start, Some(1000));
    let now = start + Duration::from_secs(3600);
    pace.spend(now, 1250);
    assert_eq!(pace.due(now), Some(now + Duration::from_secs(1)));
}

#[test]
fn portions_fit_the_rate() {
    let mut pace = Pace::unlimited(Instant::now());
    let rows = [
        (None, REQUEST_BYTES_MAX),
        (Some(1), PORTION_MIN),
        (Some(2_000_000), 500_000),
        (Some(u64::MAX), REQUEST_BYTES_MAX),
    ];
    for (rate, portion) in rows {
        pace.set(Instant::now(), rate);
        assert_eq!(pace.portion(), portion, "{rate:?}");
    }
}

#[tokio::test]
async fn a_lifted_limit_lets_go_of_whoever_waits() {
    let gate = std::sync::Arc::new(Gate::open());
    gate.set(Some(1));
    gate.pass(1_000_000).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let gate = std::sync::Arc::clone(&gate);
            tokio::spawn(async move { gate.pass(1_000_000).await })
        })
        .collect();
    tokio::task::yield_now().await;
    gate.set(None);
    for task in waiting {
        tokio::time::timeout(Duration::from_secs(30), task).await.expect("at once").expect("it passes");
    }
}
