//! What a relay costs: a real `syncd relay` in a process of its own, and clients that speak its words from here. Memory and
//! CPU of clients that wait, time to match, memory and throughput of splices, and one splice beside a plain TCP proxy.
//!
//! `cargo run --release -p tests --bin relayload -- all`

mod client;
mod measure;
mod process;
mod proxy;

use process::Process;
use std::process::ExitCode;

const USAGE: &str = "usage: relayload COMMAND...

  parked N    N clients that wait: memory of each, CPU while they wait, time to match two more
  spliced N   N pairs that move bytes at once: memory of each, throughput of all
  ratio       one pair beside a plain TCP proxy: throughput and CPU of each
  all         parked 1000, parked 5000, spliced 200, ratio

The relay is the `syncd` beside this program. Clients come from many loopback addresses, as they would from the world.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    process::raise_file_limit();
    let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number > 0);
    match words.as_slice() {
        // The other side of `ratio`, in a process of its own.
        ["proxy", target] => runtime.block_on(proxy::run(target)),
        ["parked", count] if number(count).is_some() => {
            runtime.block_on(measure::parked(number(count).unwrap_or_default()));
        }
        ["spliced", count] if number(count).is_some() => {
            runtime.block_on(measure::spliced(number(count).unwrap_or_default()));
        }
        ["ratio"] => runtime.block_on(measure::ratio()),
        ["all"] => runtime.block_on(async {
            measure::parked(1000).await;
            measure::parked(5000).await;
            measure::spliced(200).await;
            measure::ratio().await;
        }),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
