//! The scratch directory, the files that are made for the demo, and the room they need.

use super::screen::bytes;
use anyhow::{Context, Result, bail};
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Made for the demo, beside whatever the user's directory holds.
pub(super) const OWN_DIR: &str = "syncd-demo";
/// The file that 1 KiB is inserted into.
pub(super) const BIG_FILE: &str = "syncd-demo/64-MiB.bin";
/// Its length.
pub(super) const BIG_LEN: usize = 64 << 20;
/// Notes to edit.
pub(super) const NOTES: usize = 24;
/// What the steps need beside two copies: versions of the big file, databases, logs.
const ROOM: u64 = 512 << 20;

/// A directory of our own that goes away with this value.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it where there is room for two copies of `content_bytes`: the temporary directory, else `/var/tmp`.
    pub(super) fn new(content_bytes: u64) -> Result<Self> {
        let need = 2 * content_bytes + ROOM;
        let places = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
        let Some(place) = places.iter().find(|place| free(place).is_some_and(|free| free >= need)) else {
            bail!(
                "neither {} nor {} has {} free for the scratch copies; set TMPDIR",
                places[0].display(),
                places[1].display(),
                bytes(need)
            );
        };
        let mut random = [0; 6];
        getrandom::fill(&mut random).context("no randomness for the scratch directory's name")?;
        let tail: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = place.join(format!("syncd-demo-{tail}"));
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now and says when that fails.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After `remove` there is nothing left, and during a panic or an error there is nobody to tell.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn free(place: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(place).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

/// The note that a step edits.
pub(super) fn note(number: usize) -> String {
    format!("{OWN_DIR}/notes/note-{number:02}.txt")
}

/// Fills `syncd-demo/` in `root`: a big file that cannot be compressed and small ones to edit.
pub(super) fn generate(root: &Path) -> Result<()> {
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(root.join(OWN_DIR).join("notes"))?;
        let mut big = File::create(root.join(BIG_FILE))?;
        let mut stream = blake3::Hasher::new().update(b"syncd demo").finalize_xof();
        let mut block = vec![0; 1 << 20];
        for _ in 0..BIG_LEN / block.len() {
            stream.fill(&mut block);
            big.write_all(&block)?;
        }
        for number in 0..NOTES {
            let line = format!("This is line %% of note {number}, as it was before anybody edited it.\n");
            let text: String = (1..60).map(|at| line.replace("%%", &at.to_string())).collect();
            fs::write(root.join(note(number)), text)?;
        }
        Ok(())
    };
    make().with_context(|| format!("cannot write the demo's own files into {}", root.display()))
}
