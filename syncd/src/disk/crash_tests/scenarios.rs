//! The table of changes that the sweep stops, and that a user interferes with.

use super::Sim;
use crate::disk::fs::sim::Folding;
use crate::disk::testing::path;
use protocol::model::Mode;
use protocol::sync::Action;

/// A tree as the user and earlier syncs left it, and one batch on it.
pub(super) struct Scenario {
    pub name: &'static str,
    /// Makes the tree, records it and stages what comes from the peer.
    pub prepare: fn(&Sim) -> Vec<Action>,
    /// The path at which a user interferes.
    pub contested: &'static str,
}

pub(super) const OLD: &[u8] = b"the old bytes";
pub(super) const NEW: &[u8] = b"the new bytes from the peer";
pub(super) const OTHER: &[u8] = b"other old bytes";
pub(super) const EDIT: &[u8] = b"user's edit..";
pub(super) const SECOND_EDIT: &[u8] = b"another edit.";

fn file(world: &Sim, at: &str, bytes: &[u8]) {
    world.fs.user_write(&path(at), bytes).expect("room");
    world.fs.user_sync();
    world.scan(at);
}

fn directory(world: &Sim, at: &str) {
    world.fs.user_mkdir(&path(at)).expect("room");
    world.fs.user_sync();
    world.scan(at);
}

fn symlink(world: &Sim, at: &str) {
    world.fs.user_symlink(&path(at), b"old/target").expect("room");
    world.fs.user_sync();
    world.scan(at);
}

/// A directory in which nobody may change a name.
fn closed_directory(world: &Sim, at: &str, files: &[(&str, &[u8])]) {
    directory(world, at);
    for (name, bytes) in files {
        file(world, name, bytes);
    }
    world.fs.user_chmod(&path(at), Mode::new(0o555)).expect("it is there");
    world.fs.user_sync();
    world.scan(at);
}

/// One file under two names, both recorded.
fn two_names(world: &Sim) {
    file(world, "a", OLD);
    world.fs.user_link(&path("a"), &path("b")).expect("room");
    world.fs.user_sync();
    world.scan("a");
    world.scan("b");
}

pub(super) const SCENARIOS: [Scenario; 25] = [
    Scenario { name: "create", contested: "a", prepare: |world| vec![world.install(1, "a", NEW)] },
    Scenario {
        name: "create in a new directory",
        contested: "d/a",
        prepare: |world| vec![world.mkdir(1, "d"), world.install(2, "d/a", NEW)],
    },
    Scenario {
        name: "create and delete in a closed directory",
        contested: "d/b",
        prepare: |world| {
            closed_directory(world, "d", &[("d/a", OLD)]);
            vec![world.install(1, "d/b", NEW), world.remove(2, "d/a")]
        },
    },
    Scenario {
        name: "move onto a file in a closed directory",
        contested: "d/a",
        prepare: |world| {
            file(world, "b", OTHER);
            closed_directory(world, "d", &[("d/a", OLD)]);
            vec![world.rename(1, "b", "d/a")]
        },
    },
    Scenario {
        name: "two files with one content",
        contested: "b",
        prepare: |world| vec![world.install(1, "a", NEW), world.install(2, "b", NEW)],
    },
    Scenario {
        name: "replace",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "replace by equal bytes",
        contested: "a",
        prepare: |world| {
            file(world, "a", NEW);
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "delete",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.remove(1, "a")]
        },
    },
    Scenario {
        name: "delete a directory",
        contested: "d/a",
        prepare: |world| {
            directory(world, "d");
            file(world, "d/a", OLD);
            vec![world.remove(1, "d/a"), world.remove(2, "d")]
        },
    },
    Scenario {
        name: "move",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.rename(1, "a", "b")]
        },
    },
    Scenario {
        name: "move, met at the new path",
        contested: "d/b",
        prepare: |world| {
            file(world, "a", OLD);
            directory(world, "d");
            vec![world.rename(1, "a", "d/b")]
        },
    },
    Scenario {
        name: "move onto a file",
        contested: "b",
        prepare: |world| {
            file(world, "a", OLD);
            file(world, "b", OTHER);
            vec![world.rename(1, "a", "b")]
        },
    },
    Scenario {
        name: "set aside and install",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            let aside = world.rename(1, "a", "a.sync-conflict");
            let mut install = world.install(2, "a", NEW);
            install.expected = None;
            install.entry.version = install.entry.version.join(&aside.entry.version);
            vec![aside, install]
        },
    },
    Scenario {
        name: "replace one of two names",
        contested: "a",
        prepare: |world| {
            two_names(world);
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "delete one of two names",
        contested: "b",
        prepare: |world| {
            two_names(world);
            vec![world.remove(1, "a")]
        },
    },
    Scenario {
        name: "move to another spelling",
        contested: "a",
        prepare: |world| {
            world.fs.set_folding(Folding { case: true, accents: false });
            file(world, "a", OLD);
            vec![world.rename(1, "a", "A")]
        },
    },
    Scenario {
        name: "file to directory",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            let make = world.mkdir(1, "a");
            vec![make, world.install(2, "a/b", NEW)]
        },
    },
    Scenario {
        name: "directory to file",
        contested: "a",
        prepare: |world| {
            directory(world, "a");
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "file to link",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.link(1, "a", b"new/target")]
        },
    },
    Scenario {
        name: "link to file",
        contested: "a",
        prepare: |world| {
            symlink(world, "a");
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "link to link",
        contested: "a",
        prepare: |world| {
            symlink(world, "a");
            vec![world.link(1, "a", b"new/target")]
        },
    },
    Scenario { name: "make a directory", contested: "d", prepare: |world| vec![world.mkdir(1, "d")] },
    Scenario {
        name: "remove a directory",
        contested: "d",
        prepare: |world| {
            directory(world, "d");
            vec![world.remove(1, "d")]
        },
    },
    Scenario {
        name: "chmod and touch",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.chmod(1, "a", 0o600)]
        },
    },
    Scenario {
        name: "chmod a directory",
        contested: "d",
        prepare: |world| {
            directory(world, "d");
            vec![world.chmod(1, "d", 0o700)]
        },
    },
];
