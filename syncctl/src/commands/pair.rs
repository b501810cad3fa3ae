//! `pair`: shows a code, or takes one, and lets a person compare the check numbers.

use super::{Context, confirm, is_terminal, need_yes, read_line};
use crate::args::{Pair, RoleWord};
use crate::client::EventStream;
use crate::failure::{Failure, Outcome, Result};
use crate::render;
use fast_qr::qr::QRBuilder;
use hyper::Method;
use protocol::wire::control::{Done, Named, PairAnswer, PairJoin, PairShow, PairingEvent, Via};
use std::io::IsTerminal;

pub async fn run(context: &Context, pair: Pair) -> Result {
    need_yes(pair.yes, "pairing")?;
    let role = if pair.no_admin { RoleWord::Full } else { pair.role };
    // What the daemon does by itself needs no word, so that an older one understands it.
    let role = Some(role).filter(|role| *role != RoleWord::Admin).map(super::device::role_in);
    let stream = match pair.code {
        None => {
            let show = PairShow { timeout_s: pair.timeout, role };
            context.client.stream(Method::POST, "pairing/show", &show).await?
        }
        Some(code) => {
            let code = if code == "-" { ask_code().await? } else { code };
            let join = PairJoin { code, address: pair.address, timeout_s: pair.timeout, role };
            context.client.stream(Method::POST, "pairing/join", &join).await?
        }
    };
    follow(context, stream, pair.yes).await
}

async fn ask_code() -> Result<String> {
    let code = read_line("code shown by the other device: ").await?.unwrap_or_default();
    if code.is_empty() { Err(Failure::usage("no code was given")) } else { Ok(code) }
}

/// Goes through the steps of one pairing. Leaving early hangs up, and the daemon voids the code.
async fn follow(context: &Context, mut stream: EventStream, yes: bool) -> Result {
    while let Some(event) = stream.next::<PairingEvent>().await? {
        if context.json {
            render::json(&event);
        }
        match event {
            PairingEvent::Code { code, link, expires_s, recovery_code, .. } if !context.json => {
                if let Some(recovery_code) = recovery_code {
                    show_recovery_code(&recovery_code);
                }
                show_code(&code, &link, expires_s);
            }
            PairingEvent::Searching { words, .. } if !context.json => eprintln!("{} ...", render::escape(&words)),
            PairingEvent::Check { pairing, device, check, via } => {
                if !context.json {
                    show_check(&device, &check, via);
                }
                answer(context, &mut stream, pairing, yes).await?;
            }
            PairingEvent::Waiting { .. } if !context.json => eprintln!("waiting for the other device ..."),
            PairingEvent::Paired { device } => {
                if !context.json {
                    render::say(format!("paired with {}", render::escape(&device.name)));
                }
                return Ok(Outcome::Yes);
            }
            PairingEvent::Failed { why } => return Err(why.into()),
            _ => {}
        }
    }
    Err(Failure::new("syncd stopped before the devices were paired"))
}

/// Answers the check, unless the other side gives up while the person still looks.
async fn answer(context: &Context, stream: &mut EventStream, pairing: u64, yes: bool) -> Result<()> {
    let accept = if yes {
        true
    } else {
        tokio::select! {
            accept = confirm("Does the other device show the same number?") => accept?,
            event = stream.next::<PairingEvent>() => {
                eprintln!();
                return Err(match event? {
                    Some(PairingEvent::Failed { why }) => why.into(),
                    _ => Failure::new("the pairing ended before it was answered"),
                });
            }
        }
    };
    let answered: Result<Done> = context.client.post("pairing/answer", &PairAnswer { pairing, accept }).await;
    if let Err(unheard) = answered {
        // The pairing ended meanwhile, and its last event says why.
        while let Some(event) = stream.next::<PairingEvent>().await? {
            if let PairingEvent::Failed { why } = event {
                return Err(why.into());
            }
        }
        return Err(unheard);
    }
    if accept { Ok(()) } else { Err(Failure::new("not paired: the check number was not confirmed")) }
}

fn show_recovery_code(code: &str) {
    render::say(format!(
        "recovery code  {}\n  Write it down and keep it away from your devices: it is shown this once and stored nowhere.\n  \
         With it you can remove any device, even when the one you have left may not.\n",
        render::escape(code)
    ));
}

fn show_code(code: &str, link: &str, expires_s: u64) {
    let mut text = format!("code  {}\nlink  {}\n", render::escape(code), render::escape(link));
    if std::io::stdout().is_terminal()
        && let Some(picture) = qr(link)
    {
        text.push_str(&picture);
    }
    text.push_str(&format!(
        "On the other device: syncctl pair -   (then type the code; good for {}, once)",
        render::duration(expires_s)
    ));
    render::say(text);
    if is_terminal() {
        eprintln!("waiting for the other device (Ctrl-C voids the code) ...");
    }
}

/// Dark on light whatever the terminal's colours, so that cameras read it.
fn qr(link: &str) -> Option<String> {
    let code = QRBuilder::new(link).build().ok()?;
    let lines: Vec<String> = code.to_str().lines().map(|line| format!("\u{1b}[30;107m{line}\u{1b}[0m\n")).collect();
    Some(lines.concat())
}

fn show_check(device: &Named, check: &str, via: Via) {
    let way = match via {
        Via::Lan => "in the local network",
        Via::Direct => "directly",
        Via::Relay => "through a relay",
        Via::Proxy => "by the proxy",
    };
    let spaced = if check.len() == 6 && check.is_ascii() {
        format!("{} {}", &check[..3], &check[3..])
    } else {
        render::escape(check)
    };
    render::say(format!(
        "device        {} ({})\ncheck number  {spaced}   ({way})",
        render::escape(&device.name),
        render::escape(&device.id)
    ));
}
