//! Twenty readers look at files on B as fast as they can, while the files are replaced on A: a reader always finds a file,
//! and it is always one that somebody wrote.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::harness::{Device, Verdict, World, pair_of, settle, within};

const READERS: usize = 20;
const FILES: usize = 20;
/// What one round of replacements may take on two cores that the readers keep busy.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// Bytes of most files; a few need many chunks.
const SIZES: [usize; 10] = [16, 200, 2_000, 9_000, 30_000, 64, 100_000, 400, 5_000, 700_000];
const LARGE: usize = 8_000_000;
/// One content in so many is a large one.
const LARGE_EVERY: usize = 97;
/// Wrong contents that are shown.
const SHOWN: usize = 10;

#[derive(Default)]
struct Seen {
    looks: AtomicU64,
    absent: AtomicU64,
    partial: AtomicU64,
    words: Mutex<Vec<String>>,
}

/// The round and the file, again and again: a blend of two contents, a beginning and a tail cannot look like this.
fn content(round: usize, file: usize) -> Vec<u8> {
    let large = (round + 5 * file) % LARGE_EVERY == LARGE_EVERY - 1;
    let len = if large { LARGE } else { SIZES[(round * 7 + file) % SIZES.len()] };
    let words = [round as u32, file as u32, len as u32, 0x5a5a_a5a5];
    words.iter().flat_map(|word| word.to_le_bytes()).cycle().take(len).collect()
}

fn is_whole(bytes: &[u8], file: usize) -> bool {
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
    let [round, own, len] = [word(0), word(4), word(8)];
    (own, len) == (Some(file as u32), Some(bytes.len() as u32))
        && round.is_some_and(|round| bytes == content(round as usize, file))
}

fn name(file: usize) -> String {
    format!("f{file}")
}

pub fn poll(world: &World, replacements: usize, verdict: &mut Verdict) {
    let (a, b) = pair_of(world);
    (0..FILES).for_each(|file| a.save(name(file), content(0, file)));
    settle(&[&a, &b]);
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    let rounds = replacements.div_ceil(FILES);
    let started = Instant::now();
    let done = std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (b, seen, stop) = (&b, &seen, &stop);
            scope.spawn(move || read(b, reader, seen, stop));
        }
        let done = (1..=rounds).take_while(|round| replace(&a, &b, *round)).inspect(|round| progress(*round, started));
        let done = done.count();
        stop.store(true, Ordering::Relaxed);
        done
    });
    let took = started.elapsed().as_secs_f64();
    let [looks, absent, partial] =
        [&seen.looks, &seen.absent, &seen.partial].map(|count| count.load(Ordering::Relaxed));
    for words in seen.words.lock().expect("no reader panics with it").iter().take(SHOWN) {
        println!("     {words}");
    }
    verdict
        .say(done == rounds, &format!("poll: {} of {replacements} replacements arrived in {took:.0} s", done * FILES));
    verdict.say(absent == 0, &format!("poll: {absent} times a file was absent, in {looks} looks of {READERS} readers"));
    verdict.say(partial == 0, &format!("poll: {partial} times a file was not what somebody wrote"));
    settle(&[&a, &b]);
    verdict.compare(&a, &b);
}

fn progress(round: usize, started: Instant) {
    if round.is_multiple_of(50) {
        println!("     {} replacements after {:.0} s", round * FILES, started.elapsed().as_secs_f64());
    }
}

/// Replaces every file on A, and waits until B has all of them. False: it does not come to pass.
fn replace(a: &Device, b: &Device, round: usize) -> bool {
    (0..FILES).for_each(|file| a.save(name(file), content(round, file)));
    let is_there = |file: usize| {
        let mut head = [0; 4];
        let opened = std::fs::File::open(b.at(name(file)));
        let read = opened.and_then(|mut open| std::io::Read::read_exact(&mut open, &mut head));
        read.is_ok() && u32::from_le_bytes(head) as usize == round
    };
    within(ROUND_MAX, || (0..FILES).all(is_there).then_some(())).is_some()
}

fn read(b: &Device, first: usize, seen: &Seen, stop: &AtomicBool) {
    for at in first.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let file = at % FILES;
        let path = b.at(name(file));
        let found = std::fs::symlink_metadata(&path).and_then(|_| std::fs::read(&path));
        seen.looks.fetch_add(1, Ordering::Relaxed);
        let (count, words) = match found {
            Ok(bytes) if is_whole(&bytes, file) => continue,
            Ok(bytes) => (&seen.partial, format!("{file}: {} bytes that nobody wrote", bytes.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => (&seen.absent, format!("{file}: {error}")),
            Err(error) => (&seen.partial, format!("{file}: {error}")),
        };
        count.fetch_add(1, Ordering::Relaxed);
        seen.words.lock().expect("no reader panics with it").push(words);
    }
}
