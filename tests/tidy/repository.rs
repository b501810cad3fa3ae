//! The files of the workspace as a checkout holds them: sources, documents and manifests; never what a build made.

use crate::source::Source;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 3] = ["target", ".git", ".syncd"];

/// Everything that the rules look at.
pub struct Repository {
    /// Where it is.
    pub root: PathBuf,
    /// Every Rust file.
    pub sources: Vec<Source>,
    /// Every Markdown file, by its path from the root.
    pub documents: Vec<(String, String)>,
}

impl Repository {
    /// Reads the workspace that this test was built from.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned();
        let mut repository = Self { root: root.clone(), sources: Vec::new(), documents: Vec::new() };
        let mut todo = vec![root.clone()];
        while let Some(dir) = todo.pop() {
            let mut entries: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            for path in entries {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_symlink() || SKIPPED.contains(&name.as_str()) {
                    continue;
                }
                if path.is_dir() {
                    todo.push(path);
                } else {
                    repository.take(&path);
                }
            }
        }
        assert!(repository.sources.len() > 50, "the workspace was not found at {}", root.display());
        repository
    }

    fn take(&mut self, path: &Path) {
        let name = path.strip_prefix(&self.root).expect("found below the root").to_string_lossy().into_owned();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => self.sources.push(Source::new(name, fs::read_to_string(path).unwrap())),
            Some("md") => self.documents.push((name, fs::read_to_string(path).unwrap())),
            _ => {}
        }
    }

    /// A file's text.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}
