//! What a user does to a folder, on either disk. It says what it did, for the oracle and the watcher.

use super::oracle::is_copy;
use super::scenario::Act;
use protocol::model::{Content, Manifest, Mode, Mtime, RelPath};
use std::collections::BTreeMap;
use syncd::disk::fs::sim::Names;

/// What a user sees at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Kind and bytes.
    pub content: Content,
    /// Permission bits; 0 for links.
    pub mode: Mode,
    /// Modification time.
    pub mtime: Mtime,
}

/// Something to put at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A file with these bytes.
    File(Vec<u8>),
    /// A link to this.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
}

impl Thing {
    /// As an entry has it.
    #[must_use]
    pub fn content(&self) -> Content {
        match self {
            Self::File(bytes) => Content::File(Manifest::of(bytes, None).to_content()),
            Self::Symlink(target) => Content::Symlink(target.clone()),
            Self::Directory => Content::Directory,
        }
    }
}

/// A folder as programs beside syncd use it. The paths are known to make sense.
pub trait Files {
    /// Everything in it.
    fn objects(&self) -> BTreeMap<RelPath, Object>;
    /// Another program is at work; `salt` says of what kind.
    fn begin(&mut self, salt: u64);
    /// Puts something there; no directory stands there.
    fn put(&mut self, path: &RelPath, thing: &Thing, mode: Mode, mtime: Mtime);
    /// Writes a file in place and puts its mtime back.
    fn rewrite(&mut self, path: &RelPath, bytes: &[u8], mtime: Mtime);
    /// Puts a pipe there; no directory stands there.
    fn put_pipe(&mut self, path: &RelPath);
    /// Renews mode or mtime in place.
    fn set_metadata(&mut self, path: &RelPath, mode: Mode, mtime: Mtime);
    /// Takes away what stands there, with everything below.
    fn remove_all(&mut self, path: &RelPath);
    /// Renames what stands there, with everything below. Nothing stands at the new path.
    fn rename_all(&mut self, from: &RelPath, to: &RelPath);
    /// A path as the disk spells what stands there.
    fn spelling(&self, path: &RelPath) -> RelPath;
    /// Gives a file another name. Nothing stands there.
    fn link(&mut self, from: &RelPath, to: &RelPath);
    /// What a file is called beside this name.
    fn others(&self, path: &RelPath) -> Names;
    /// Gives a file the one name outside the folder that there is.
    fn link_outside(&mut self, from: &RelPath);
    /// Writes in place through that name, when it is one.
    fn write_outside(&mut self, bytes: &[u8]);
    /// What the file of that name is called in the folder.
    fn names_of_outside(&self) -> Names;
}

/// One path that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Where.
    pub path: RelPath,
    /// What stood there.
    pub before: Option<Content>,
    /// What stands there now.
    pub after: Option<Content>,
    /// By which of its names.
    pub through: Through,
}

/// By which of its names a file was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Through {
    /// This one: the watcher can tell.
    This,
    /// Another one: only a scan can tell.
    Other,
    /// Its names in `.syncd/` show it too, which is for nobody to see: the sync was taking it away.
    Hidden(Vec<String>),
}

/// Someone at a device.
#[derive(Clone, Debug)]
pub struct User {
    /// The paths users name.
    pub paths: Vec<RelPath>,
    /// Names this action: its bytes occur once.
    pub tag: String,
    /// The device's wall clock.
    pub time: Mtime,
    /// Some number of this action.
    pub salt: u64,
}

struct Acting<'a> {
    user: &'a User,
    files: &'a mut dyn Files,
    objects: BTreeMap<RelPath, Object>,
    deeds: Vec<Deed>,
}

impl User {
    /// Does it, if it makes sense here.
    pub fn act(&self, act: Act, files: &mut dyn Files) -> Vec<Deed> {
        let objects = files.objects();
        files.begin(self.salt);
        let mut acting = Acting { user: self, files, objects, deeds: Vec::new() };
        acting.act(act);
        acting.deeds
    }
}

impl Acting<'_> {
    fn act(&mut self, act: Act) {
        let user = self.user;
        let bytes = || user.tag.clone().into_bytes();
        let spelled: Vec<RelPath> = user.paths.iter().map(|path| self.files.spelling(path)).collect();
        let path = |at: usize| spelled[at].clone();
        match act {
            Act::Write(at) => self.place(&path(at), &Thing::File(bytes())),
            Act::WriteShared(at, which) => self.place(&path(at), &Thing::File(vec![b's', which])),
            Act::Mkdir(at) => self.place(&path(at), &Thing::Directory),
            Act::Link(at) => self.place(&path(at), &Thing::Symlink(bytes())),
            Act::Delete(at) => self.delete(&path(at)),
            Act::Rename(from, to) => self.rename(&path(from), &user.paths[to]),
            Act::Chmod(at) => {
                let path = path(at);
                let is_directory = self.objects.get(&path).is_some_and(|object| object.content.is_directory());
                // In most directories of these modes nobody but root may change a name.
                let modes = if is_directory { [0o555, 0o644, 0o755] } else { [0o600, 0o644, 0o755] };
                self.metadata(&path, Some(Mode::new(modes[(user.salt % 3) as usize])));
            }
            Act::Touch(at) => self.metadata(&path(at), None),
            Act::WriteQuietly(at) => self.write_quietly(&path(at)),
            Act::Fifo(at) => self.pipe(&path(at)),
            Act::HardLink(from, to) => self.link(&path(from), &path(to)),
            Act::LinkOutside(at) => self.link_outside(&path(at)),
            Act::WriteOutside => self.write_outside(&bytes()),
            // Open files are the device's.
            Act::Open(_) | Act::Append(_) => {}
            Act::EditCopy(nth) => {
                if let Some(path) = self.copy(nth) {
                    self.place(&path, &Thing::File(bytes()));
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
        let copies: Vec<&RelPath> = self.objects.keys().filter(|path| is_copy(path)).collect();
        copies.get(usize::from(nth) % copies.len().max(1)).map(|path| (*path).clone())
    }

    fn is_directory(&self, path: &RelPath) -> bool {
        self.objects.get(path).is_some_and(|object| object.content.is_directory())
    }

    fn below(&self, path: &RelPath) -> Vec<RelPath> {
        self.objects.keys().filter(|other| other.is_below(path)).cloned().collect()
    }

    fn did(&mut self, path: &RelPath, before: Option<Content>, after: Option<Content>) {
        self.deeds.push(Deed { path: path.clone(), before, after, through: Through::This });
    }

    /// What a change shows at the other names that its file had.
    fn did_elsewhere(&mut self, path: &RelPath, names: Names, after: &Content) {
        if !names.private.is_empty() {
            let through = Through::Hidden(names.private);
            self.deeds.push(Deed { path: path.clone(), before: None, after: Some(after.clone()), through });
        }
        if names.tree.is_empty() {
            return;
        }
        let now = self.files.objects();
        for path in names.tree {
            let before = self.objects.get(&path).map(|object| object.content.clone());
            let after = now.get(&path).map(|object| object.content.clone());
            if before != after {
                self.deeds.push(Deed { path, before, after, through: Through::Other });
            }
        }
        self.objects = now;
    }

    fn set(&mut self, path: &RelPath, thing: &Thing) {
        let before = self.objects.get(path).cloned();
        let content = thing.content();
        let mode = match (thing, &before) {
            (Thing::Symlink(_), _) => Mode::default(),
            (Thing::Directory, _) => Mode::new(0o755),
            (Thing::File(_), Some(object)) if object.content.file().is_some() => object.mode,
            (Thing::File(_), _) => Mode::new(0o644),
        };
        let mtime = self.user.time;
        if before.is_some() && thing == &Thing::Directory {
            self.files.remove_all(path);
        }
        let names = self.files.others(path);
        self.files.put(path, thing, mode, mtime);
        self.did(path, before.map(|object| object.content), Some(content.clone()));
        self.objects.insert(path.clone(), Object { content: content.clone(), mode, mtime });
        self.did_elsewhere(path, names, &content);
    }

    /// The directories above, made where nothing stands; false when something else stands there.
    fn parents(&mut self, path: &RelPath) -> bool {
        let Some(parent) = path.parent() else {
            return true;
        };
        if self.is_directory(&parent) {
            return true;
        }
        if self.objects.contains_key(&parent) || !self.parents(&parent) {
            return false;
        }
        self.set(&parent, &Thing::Directory);
        true
    }

    fn place(&mut self, path: &RelPath, thing: &Thing) {
        let stands = self.is_directory(path);
        if !self.parents(path) || (stands && thing == &Thing::Directory) {
            return;
        }
        if stands {
            self.delete(path);
        }
        self.set(path, thing);
    }

    /// Bytes that occur once, as many as stand there.
    fn write_quietly(&mut self, path: &RelPath) {
        let Some(object) = self.objects.get(path).cloned() else { return };
        let Some(file) = object.content.file() else { return };
        let len = usize::try_from(file.size).unwrap_or_default();
        if len < self.user.tag.len() {
            return;
        }
        let bytes: Vec<u8> = self.user.tag.bytes().chain(std::iter::repeat(b'.')).take(len).collect();
        let names = self.files.others(path);
        self.files.rewrite(path, &bytes, object.mtime);
        let content = Thing::File(bytes).content();
        self.did(path, Some(object.content.clone()), Some(content.clone()));
        self.objects.insert(path.clone(), Object { content: content.clone(), ..object });
        self.did_elsewhere(path, names, &content);
    }

    fn is_file(&self, path: &RelPath) -> bool {
        self.objects.get(path).is_some_and(|object| object.content.file().is_some())
    }

    fn link(&mut self, from: &RelPath, to: &RelPath) {
        let apart = from != to && !from.is_below(to) && !to.is_below(from);
        if !apart || !self.is_file(from) || !self.parents(to) {
            return;
        }
        self.delete(to);
        self.files.link(from, to);
        let object = self.objects[from].clone();
        self.did(to, None, Some(object.content.clone()));
        self.objects.insert(to.clone(), object);
    }

    fn link_outside(&mut self, from: &RelPath) {
        if self.is_file(from) {
            self.files.link_outside(from);
        }
    }

    fn write_outside(&mut self, bytes: &[u8]) {
        let names = self.files.names_of_outside();
        self.files.write_outside(bytes);
        let Some(path) = names.tree.first().or(self.user.paths.first()).cloned() else { return };
        self.did_elsewhere(&path, names, &Thing::File(bytes.to_vec()).content());
    }

    fn pipe(&mut self, path: &RelPath) {
        if !self.parents(path) {
            return;
        }
        if self.is_directory(path) {
            self.delete(path);
        }
        self.files.put_pipe(path);
        if let Some(object) = self.objects.remove(path) {
            self.did(path, Some(object.content), None);
        }
    }

    fn delete(&mut self, path: &RelPath) {
        if !self.objects.contains_key(path) {
            return;
        }
        self.files.remove_all(path);
        let mut gone = self.below(path);
        gone.reverse();
        gone.push(path.clone());
        for path in gone {
            let object = self.objects.remove(&path).expect("listed just now");
            self.did(&path, Some(object.content), None);
        }
    }

    /// `to` as the user wrote it: where it leads to `from` itself, that is only spelled otherwise from then on.
    fn rename(&mut self, from: &RelPath, to: &RelPath) {
        let stands = self.files.spelling(to);
        let to = if stands == *from { from.with_name(to.name()).expect("a name of a path") } else { stands };
        let to = &to;
        let apart = from != to && !from.is_below(to) && !to.is_below(from);
        if !apart || !self.objects.contains_key(from) || !self.parents(to) {
            return;
        }
        self.delete(to);
        self.files.rename_all(from, to);
        let mut moving = vec![from.clone()];
        moving.extend(self.below(from));
        for old in moving {
            let object = self.objects.remove(&old).expect("listed just now");
            let new = moved(&old, from, to);
            self.did(&old, Some(object.content.clone()), None);
            self.did(&new, None, Some(object.content.clone()));
            self.objects.insert(new, object);
        }
    }

    fn metadata(&mut self, path: &RelPath, mode: Option<Mode>) {
        let object = self.objects.get(path).filter(|object| !matches!(object.content, Content::Symlink(_)));
        let Some(object) = object.cloned() else {
            return;
        };
        let mtime = if mode.is_some() { object.mtime } else { self.user.time };
        self.files.set_metadata(path, mode.unwrap_or(object.mode), mtime);
        self.did(path, Some(object.content.clone()), Some(object.content));
    }
}

/// `path` after its ancestor (or itself) `from` was renamed to `to`.
#[must_use]
pub fn moved(path: &RelPath, from: &RelPath, to: &RelPath) -> RelPath {
    let new = [to.as_bytes(), &path.as_bytes()[from.as_bytes().len()..]].concat();
    RelPath::parse(&new).expect("a path below a path")
}
