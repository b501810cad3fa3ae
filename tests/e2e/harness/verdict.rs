//! What held in a long run and what did not, and comparisons by programs that know nothing of us.

use super::{Device, conflict_copies, tree};
use std::process::Command;

/// Differences that are shown.
const SHOWN: usize = 20;

/// Counts what did not hold.
#[derive(Debug, Default)]
pub struct Verdict {
    failed: u32,
}

impl Verdict {
    /// Prints one finding.
    pub fn say(&mut self, holds: bool, what: &str) {
        println!("{} {what}", if holds { "ok  " } else { "FAIL" });
        self.failed += u32::from(!holds);
    }

    /// Whether all of them held.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.failed == 0
    }

    /// rsync finds no difference between two devices; there is no conflict copy and no temporary file.
    ///
    /// # Panics
    /// When rsync does not run.
    pub fn compare(&mut self, a: &Device, b: &Device) {
        let [from, to] = [a, b].map(|device| format!("{}/", device.root()));
        let output = Command::new("rsync")
            .args(["-rlptnicO", "--delete", "--exclude=/.syncd", &from, &to])
            .output()
            .expect("rsync runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        self.say(output.status.success() && lines.is_empty(), &format!("rsync finds {} differences", lines.len()));
        for line in lines.iter().take(SHOWN) {
            println!("     {line}");
        }
        let copies = conflict_copies(&tree(a.files()));
        self.say(copies.is_empty(), &format!("{} conflict copies", copies.len()));
        for copy in copies.iter().take(SHOWN) {
            println!("     {copy}");
        }
        for device in [a, b] {
            let temps = std::fs::read_dir(device.at(".syncd/tmp")).map_or(0, Iterator::count);
            self.say(temps == 0, &format!("{temps} temporary files on {}", device.name()));
        }
    }
}
