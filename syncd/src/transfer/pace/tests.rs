//! The pace against a clock that the test holds.

use super::*;

/// Milliseconds until `pieces` of `len` bytes have gone, at a cap that changes where `changes` say (millisecond, cap).
fn check(name: &str, cap: Cap, pieces: usize, len: u64, changes: &[(u64, Cap)], expected_ms: u64) {
    let start = Instant::now();
    let mut pace = Pace::free(start);
    pace.set(start, cap);
    let mut changes = changes.iter().map(|(ms, cap)| (start + Duration::from_millis(*ms), *cap)).peekable();
    let mut now = start;
    let mut gone = 0;
    while gone < pieces {
        match (pace.due(now), changes.peek().copied()) {
            (None, _) => {
                pace.spend(now, len);
                gone += 1;
            }
            (Some(due), Some((at, cap))) if at <= due => {
                now = at;
                pace.set(now, cap);
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
    let rate = Cap::of;
    check("no limit", Cap::Free, 1000, 1 << 30, &[], 0);
    check("the first piece goes at once", rate(1000), 1, 1000, &[], 0);
    check("a debt is waited for", rate(1000), 2, 1000, &[], 1000);
    check("ten seconds' worth", rate(2000), 40, 500, &[], 9750);
    check("a piece larger than a second's worth", rate(100), 2, 1000, &[], 10_000);
    check("no limit any more", rate(1), 2, 1_000_000, &[(5000, Cap::Free)], 5000);
    check("ten times the rate", rate(100), 2, 1000, &[(4750, rate(1000))], 5275);
    check("zero is no limit", rate(0), 10, 1000, &[], 0);
    check("a limit that comes later", Cap::Free, 3, 1000, &[(0, rate(1000))], 0);
    check("the same rate once more", rate(1000), 2, 1000, &[(400, rate(1000))], 1000);
    check("nothing until the hold ends", Cap::Hold, 2, 1000, &[(7000, Cap::Free)], 7000);
    check("a hold keeps the debt", rate(1000), 2, 1000, &[(500, Cap::Hold), (9000, rate(1000))], 9500);
    check("a hold of a hold", rate(1000), 2, 1000, &[(500, Cap::Hold), (600, Cap::Hold), (9000, rate(500))], 10_000);
}

#[test]
fn an_idle_hour_saves_no_more_than_the_credit() {
    let start = Instant::now();
    let mut pace = Pace::free(start);
    pace.set(start, Cap::of(1000));
    let now = start + Duration::from_secs(3600);
    pace.spend(now, 1250);
    assert_eq!(pace.due(now), Some(now + Duration::from_secs(1)));
}

#[test]
fn portions_fit_the_rate() {
    let mut pace = Pace::free(Instant::now());
    let rows = [
        (Cap::Free, REQUEST_BYTES_MAX),
        (Cap::of(1), PORTION_MIN),
        (Cap::of(2_000_000), 500_000),
        (Cap::of(u64::MAX), REQUEST_BYTES_MAX),
    ];
    for (cap, portion) in rows {
        pace.set(Instant::now(), cap);
        assert_eq!(pace.portion(), portion, "{cap:?}");
    }
}

#[tokio::test]
async fn a_lifted_limit_lets_go_of_whoever_waits() {
    let gate = std::sync::Arc::new(Gate::open());
    gate.set(Cap::of(1));
    gate.pass(1_000_000).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let gate = std::sync::Arc::clone(&gate);
            tokio::spawn(async move { gate.pass(1_000_000).await })
        })
        .collect();
    tokio::task::yield_now().await;
    gate.set(Cap::Free);
    for task in waiting {
        tokio::time::timeout(Duration::from_secs(30), task).await.expect("at once").expect("it passes");
    }
}
