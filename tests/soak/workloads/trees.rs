//! Programs that write whole trees: tar, git, npm and cargo.

use super::{has, output, settle};
use std::fs;
use std::path::Path;
use tests::harness::{Device, Verdict, World, noise};

/// Debian's package `linux-source-6.1` puts it there.
const KERNEL: &str = "/usr/src/linux-source-6.1.tar.xz";
/// Files of each tree that git switches between.
const GIT_FILES: usize = 3_000;
const CHECKOUTS: usize = 8;
/// A large project: some 1,400 packages.
const PACKAGES: [&str; 6] =
    ["typescript@4.9.5", "webpack@5.91.0", "webpack-cli@5.1.4", "eslint@8.57.0", "jest@29.7.0", "react-scripts@5.0.1"];

/// The sources of Linux, unpacked into the folder, then a part of them deleted.
pub fn kernel(a: &Device, b: &Device, verdict: &mut Verdict) -> bool {
    if !Path::new(KERNEL).is_file() {
        return false;
    }
    let unpacked = output(a.files(), "tar", &["-xf", KERNEL]).is_some();
    verdict.say(unpacked, "kernel: unpacked");
    settle(a, b);
    let files = b.folder()["local"]["files"].as_u64().unwrap_or(0);
    verdict.say(files > 70_000, &format!("kernel: {files} files on the other side"));
    let top = a.at("linux-source-6.1");
    fs::remove_dir_all(top.join("Documentation")).expect("it is there");
    fs::rename(top.join("drivers"), top.join("moved drivers")).expect("a rename");
    true
}

/// Two trees in one repository, checked out in turn, while the folder syncs.
pub fn git(a: &Device, b: &Device, verdict: &mut Verdict) -> bool {
    if !has("git") {
        return false;
    }
    let (here, there) = (a.at("repository"), b.at("repository"));
    fs::create_dir(&here).expect("a directory");
    let git = |args: &[&str]| output(&here, "git", args);
    let text = |seed: usize| noise(seed as u64, 40 + seed % 3_000);
    let mut good = git(&["init", "--quiet", "--initial-branch=one"]).is_some();
    (0..GIT_FILES).for_each(|at| a.put(format!("repository/{}/{}/{at}", at % 23, at % 7), text(at)));
    good &= git(&["add", "--all"]).is_some() && git(&["commit", "--quiet", "-m", "one"]).is_some();
    good &= git(&["checkout", "--quiet", "-b", "two"]).is_some();
    for at in 0..GIT_FILES {
        let path = here.join(format!("{}/{}/{at}", at % 23, at % 7));
        match at % 4 {
            0 => fs::write(&path, text(at + GIT_FILES)).expect("written"),
            1 => fs::remove_file(&path).expect("gone"),
            2 => fs::rename(&path, here.join(format!("{}/moved {at}", at % 23))).expect("a rename"),
            _ => {}
        }
    }
    // A file where a directory was.
    fs::remove_dir_all(here.join("5")).expect("gone");
    fs::write(here.join("5"), "a file").expect("written");
    good &= git(&["add", "--all"]).is_some() && git(&["commit", "--quiet", "-m", "two"]).is_some();
    for at in 0..CHECKOUTS {
        good &= git(&["checkout", "--quiet", if at % 2 == 0 { "one" } else { "two" }]).is_some();
        if at % 3 == 0 {
            settle(a, b);
        }
    }
    good &= git(&["gc", "--quiet"]).is_some();
    verdict.say(good, &format!("git: {CHECKOUTS} checkouts of two trees of {GIT_FILES} files"));
    settle(a, b);
    let sound = output(&there, "git", &["fsck", "--full", "--strict", "--no-progress"]).is_some();
    verdict.say(sound, "git: fsck on the other side");
    // Without optional locks nothing is written, so that looking at it does not change it.
    let changed = output(&there, "git", &["--no-optional-locks", "status", "--porcelain"]);
    verdict.say(changed.as_deref() == Some(""), "git: the other side's files are those of the revision");
    true
}

/// Installs a large project, twice: the second time everything goes and comes again at once.
pub fn npm(world: &World, a: &Device, b: &Device, verdict: &mut Verdict) -> bool {
    if !has("npm") {
        return false;
    }
    let lock = world.path().join("lock");
    fs::create_dir_all(&lock).expect("a scratch directory");
    fs::write(lock.join("package.json"), "{\"name\": \"soak\", \"version\": \"1.0.0\"}").expect("written");
    let cache = format!("--cache={}", world.path().join("npm").display());
    let quiet = ["--no-audit", "--no-fund", "--ignore-scripts", cache.as_str()];
    let resolve = [&["install", "--package-lock-only"][..], &quiet, &PACKAGES].concat();
    if output(&lock, "npm", &resolve).is_none() {
        return false;
    }
    let here = a.at("project");
    fs::create_dir(&here).expect("a directory");
    for name in ["package.json", "package-lock.json"] {
        fs::copy(lock.join(name), here.join(name)).expect("a copy");
    }
    let install = [&["ci"][..], &quiet].concat();
    for round in ["first", "second"] {
        verdict.say(output(&here, "npm", &install).is_some(), &format!("npm: the {round} ci"));
    }
    settle(a, b);
    let files = b.folder()["local"]["files"].as_u64().unwrap_or(0);
    let version = output(&b.at("project"), "node_modules/.bin/tsc", &["--version"]);
    verdict.say(version.is_some(), &format!("npm: of {files} files, the compiler runs on the other side: {version:?}"));
    true
}

/// Builds, edits and builds a crate in the folder, its target directory included.
pub fn cargo(a: &Device, b: &Device, verdict: &mut Verdict) -> bool {
    if !has("cargo") {
        return false;
    }
    let here = a.at("program");
    let mut good = output(a.files(), "cargo", &["new", "--quiet", "--vcs", "none", "program"]).is_some();
    // It must not take itself for a member of a workspace above.
    let manifest = fs::read_to_string(here.join("Cargo.toml")).unwrap_or_default();
    fs::write(here.join("Cargo.toml"), format!("{manifest}\n[workspace]\n")).expect("written");
    for round in 0..5 {
        let main = format!("fn main() {{ println!(\"round {round}\"); }}\n#[test]\nfn holds() {{}}\n");
        fs::write(here.join("src/main.rs"), main).expect("written");
        good &= output(&here, "cargo", &["build", "--quiet", "--offline"]).is_some();
        good &= output(&here, "cargo", &["test", "--quiet", "--offline"]).is_some();
        if round == 2 {
            good &= output(&here, "cargo", &["clean", "--quiet"]).is_some();
        }
    }
    verdict.say(good, "cargo: five builds and tests, and one clean");
    settle(a, b);
    let said = output(&b.at("program"), "target/debug/program", &[""; 0]);
    verdict.say(said.as_deref() == Some("round 4\n"), "cargo: what was built runs on the other side");
    true
}
