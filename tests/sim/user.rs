//! What a user does to a tree, with the oracle looking on.

use super::oracle::{Identity, Known, Oracle, is_copy};
use super::scenario::Act;
use super::store::Store;
use super::tree::Tree;
use protocol::model::{Content, Manifest, Mode, Mtime, RelPath};
use protocol::sync::Rows;
use std::collections::BTreeMap;

/// Someone at a device.
pub struct User<'a> {
    /// The device's number.
    pub device: usize,
    /// Its files.
    pub tree: &'a mut Tree,
    /// What the device knows.
    pub store: &'a Store,
    /// Contents that an action put there and that are not recorded yet.
    pub applied: BTreeMap<RelPath, Identity>,
    /// Who remembers.
    pub oracle: &'a mut Oracle,
    /// The paths users name.
    pub paths: &'a [RelPath],
    /// Names this action: its bytes occur once.
    pub tag: String,
    /// The device's wall clock.
    pub time: Mtime,
    /// Some number of this action.
    pub salt: u64,
    /// What was touched, for the watcher.
    pub touched: Vec<RelPath>,
}

/// A file's content.
#[must_use]
pub fn file(bytes: &[u8]) -> Content {
    Content::File(Manifest::of(bytes, None).to_content())
}

impl User<'_> {
    /// Does it, if it makes sense here.
    pub fn act(&mut self, act: Act) {
        match act {
            Act::Write(at) => self.place(&self.paths[at].clone(), file(self.tag.clone().as_bytes())),
            Act::WriteShared(at, which) => self.place(&self.paths[at].clone(), file(&[b's', which])),
            Act::Mkdir(at) => self.place(&self.paths[at].clone(), Content::Directory),
            Act::Link(at) => self.place(&self.paths[at].clone(), Content::Symlink(self.tag.clone().into_bytes())),
            Act::Delete(at) => self.delete(&self.paths[at].clone()),
            Act::Rename(from, to) => self.rename(&self.paths[from].clone(), &self.paths[to].clone()),
            Act::Chmod(at) => {
                let mode = Mode::new([0o600, 0o644, 0o755][(self.salt % 3) as usize]);
                self.metadata(&self.paths[at].clone(), Some(mode));
            }
            Act::Touch(at) => self.metadata(&self.paths[at].clone(), None),
            Act::EditCopy(nth) => {
                if let Some(path) = self.copy(nth) {
                    self.place(&path, file(self.tag.clone().as_bytes()));
                }
            }
            Act::DeleteCopy(nth) => {
                if let Some(path) = self.copy(nth) {
                    self.delete(&path);
                }
            }
        }
    }

    fn copy(&self, nth: u8) -> Option<RelPath> {
        let copies: Vec<&RelPath> = self.tree.nodes().keys().filter(|path| is_copy(path)).collect();
        copies.get(usize::from(nth) % copies.len().max(1)).map(|path| (*path).clone())
    }

    fn tell(&mut self, path: &RelPath, before: Option<&Content>, after: Option<&Content>) {
        let row = self.store.get(path);
        let recorded = self.applied.get(path).copied().or_else(|| row.entry().map(|entry| entry.content.identity()));
        let known = Known { recorded, first_contact: !self.store.state().scanned };
        self.oracle.user(self.device, path, before, after, &known);
    }

    fn content(&self, path: &RelPath) -> Option<Content> {
        self.tree.get(path).map(|node| node.content.clone())
    }

    fn set(&mut self, path: &RelPath, content: Content) {
        let before = self.content(path);
        self.tell(path, before.as_ref(), Some(&content));
        let mode = match (&content, self.tree.get(path)) {
            (Content::Symlink(_), _) => Mode::default(),
            (Content::Directory, _) => Mode::new(0o755),
            (_, Some(node)) if node.content.file().is_some() => node.mode,
            _ => Mode::new(0o644),
        };
        self.tree.put(path, content, mode, self.time);
        self.touched.push(path.clone());
    }

    /// The directories above, made where nothing stands; false when something else stands there.
    fn parents(&mut self, path: &RelPath) -> bool {
        let Some(parent) = path.parent() else {
            return true;
        };
        if self.tree.is_directory(Some(&parent)) {
            return true;
        }
        if self.tree.get(&parent).is_some() || !self.parents(&parent) {
            return false;
        }
        self.set(&parent, Content::Directory);
        true
    }

    fn place(&mut self, path: &RelPath, content: Content) {
        if !self.parents(path) || (content.is_directory() && self.tree.is_directory(Some(path))) {
            return;
        }
        if self.tree.is_directory(Some(path)) {
            self.delete(path);
        }
        self.set(path, content);
    }

    fn delete(&mut self, path: &RelPath) {
        let mut gone = self.tree.below(path);
        gone.reverse();
        gone.push(path.clone());
        for path in gone {
            if let Some(node) = self.tree.remove(&path) {
                self.tell(&path, Some(&node.content), None);
                self.touched.push(path);
            }
        }
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath) {
        if from == to || from.is_below(to) || to.is_below(from) || self.tree.get(from).is_none() || !self.parents(to) {
            return;
        }
        self.delete(to);
        let mut moving = vec![from.clone()];
        moving.extend(self.tree.below(from));
        for old in moving {
            let content = self.content(&old).expect("listed just now");
            let new = [to.as_bytes(), &old.as_bytes()[from.as_bytes().len()..]].concat();
            let new = RelPath::parse(&new).expect("a path below a path");
            self.tell(&old, Some(&content), None);
            self.tell(&new, None, Some(&content));
            self.tree.rename(&old, &new);
            self.touched.extend([old, new]);
        }
    }

    fn metadata(&mut self, path: &RelPath, mode: Option<Mode>) {
        let Some(node) = self.tree.get(path).filter(|node| !matches!(node.content, Content::Symlink(_))) else {
            return;
        };
        let (mode, mtime) = match mode {
            Some(mode) => (mode, node.mtime),
            None => (node.mode, self.time),
        };
        self.tree.set_metadata(path, mode, mtime);
        self.touched.push(path.clone());
    }
}
