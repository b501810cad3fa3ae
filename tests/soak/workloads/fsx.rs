//! One program that works on one file at random (after fsx: write, truncate, read, close and open again) and knows what must
//! be in it. The daemon beside it only reads; the program must never notice.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::harness::{Device, Verdict, noise};
use tests::sim::rng::Rng;

const FILES: usize = 3;
const LEN_MAX: usize = 1 << 20;
const WRITE_MAX: usize = 64 * 1024;
/// The daemon has to see it at many moments.
const WORK: Duration = Duration::from_secs(40);

/// A file and what must be in it.
struct Model {
    file: File,
    bytes: Vec<u8>,
    writes: u64,
}

pub fn fsx(a: &Device, verdict: &mut Verdict) -> bool {
    let seed = 7;
    let mut rng = Rng::new(seed, 2);
    let paths: Vec<_> = (0..FILES).map(|at| a.at(format!("fsx{at}"))).collect();
    let mut models: Vec<Model> =
        paths.iter().map(|path| Model { file: open(path), bytes: Vec::new(), writes: 0 }).collect();
    let (started, mut steps, mut wrong) = (Instant::now(), 0_u64, 0_u64);
    while started.elapsed() < WORK {
        let at = rng.below(FILES);
        wrong += u64::from(!step(&mut models[at], &paths[at], &mut rng));
        steps += 1;
    }
    let ends = models.iter().zip(&paths).all(|(model, path)| std::fs::read(path).is_ok_and(|read| read == model.bytes));
    verdict.say(wrong == 0 && ends, &format!("fsx: seed {seed}, {steps} steps, {wrong} surprises"));
    true
}

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).open(path).expect("it opens")
}

/// One random step; false when the file is not what it must be.
fn step(model: &mut Model, path: &Path, rng: &mut Rng) -> bool {
    match rng.below(10) {
        0..4 => {
            let (at, len) = (rng.below(LEN_MAX - WRITE_MAX), 1 + rng.below(WRITE_MAX));
            model.writes += 1;
            let bytes = noise(model.writes, len);
            model.file.write_all_at(&bytes, at as u64).expect("it can be written");
            if model.bytes.len() < at + len {
                model.bytes.resize(at + len, 0);
            }
            model.bytes[at..at + len].copy_from_slice(&bytes);
            true
        }
        4..6 => {
            let len = rng.below(LEN_MAX);
            model.file.set_len(len as u64).expect("it can be cut");
            model.bytes.resize(len, 0);
            true
        }
        6 => {
            model.file.sync_all().expect("it can be made durable");
            true
        }
        7 => {
            // By its path: nobody may have put another file there.
            model.file = open(path);
            model.file.metadata().is_ok_and(|meta| meta.len() == model.bytes.len() as u64)
        }
        _ => {
            let at = rng.below(model.bytes.len() + 1);
            let len = rng.below(WRITE_MAX).min(model.bytes.len() - at);
            let mut bytes = vec![0; len];
            model.file.read_exact_at(&mut bytes, at as u64).is_ok() && bytes == model.bytes[at..at + len]
        }
    }
}
