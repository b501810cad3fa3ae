//! Passphrases: typed without being shown, or read from a file or standard input for scripts.

use super::is_terminal;
use crate::failure::{Failure, Result};
use protocol::wire::backup::Passphrase;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use zeroize::Zeroizing;

/// Longer lines are no passphrases but a wrong file.
const LINE_LEN_MAX: usize = 4096;

/// One for a new backup: asked for twice, and not taken when it is weak.
///
/// # Errors
/// It is weak, typed differently the second time, or cannot be had.
pub async fn chosen(file: Option<&Path>) -> Result<Passphrase> {
    let passphrase = one("passphrase for the backup: ", file).await?;
    passphrase.check().map_err(|weak| {
        Failure::new(weak.to_string())
            .hint("whoever finds the file can try as many as they like: a few random words do")
    })?;
    // What nobody saw may hold a typing error.
    let was_typed = is_terminal() && file.is_none_or(|file| file == Path::new("-"));
    if was_typed && one("the same once more: ", None).await? != passphrase {
        return Err(Failure::new("the two passphrases differ; nothing was written"));
    }
    Ok(passphrase)
}

/// The one of a backup that is there.
///
/// # Errors
/// It cannot be had.
pub async fn known(file: Option<&Path>) -> Result<Passphrase> {
    one("passphrase of the backup: ", file).await
}

async fn one(prompt: &str, file: Option<&Path>) -> Result<Passphrase> {
    match file {
        Some(file) if file != Path::new("-") => {
            let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", file.display()));
            line_of(&mut BufReader::new(File::open(file).map_err(failed)?)).map_err(failed)
        }
        Some(_) if !is_terminal() => Ok(line_of(&mut std::io::stdin().lock())?),
        None if !is_terminal() => {
            Err(Failure::usage("a passphrase is needed, and there is no terminal to ask for it on")
                .hint("give --passphrase-file FILE, or `--passphrase-file -` to read it from standard input"))
        }
        _ => typed(prompt).await,
    }
}

/// Its first line, without the end of the line.
fn line_of(from: &mut impl BufRead) -> std::io::Result<Passphrase> {
    // Room for all at once: a buffer that grows leaves secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LINE_LEN_MAX + 1));
    from.take(LINE_LEN_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
    if bytes.len() > LINE_LEN_MAX {
        return Err(std::io::Error::other("its first line is too long for a passphrase"));
    }
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| std::io::Error::other("its first line is no text"))?;
    Ok(Passphrase::new(text.to_owned()))
}

/// A line from the terminal, which shows nothing of it.
async fn typed(prompt: &str) -> Result<Passphrase> {
    let silent = Silent::begin()?;
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let read = tokio::task::spawn_blocking(|| line_of(&mut std::io::stdin().lock()));
    let line = tokio::select! {
        line = read => line,
        // The terminal must not stay silent when this command has gone.
        _ = tokio::signal::ctrl_c() => {
            silent.end();
            return Err(Failure::new("interrupted; nothing was written"));
        }
    };
    silent.end();
    match line {
        Ok(line) => Ok(line?),
        Err(_) => Err(Failure::new("standard input cannot be read")),
    }
}

/// The terminal as it was before it was told to show nothing.
struct Silent(Option<Termios>);

impl Silent {
    fn begin() -> Result<Self> {
        let failed = |error: rustix::io::Errno| {
            Failure::new(format!("the terminal cannot hide what is typed: {error}"))
                .hint("give --passphrase-file FILE, or `--passphrase-file -` with a pipe")
        };
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown: it says that something was typed.
        silent.local_modes.insert(LocalModes::ECHONL);
        // What was typed ahead is dropped: it was shown.
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Self(Some(before)))
    }

    fn end(mut self) {
        self.restore();
    }

    fn restore(&mut self) {
        if let Some(before) = self.0.take() {
            // Nothing better can be done with a terminal that has gone.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_passphrase() {
        let rows = [
            ("correct horse\n", "correct horse"),
            ("correct horse\r\nmore\n", "correct horse"),
            (" spaces stay \n", " spaces stay "),
            ("no end", "no end"),
            ("\n", ""),
            ("", ""),
        ];
        for (text, expected) in rows {
            let read = line_of(&mut text.as_bytes()).unwrap();
            assert!(read == Passphrase::new(expected.to_owned()), "{text:?}");
        }
        assert!(line_of(&mut &b"\xff\xfe\n"[..]).is_err());
        assert!(line_of(&mut "x".repeat(LINE_LEN_MAX + 1).as_bytes()).is_err());
    }
}
