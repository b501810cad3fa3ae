//! `realm`: all devices of one person.

use super::{Context, confirm, need_yes};
use crate::args::RealmCommand;
use crate::failure::{Failure, Outcome, Result};
use crate::render::count;
use protocol::wire::control::{DeviceRole, Done, RealmStatus};

pub async fn run(context: &Context, command: RealmCommand) -> Result {
    match command {
        RealmCommand::Show => show(context).await,
        RealmCommand::Leave { yes } => leave(context, yes).await,
    }
}

async fn show(context: &Context) -> Result {
    let realm: RealmStatus = context.client.get("realm").await?;
    context.show(&realm, |realm| {
        let role = match realm.role {
            _ if realm.devices == 0 => {
                return "this device is on its own; `syncctl pair` joins it with another".to_owned();
            }
            Some(DeviceRole::Admin) => "reads, writes, adds and removes devices",
            Some(DeviceRole::Full) => "reads and writes",
            Some(DeviceRole::Reader) => "reads",
            None => {
                return "this device was removed by another one; `syncctl realm leave` makes it a new one, which can be \
                        paired again"
                    .to_owned();
            }
        };
        format!("{}; this one {role}", count(realm.devices, "device"))
    });
    Ok(Outcome::Yes)
}

async fn leave(context: &Context, yes: bool) -> Result {
    need_yes(yes, "leaving the realm")?;
    let question = "Forget all other devices and begin anew under a new identity? Folders and files stay.";
    if !yes && !confirm(question).await? {
        return Err(Failure::new("nothing was changed"));
    }
    let done: Done = context.client.post("realm/leave", &()).await?;
    context.done(&done);
    Ok(Outcome::Yes)
}
