//! `config`: the daemon's settings.

use super::Context;
use crate::args::ConfigCommand;
use crate::failure::{Failure, Outcome, Result};
use crate::home::Home;
use crate::render::{self, escape, table};
use protocol::wire::control::{Config, ConfigSet, PathText, Setting};
use std::os::unix::ffi::OsStrExt;

pub async fn run(context: &Context, command: ConfigCommand) -> Result {
    match command {
        ConfigCommand::Get { key } => get(context, key.as_deref()).await,
        ConfigCommand::Set { key, value, .. } => {
            let setting: Setting = context.client.put("config", &ConfigSet { key, value }).await?;
            context.show(&setting, |setting| {
                let later = if setting.restart { " (takes effect when syncd is started again)" } else { "" };
                format!("{}{later}{}", line(setting), now(setting))
            });
            Ok(Outcome::Yes)
        }
        ConfigCommand::Path => Ok(path(context.client.home(), context.json)),
    }
}

pub fn path(home: &Home, json: bool) -> Outcome {
    let path = PathText::new(home.config().as_os_str().as_bytes());
    if json {
        render::json(&path);
    } else {
        render::say(render::path(&path));
    }
    Outcome::Yes
}

/// `key = value`, also for settings of folders.
pub fn line(setting: &Setting) -> String {
    format!("{} = {}", escape(&setting.key), escape(&setting.value))
}

/// Which part of it holds now, where that depends on the time.
fn now(setting: &Setting) -> String {
    setting.now.as_ref().map_or(String::new(), |now| format!(" (now: {})", escape(now)))
}

async fn get(context: &Context, key: Option<&str>) -> Result {
    let config: Config = context.client.get("config").await?;
    for warning in &config.warnings {
        eprintln!("warning: {}", escape(warning));
    }
    let Some(key) = key else {
        context.show(&config, |config| {
            let rows: Vec<Vec<String>> = config
                .settings
                .iter()
                .map(|setting| {
                    vec![
                        escape(&setting.key),
                        format!("{}{}", escape(&setting.value), now(setting)),
                        escape(&setting.words),
                    ]
                })
                .collect();
            table(&["SETTING", "VALUE", ""], &rows, &[])
        });
        return Ok(Outcome::Yes);
    };
    let Some(setting) = config.settings.iter().find(|setting| setting.key == key) else {
        let names: Vec<&str> = config.settings.iter().map(|setting| setting.key.as_str()).collect();
        return Err(
            Failure::new(format!("there is no setting {key:?}")).hint(format!("the settings are {}", names.join(", ")))
        );
    };
    context.show(setting, |setting| format!("{}{}", escape(&setting.value), now(setting)));
    Ok(Outcome::Yes)
}
