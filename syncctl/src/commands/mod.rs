//! One file per group of commands. Each asks the daemon, prints the reply (JSON as it came, or words) and says how it
//! went. None prompts when standard input is no terminal.

mod config;
mod daemon;
mod device;
mod events;
mod files;
mod folder;
mod generate;
mod identity;
mod net;
mod pair;
mod passphrase;
mod realm;
mod service;
mod start;
mod status;
mod wait;

use crate::args::{Args, Command};
use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::home::Home;
use crate::render;
use protocol::wire::control::Done;
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};

/// What every command has at hand.
#[derive(Debug)]
struct Context {
    client: Client,
    json: bool,
}

impl Context {
    /// Prints a reply: as JSON, or as the words that `words` makes of it.
    fn show<T: Serialize>(&self, reply: &T, words: impl FnOnce(&T) -> String) {
        if self.json {
            return render::json(reply);
        }
        let words = words(reply);
        if !words.is_empty() {
            render::say(words);
        }
    }

    /// Prints that something was done.
    fn done(&self, done: &Done) {
        self.show(done, |done| {
            let mut lines = vec![render::escape(&done.words)];
            lines.extend(done.paths.iter().map(|file| format!("  {}", render::path(&file.at))));
            lines.retain(|line| !line.is_empty());
            lines.join("\n")
        });
    }
}

/// Runs one command.
pub async fn run(args: Args) -> Result {
    let home = || Home::resolve(args.home.as_deref());
    match args.command {
        Command::Completions { shell } => Ok(generate::completions(shell)),
        Command::Man { dir } => generate::man(&dir),
        Command::Config(crate::args::ConfigCommand::Path) => Ok(config::path(&home()?, args.json)),
        Command::Service(service) => service::run(&service, &home()?, args.json),
        Command::Identity(command) => Box::pin(identity::run(&home()?, args.json, command)).await,
        command => {
            let context = Context { client: Client::new(home()?), json: args.json };
            // On the heap: one future for all commands would be as large as the largest, on the stack.
            Box::pin(dispatch(command, &context)).await
        }
    }
}

async fn dispatch(command: Command, context: &Context) -> Result {
    match command {
        Command::Id { name } => daemon::id(context, name).await,
        Command::Ping { wait } => daemon::ping(context, wait).await,
        Command::Pair(pair) => pair::run(context, pair).await,
        Command::Device(command) => device::run(context, command).await,
        Command::Net { command } => net::run(context, command).await,
        Command::Realm(command) => realm::run(context, command).await,
        Command::Folder(command) => folder::run(context, command).await,
        Command::Status { watch: true, .. } => status::watch(context).await,
        Command::Status { check, .. } => status::show(context, check).await,
        Command::Wait { folder, timeout } => wait::run(context, folder, timeout).await,
        Command::Versions { path } => files::versions(context, &path).await,
        Command::Restore { path, at, id } => files::restore(context, &path, at.as_deref(), id).await,
        Command::Log { path, folder, since, limit } => {
            files::log(context, path.as_deref(), folder, since.as_deref(), limit).await
        }
        Command::Ignore(crate::args::IgnoreCommand::Test { path }) => files::ignore_test(context, &path).await,
        Command::Events { follow } => events::run(context, follow).await,
        Command::Config(command) => config::run(context, command).await,
        Command::Start { timeout } => start::start(context, timeout).await,
        Command::Stop { timeout } => start::stop(context, timeout).await,
        Command::Completions { .. } | Command::Man { .. } | Command::Service(_) | Command::Identity(_) => {
            unreachable!("commands without a daemon were run before")
        }
    }
}

fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// One line from standard input; `None` at its end. Blocks a thread of its own, not the runtime.
async fn read_line(prompt: &str) -> Result<Option<String>> {
    if is_terminal() {
        eprint!("{prompt}");
        std::io::stderr().flush()?;
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|count| (count > 0).then_some(line))
    });
    match read.await {
        Ok(line) => Ok(line?.map(|line| line.trim().to_owned())),
        Err(_) => Err(Failure::new("standard input cannot be read")),
    }
}

/// Asks a question whose answer is no unless the person says yes.
async fn confirm(question: &str) -> Result<bool> {
    let answer = read_line(&format!("{question} [y/N] ")).await?;
    Ok(answer.is_some_and(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes")))
}

/// Refuses early what would need a person to answer.
fn need_yes(yes: bool, what: &str) -> Result<()> {
    if yes || is_terminal() {
        return Ok(());
    }
    Err(Failure::usage(format!("{what} asks before it goes on, and there is no terminal to answer on"))
        .hint("give --yes to accept without asking"))
}
