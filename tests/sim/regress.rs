//! Runs that did not hold once, kept as data: a seed means another run as soon as the drawing changes. Each is a file
//! in `tests/sim/regress/` with its story, made by `sim --seed N --keep` and run by `cargo test`.

use super::check::{Demand, Violation, run};
use super::scenario::Scenario;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One kept run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Regression {
    /// What went wrong, for people.
    pub story: String,
    /// The smallest run in which it did.
    pub scenario: Scenario,
}

/// Where they are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sim/regress")
}

impl Regression {
    /// Reads one.
    ///
    /// # Errors
    /// When the file cannot be read or is none.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no kept run", path.display()))
    }

    /// Writes it under the next free number.
    ///
    /// # Errors
    /// When the directory cannot be written to.
    pub fn keep(&self) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(directory())?;
        let free = (1..1000).map(|n| directory().join(format!("{n:03}.json"))).find(|path| !path.exists());
        let path = free.context("a thousand kept runs are enough")?;
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(path)
    }

    /// Runs it.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn holds(&self) -> Result<(), Violation> {
        let demand = match &self.scenario.config {
            config if config.clone_after.is_some() => Demand::Convergence,
            config if config.folding.is_some() => Demand::Folded,
            _ => Demand::All,
        };
        run(&self.scenario, demand, false).0.map(drop)
    }
}

/// All of them, in order.
///
/// # Errors
/// When one cannot be read.
pub fn all() -> anyhow::Result<Vec<(PathBuf, Regression)>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory())? {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), Regression::read(&path)?))).collect()
}
