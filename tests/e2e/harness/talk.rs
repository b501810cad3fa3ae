//! Commands: run to their end, or talked to while they run.

use super::{until, within};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, Command};
use std::time::Duration;

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A command whose output is read while it runs; ended when dropped.
#[derive(Debug)]
pub struct Talk {
    pub(super) child: Child,
    pub(super) lines: BufReader<std::process::ChildStdout>,
}

impl Talk {
    /// The next line as JSON; `None` at the end.
    ///
    /// # Panics
    /// When it is something else.
    #[must_use]
    pub fn json(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("its output can be read");
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Reads until it has said this.
    ///
    /// # Panics
    /// When it ends before.
    pub fn hear(&mut self, words: &str) {
        let mut heard = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&heard).contains(words) {
            let read = self.lines.read(&mut byte).expect("its output can be read");
            assert!(read > 0, "it ended and said: {}", String::from_utf8_lossy(&heard));
            heard.push(byte[0]);
        }
    }

    /// Writes to its standard input when that is a pipe.
    ///
    /// # Panics
    /// When it is none.
    pub fn say(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("its input is a pipe");
        input.write_all(text.as_bytes()).expect("it reads");
    }

    /// Waits for its end: exit code and standard error.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn finish(mut self) -> (i32, String) {
        let status = until("a command ends", || self.child.try_wait().expect("a child can be waited for"));
        let mut error = String::new();
        let pipe = self.child.stderr.take().expect("its errors are a pipe");
        BufReader::new(pipe).read_to_string(&mut error).expect("text");
        (status.code().unwrap_or(-1), error)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; its output goes through files, so that a full pipe cannot block it.
pub(super) fn run(mut command: Command, bound: Duration) -> Run {
    let mut out = tempfile::tempfile().expect("a scratch file");
    let mut err = tempfile::tempfile().expect("a scratch file");
    command.stdout(out.try_clone().expect("a handle")).stderr(err.try_clone().expect("a handle"));
    let mut child = command.spawn().expect("the program starts");
    let Some(status) = within(bound, || child.try_wait().expect("a child can be waited for")) else {
        // It is ours and hangs.
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} does not end: {}{}", text(&mut out), text(&mut err));
    };
    Run { code: status.code().unwrap_or(-1), out: text(&mut out), err: text(&mut err) }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a scratch file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
