//! `.syncd/marker`: proof that the directory at a folder's root is the folder, and not an empty mount point or
//! another disk. A missing or foreign marker stops the folder before anything is believed to be deleted.

use super::fs::{Area, Errno, Fs, errno};
use protocol::model::FolderId;
use std::io;

const NAME: &[u8] = b"marker";
const NEW_NAME: &[u8] = b"marker.new";
/// Far above what is written; a longer file is foreign.
const LEN_MAX: usize = 256;

/// What a marker says. The nonce is also kept outside the database and tells two copies of a folder apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The folder.
    pub folder: FolderId,
    /// Random, drawn when the folder was added here.
    pub nonce: [u8; 16],
}

/// What was found at the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerCheck {
    /// Our marker.
    Ok,
    /// No `.syncd/` or no marker in it.
    Missing,
    /// Another folder's, another copy's, or not a marker at all.
    Foreign,
}

impl Marker {
    fn text(&self) -> String {
        let nonce = FolderId(self.nonce).to_hex();
        format!("syncd folder marker: keep this file\nfolder {}\nnonce {nonce}\n", self.folder.to_hex())
    }

    /// Prepares `.syncd/` and writes the marker durably.
    ///
    /// # Errors
    /// EEXIST when there is a marker already, whosever it is.
    pub fn create<F: Fs>(&self, fs: &F) -> io::Result<()> {
        fs.prepare_private()?;
        let base = fs.private(Area::Base)?;
        if fs.stat(&base, NAME)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        if fs.stat(&base, NEW_NAME)?.is_some() {
            fs.unlink(&base, NEW_NAME)?;
        }
        let file = fs.create(&base, NEW_NAME)?;
        fs.write_at(&file, self.text().as_bytes(), 0)?;
        fs.sync_file(&file)?;
        fs.rename_noreplace((&base, NEW_NAME), (&base, NAME))?;
        fs.sync_dir(&base)
    }

    /// Writes the marker in place of another: a person said that the directory is this folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn replace<F: Fs>(&self, fs: &F) -> io::Result<()> {
        if self.check(fs)? == MarkerCheck::Foreign {
            let base = fs.private(Area::Base)?;
            fs.unlink(&base, NAME)?;
        }
        match self.create(fs) {
            Err(error) if errno(&error) == Errno::EXIST && self.check(fs)? == MarkerCheck::Ok => Ok(()),
            done => done,
        }
    }

    /// Takes the marker away, if it is this one: the directory is no longer a folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove<F: Fs>(&self, fs: &F) -> io::Result<()> {
        if self.check(fs)? == MarkerCheck::Ok {
            let base = fs.private(Area::Base)?;
            fs.unlink(&base, NAME)?;
            fs.sync_dir(&base)?;
        }
        Ok(())
    }

    /// Compares this marker with the one at the root.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn check<F: Fs>(&self, fs: &F) -> io::Result<MarkerCheck> {
        let opened = fs.private(Area::Base).and_then(|base| fs.open(&base, NAME));
        let file = match opened {
            Err(error) if errno(&error) == Errno::NOENT => return Ok(MarkerCheck::Missing),
            Err(error) if matches!(errno(&error), Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return Ok(MarkerCheck::Foreign);
            }
            opened => opened?,
        };
        let mut found = vec![0; LEN_MAX];
        let len = fs.read_at(&file, &mut found, 0)?;
        Ok(if &found[..len] == self.text().as_bytes() { MarkerCheck::Ok } else { MarkerCheck::Foreign })
    }
}
