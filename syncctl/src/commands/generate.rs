//! `completions` and `man`: generated from the command line's own definition.

use crate::args::Args;
use crate::failure::{Failure, Outcome, Result};
use crate::render;
use clap::CommandFactory;
use std::path::Path;

pub fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "syncctl", &mut script);
    render::say(String::from_utf8_lossy(&script).trim_end());
    Outcome::Yes
}

pub fn man(dir: &Path) -> Result {
    clap_mangen::generate_to(Args::command(), dir)
        .map_err(|error| Failure::new(format!("cannot write man pages to {}: {error}", dir.display())))?;
    Ok(Outcome::Yes)
}
