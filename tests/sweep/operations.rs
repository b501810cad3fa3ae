//! What a user does once, between two moments of rest.

use std::fs;
use std::os::unix::fs::symlink;
use tests::harness::{Device, noise, set_mode};

/// Bytes of a small file.
const SMALL: usize = 20_000;
/// Bytes of a file of many chunks.
const LARGE: usize = 3 << 20;

/// One thing done in a directory of its own.
pub struct Operation {
    /// What it is called in the table.
    pub name: &'static str,
    /// Makes what stands before.
    pub before: fn(&Place<'_>),
    /// Does it.
    pub act: fn(&Place<'_>),
    /// Whether the bytes of `f` are gone from the tree afterwards, so that a version of them must be kept.
    pub displaces: bool,
}

/// A directory of a device in which one operation is done.
pub struct Place<'a> {
    /// The device of the user.
    pub device: &'a Device,
    /// Its name in the folder.
    pub directory: String,
    /// No two places hold the same bytes.
    pub seed: u64,
}

impl Place<'_> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        self.device.put(self.path(name), bytes);
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.device.at(self.path(name))
    }

    /// What `f` held before.
    pub fn old(&self) -> Vec<u8> {
        noise(self.seed * 2, SMALL)
    }

    fn fresh(&self) -> Vec<u8> {
        noise(self.seed * 2 + 1, SMALL)
    }

    fn large(&self) -> Vec<u8> {
        noise(self.seed * 2, LARGE)
    }
}

fn file(place: &Place<'_>) {
    place.put("f", place.old());
}

fn directory(place: &Place<'_>) {
    for name in ["d/one", "d/two", "d/sub/three"] {
        place.put(name, [place.old(), name.into()].concat());
    }
}

fn remove_file(place: &Place<'_>) {
    fs::remove_file(place.at("f")).expect("it is there");
}

fn remove_directory(place: &Place<'_>) {
    fs::remove_dir_all(place.at("d")).expect("it is there");
}

/// Every kind of change.
pub const OPERATIONS: [Operation; 14] = [
    Operation {
        name: "create",
        before: |place| place.put("other", "x"),
        act: |place| place.put("f", place.fresh()),
        displaces: false,
    },
    Operation { name: "update", before: file, act: |place| place.put("f", place.fresh()), displaces: true },
    Operation {
        name: "replace",
        before: file,
        act: |place| place.device.save(place.path("f"), place.fresh()),
        displaces: true,
    },
    Operation {
        name: "insert",
        before: |place| place.put("large", place.large()),
        act: |place| place.put("large", [&b"in front"[..], &place.large()].concat()),
        displaces: false,
    },
    Operation { name: "delete", before: file, act: remove_file, displaces: true },
    Operation {
        name: "rename",
        before: file,
        act: |place| fs::rename(place.at("f"), place.at("g")).expect("a rename"),
        displaces: false,
    },
    Operation { name: "chmod", before: file, act: |place| set_mode(&place.at("f"), 0o700), displaces: false },
    Operation { name: "mkdir", before: |place| place.put("other", "x"), act: directory, displaces: false },
    Operation { name: "rmdir", before: directory, act: remove_directory, displaces: false },
    Operation {
        name: "rename a directory",
        before: directory,
        act: |place| fs::rename(place.at("d"), place.at("e")).expect("a rename"),
        displaces: false,
    },
    Operation {
        name: "file to directory",
        before: file,
        act: |place| {
            remove_file(place);
            place.put("f/inside", place.fresh());
        },
        displaces: true,
    },
    Operation {
        name: "directory to file",
        before: directory,
        act: |place| {
            remove_directory(place);
            place.put("d", place.fresh());
        },
        displaces: false,
    },
    Operation {
        name: "file to link",
        before: file,
        act: |place| {
            remove_file(place);
            symlink("somewhere", place.at("f")).expect("a link");
        },
        displaces: true,
    },
    Operation {
        name: "link to directory",
        before: |place| {
            place.put("other", "x");
            symlink("somewhere", place.at("d")).expect("a link");
        },
        act: |place| {
            fs::remove_file(place.at("d")).expect("it is there");
            directory(place);
        },
        displaces: false,
    },
];
