//! The user's side of a simulated volume: programs that change the tree beside syncd. The hook sees none of it.

use super::state::{Edit, Inode, Node, OUTSIDE, ROOT, State};
use super::{Errno, SimFs};
use protocol::model::path::PRIVATE_DIR;
use protocol::model::{Mode, Mtime, RelPath};
use protocol::sync::Kind;
use std::collections::BTreeMap;
use std::io;

/// An object of the tree, as a user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Kind.
    pub kind: Kind,
    /// Bytes of a file, target of a link.
    pub bytes: Vec<u8>,
    /// Permission bits; 0 for links.
    pub mode: Mode,
    /// Zero for directories, whose times nobody syncs.
    pub mtime: Mtime,
}

/// A file that a user's program keeps open for writing. It stays with the inode when that is renamed.
pub struct UserFile {
    fs: SimFs,
    inode: u64,
    power_cuts: u64,
}

impl UserFile {
    /// Appends, wherever the inode stands now. Nothing after a power cut.
    pub fn append(&self, bytes: &[u8]) {
        let mut state = self.fs.state();
        if state.power_cuts == self.power_cuts {
            state.change(self.inode, |data| data.extend_from_slice(bytes)).expect("the volume has room");
        }
    }
}

/// All names of an inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In the tree.
    pub tree: Vec<RelPath>,
    /// In `.syncd/`, by their paths below that.
    pub private: Vec<String>,
    /// Outside the folder.
    pub outside: usize,
}

impl UserFile {
    /// What it is called by now: nothing when the handle died with the power.
    #[must_use]
    pub fn names(&self) -> Names {
        let state = self.fs.state();
        if state.power_cuts == self.power_cuts { names(&state, self.inode) } else { Names::default() }
    }

    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match &self.fs.state().inode(self.inode).node {
            Node::File(bytes) => bytes.clone(),
            Node::Directory(_) | Node::Symlink(_) | Node::Special => Vec::new(),
        }
    }

    /// fsync(2).
    pub fn fsync(&self) {
        let mut state = self.fs.state();
        if state.power_cuts == self.power_cuts {
            state.sync_inode(self.inode);
        }
    }
}

impl Drop for UserFile {
    fn drop(&mut self) {
        let mut state = self.fs.state();
        if state.power_cuts == self.power_cuts
            && let Some(count) = state.writers.get_mut(&self.inode)
        {
            *count -= 1;
        }
    }
}

impl SimFs {
    /// Programs reach a name by any spelling that the volume takes for it.
    fn at(state: &State, path: &RelPath) -> io::Result<(u64, Vec<u8>)> {
        let parent = path.parent();
        let dir = state.reached(parent.iter().flat_map(RelPath::components), ROOT)?;
        let listed = state.folded(dir, path.name())?;
        Ok((dir, listed.map_or_else(|| path.name().to_vec(), |(listed, _)| listed)))
    }

    fn put(&self, path: &RelPath, node: Node, mode: Mode) -> io::Result<()> {
        let mut state = self.state();
        let (dir, name) = Self::at(&state, path)?;
        let from = state.lookup(dir, &name)?;
        if from.is_some_and(|from| matches!(state.inode(from).node, Node::Directory(_))) {
            return Err(Errno::ISDIR.into());
        }
        let made = match node {
            Node::File(bytes) => {
                let made = state.make(Node::File(Vec::new()), mode);
                state.change(made, |data| *data = bytes)?;
                made
            }
            Node::Symlink(_) | Node::Directory(_) | Node::Special => state.make(node, mode),
        };
        state.edit_as_root(vec![Edit { dir, name, from, to: Some(made) }])
    }

    /// Writes a file in place; makes it (0644) when it is missing.
    pub fn user_write(&self, path: &RelPath, bytes: &[u8]) -> io::Result<()> {
        let found = {
            let state = self.state();
            let (dir, name) = Self::at(&state, path)?;
            state.lookup(dir, &name)?
        };
        match found {
            Some(inode) => self.state().change(inode, |data| *data = bytes.to_vec()),
            None => self.put(path, Node::File(bytes.to_vec()), Mode::new(0o644)),
        }
    }

    /// Writes a file as editors do: a new one is renamed over the old one.
    pub fn user_save(&self, path: &RelPath, bytes: &[u8]) -> io::Result<()> {
        self.put(path, Node::File(bytes.to_vec()), Mode::new(0o644))
    }

    /// Makes a symbolic link; replaces a file or link.
    pub fn user_symlink(&self, path: &RelPath, target: &[u8]) -> io::Result<()> {
        self.put(path, Node::Symlink(target.to_vec()), Mode::new(0o777))
    }

    /// Makes a pipe (0644).
    pub fn user_mkfifo(&self, path: &RelPath) -> io::Result<()> {
        self.put(path, Node::Special, Mode::new(0o644))
    }

    /// Makes a directory (0755).
    pub fn user_mkdir(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let (dir, name) = Self::at(&state, path)?;
        if state.lookup(dir, &name)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        let made = state.make(Node::Directory(BTreeMap::new()), Mode::new(0o755));
        state.edit_as_root(vec![Edit { dir, name, from: None, to: Some(made) }])
    }

    /// Removes a file, a link or a directory with everything in it.
    pub fn user_delete(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let (dir, name) = Self::at(&state, path)?;
        let inode = state.existing(dir, &name)?;
        let mut edits = vec![Edit { dir, name, from: Some(inode), to: None }];
        empty(&state, inode, &mut edits);
        state.edit_as_root(edits)
    }

    /// rename(2): replaces a file or link that stands at `to`. To another spelling of itself it changes that.
    pub fn user_rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let ((from_dir, from_name), (to_dir, mut to_name)) = (Self::at(&state, from)?, Self::at(&state, to)?);
        let inode = state.existing(from_dir, &from_name)?;
        if to == from || to.is_below(from) {
            return Err(Errno::INVAL.into());
        }
        if (from_dir, &from_name) == (to_dir, &to_name) {
            to_name = to.name().to_vec();
        }
        let replaced = state.lookup(to_dir, &to_name)?;
        if replaced.is_some_and(|replaced| matches!(state.inode(replaced).node, Node::Directory(_))) {
            return Err(Errno::EXIST.into());
        }
        state.edit_as_root(vec![
            Edit { dir: from_dir, name: from_name, from: Some(inode), to: None },
            Edit { dir: to_dir, name: to_name, from: replaced, to: Some(inode) },
        ])
    }

    /// link(2).
    pub fn user_link(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let ((from_dir, from_name), (to_dir, to_name)) = (Self::at(&state, from)?, Self::at(&state, to)?);
        let inode = state.existing(from_dir, &from_name)?;
        if state.lookup(to_dir, &to_name)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        state.edit_as_root(vec![Edit { dir: to_dir, name: to_name, from: None, to: Some(inode) }])
    }

    /// link(2) to a name outside the folder.
    pub fn user_link_outside(&self, from: &RelPath, name: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let (dir, from) = Self::at(&state, from)?;
        let inode = state.existing(dir, &from)?;
        let before = state.lookup(OUTSIDE, name)?;
        state.edit_as_root(vec![Edit { dir: OUTSIDE, name: name.to_vec(), from: before, to: Some(inode) }])?;
        state.sync_names(OUTSIDE);
        Ok(())
    }

    /// Writes in place through a name outside the folder.
    pub fn user_write_outside(&self, name: &[u8], bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.existing(OUTSIDE, name)?;
        state.change(inode, |data| *data = bytes.to_vec())?;
        state.sync_inode(inode);
        Ok(())
    }

    /// What the file with a name outside the folder is called in it.
    #[must_use]
    pub fn names_of_outside(&self, name: &[u8]) -> Names {
        let state = self.state();
        let inode = state.existing(OUTSIDE, name);
        inode.map_or_else(|_| Names::default(), |inode| names(&state, inode))
    }

    /// What the object at a path is called, by this name and others.
    #[must_use]
    pub fn names_of(&self, path: &RelPath) -> Names {
        let state = self.state();
        let inode = Self::at(&state, path).and_then(|(dir, name)| state.existing(dir, &name));
        inode.map_or_else(|_| Names::default(), |inode| names(&state, inode))
    }

    /// Paths in `.syncd/versions/` and in the tree whose objects have other names too.
    #[must_use]
    pub fn shared(&self) -> Vec<String> {
        let state = self.state();
        let mut all = Vec::new();
        shared(&state, ROOT, "", &mut all);
        all
    }

    /// chmod(2).
    pub fn user_chmod(&self, path: &RelPath, mode: Mode) -> io::Result<()> {
        let mut state = self.state();
        let (dir, name) = Self::at(&state, path)?;
        let inode = state.existing(dir, &name)?;
        state.set_attrs(inode, Some(mode), None);
        Ok(())
    }

    /// utimensat(2).
    pub fn user_touch(&self, path: &RelPath, mtime: Mtime) -> io::Result<()> {
        let mut state = self.state();
        let (dir, name) = Self::at(&state, path)?;
        let inode = state.existing(dir, &name)?;
        state.set_attrs(inode, None, Some(mtime));
        Ok(())
    }

    /// Opens a file for writing and keeps it open.
    pub fn user_open(&self, path: &RelPath) -> io::Result<UserFile> {
        let mut state = self.state();
        let (dir, name) = Self::at(&state, path)?;
        let inode = state.existing(dir, &name)?;
        *state.writers.entry(inode).or_default() += 1;
        Ok(UserFile { fs: self.clone(), inode, power_cuts: state.power_cuts })
    }

    /// fsync(2) of what stands at a path, and of the directories down to it: a careful program after its change.
    pub fn user_fsync(&self, path: &RelPath) {
        let mut state = self.state();
        let mut dirs = vec![ROOT];
        for name in path.components() {
            let Ok(Some((_, inode))) = state.folded(dirs[dirs.len() - 1], name) else { break };
            state.sync_inode(inode);
            if !matches!(state.inode(inode).node, Node::Directory(_)) {
                break;
            }
            dirs.push(inode);
        }
        for dir in dirs {
            state.sync_inode(dir);
            state.sync_names(dir);
        }
    }

    /// A path as what stands there, and what it is in, is spelled.
    #[must_use]
    pub fn user_spelling(&self, path: &RelPath) -> RelPath {
        let state = self.state();
        let mut spelled: Vec<Vec<u8>> = Vec::new();
        let mut dir = Some(ROOT);
        for name in path.components() {
            let found = dir.and_then(|dir| state.folded(dir, name).ok().flatten());
            dir = found.as_ref().map(|(_, inode)| *inode);
            spelled.push(found.map_or_else(|| name.to_vec(), |(listed, _)| listed));
        }
        RelPath::parse(&spelled.join(&b'/')).expect("names of a path and of the volume")
    }

    /// Whether something stands at a path.
    #[must_use]
    pub fn user_sees(&self, path: &RelPath) -> bool {
        let state = self.state();
        Self::at(&state, path).is_ok_and(|(dir, name)| matches!(state.lookup(dir, &name), Ok(Some(_))))
    }

    /// Everything that the user did so far is durable.
    pub fn user_sync(&self) {
        self.state().sync_all();
    }

    /// The tree without `.syncd/`.
    #[must_use]
    pub fn tree(&self) -> BTreeMap<RelPath, Found> {
        let state = self.state();
        let mut all = BTreeMap::new();
        collect(&state, ROOT, Vec::new(), &mut all);
        let in_tree = |path: Vec<u8>| RelPath::parse(&path).ok();
        all.into_iter().filter_map(|(path, found)| in_tree(path).map(|path| (path, found))).collect()
    }

    /// The bytes of the files in the directories of `.syncd/`, by the number of their inode.
    #[must_use]
    pub fn private_files(&self) -> BTreeMap<u64, Vec<u8>> {
        let state = self.state();
        let entries = |dir: u64| state.entries(dir).into_iter().flatten().map(|(_, inode)| *inode);
        let base = state.lookup(ROOT, PRIVATE_DIR.as_bytes()).ok().flatten();
        let inodes = base.into_iter().flat_map(|base| entries(base).flat_map(entries));
        inodes.filter_map(|inode| Some((inode, file(state.inode(inode))?))).collect()
    }

    /// The same of all files that have a name.
    #[must_use]
    pub fn files(&self) -> BTreeMap<u64, Vec<u8>> {
        self.state().all().filter_map(|(number, inode)| Some((number, file(inode)?))).collect()
    }

    /// What is in `.syncd/`, by its path below that.
    #[must_use]
    pub fn private_tree(&self) -> BTreeMap<String, Found> {
        let state = self.state();
        let mut all = BTreeMap::new();
        if let Ok(Some(base)) = state.lookup(ROOT, PRIVATE_DIR.as_bytes()) {
            collect(&state, base, Vec::new(), &mut all);
        }
        all.into_iter().map(|(path, found)| (String::from_utf8_lossy(&path).into_owned(), found)).collect()
    }
}

fn file(inode: &Inode) -> Option<Vec<u8>> {
    match &inode.node {
        Node::File(bytes) => Some(bytes.clone()),
        Node::Directory(_) | Node::Symlink(_) | Node::Special => None,
    }
}

fn names(state: &State, inode: u64) -> Names {
    let mut paths = Vec::new();
    paths_of(state, ROOT, &[], inode, &mut paths);
    let mut names = Names { outside: outside(state, inode).count(), ..Names::default() };
    let private = [PRIVATE_DIR.as_bytes(), b"/"].concat();
    for path in paths {
        match path.strip_prefix(private.as_slice()) {
            Some(below) => names.private.push(String::from_utf8_lossy(below).into_owned()),
            None => names.tree.extend(RelPath::parse(&path).ok()),
        }
    }
    names
}

fn outside(state: &State, inode: u64) -> impl Iterator<Item = &Vec<u8>> {
    let entries = state.entries(OUTSIDE).expect("it is a directory");
    entries.iter().filter(move |(_, at)| **at == inode).map(|(name, _)| name)
}

fn paths_of(state: &State, dir: u64, prefix: &[u8], inode: u64, paths: &mut Vec<Vec<u8>>) {
    let Ok(entries) = state.entries(dir) else { return };
    for (name, at) in entries {
        let path = if prefix.is_empty() { name.clone() } else { [prefix, b"/", name].concat() };
        paths_of(state, *at, &path, inode, paths);
        if *at == inode {
            paths.push(path);
        }
    }
}

fn shared(state: &State, dir: u64, prefix: &str, all: &mut Vec<String>) {
    let Ok(entries) = state.entries(dir) else { return };
    for (name, inode) in entries {
        let path = format!("{prefix}{}", String::from_utf8_lossy(name));
        if matches!(state.inode(*inode).node, Node::File(_)) && state.links(*inode) > 1 {
            all.push(path.clone());
        }
        shared(state, *inode, &format!("{path}/"), all);
    }
}

/// Removes everything in a directory.
fn empty(state: &State, dir: u64, edits: &mut Vec<Edit>) {
    let Ok(entries) = state.entries(dir) else { return };
    for (name, inode) in entries {
        edits.push(Edit { dir, name: name.clone(), from: Some(*inode), to: None });
        empty(state, *inode, edits);
    }
}

fn collect(state: &State, dir: u64, prefix: Vec<u8>, all: &mut BTreeMap<Vec<u8>, Found>) {
    let Ok(entries) = state.entries(dir) else { return };
    for (name, inode) in entries {
        let path = if prefix.is_empty() { name.clone() } else { [&prefix, b"/".as_slice(), name].concat() };
        let at = state.inode(*inode);
        let found = match &at.node {
            Node::File(bytes) => Found { kind: Kind::File, bytes: bytes.clone(), mode: at.mode, mtime: at.mtime },
            Node::Symlink(target) => {
                Found { kind: Kind::Symlink, bytes: target.clone(), mode: Mode::new(0), mtime: at.mtime }
            }
            Node::Special => Found { kind: Kind::Special, bytes: Vec::new(), mode: at.mode, mtime: at.mtime },
            Node::Directory(_) => {
                Found { kind: Kind::Directory, bytes: Vec::new(), mode: at.mode, mtime: Mtime::default() }
            }
        };
        all.insert(path.clone(), found);
        collect(state, *inode, path, all);
    }
}
