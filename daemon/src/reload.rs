//! Reading the configuration again: at SIGHUP, and when `hgcid reload` asks.

use std::convert::Infallible;
use std::path::Path;

use hgci_core::engine::Event;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};

use crate::app::{App, Current};
use crate::config::{self, Config};
use crate::notify;
use crate::repositories::Repositories;
use crate::serve::{mail_settings, rules};
use crate::web::Access;

/// What asks for it over the API, and waits for what became of it.
pub type Asked = oneshot::Sender<Result<(), String>>;

/// Reads the configuration each time that it is asked to.
pub async fn whenever_asked(
    app: &App,
    path: &Path,
    repositories: &Repositories,
    hangup: &mut Signal,
    mut reloads: mpsc::Receiver<Asked>,
) -> Infallible {
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => None,
            asked = reloads.recv() => asked,
        };
        notify::reloading();
        let outcome = read(app, path).await;
        match &outcome {
            Ok(()) => {
                repositories.apply().await;
                tracing::info!("the configuration was read again");
            }
            Err(mistakes) => tracing::error!("the configuration stays as it was: {mistakes}"),
        }
        notify::ready();
        if let Some(asked) = asked {
            let _left = asked.send(outcome);
        }
    }
}

/// Reads it. On a mistake everything stays as it was.
async fn read(app: &App, path: &Path) -> Result<(), String> {
    let config = config::load(path).map_err(|error| error.to_string())?;
    let fixed = |config: &Config| {
        let socket = (config.socket.clone(), config.socket_mode, config.socket_group.clone());
        (config.state.clone(), socket, config.web.clone())
    };
    if fixed(&config) != fixed(&app.current().config) {
        return Err(
            "state, socket, socket-mode, socket-group and [web] cannot change while hgcid \
                    runs: restart it"
                .into(),
        );
    }
    let access = Access::of(&config)?;
    let configure = Event::Configure(rules(&config));
    app.scheduler.event(configure).await.map_err(|error| error.to_string())?;
    app.mail.send_replace(mail_settings(&config));
    app.logs.set_limit(config.limits.log);
    app.replace(Current { config, access });
    app.look_at_disk.notify_one();
    app.sweep_now.notify_one();
    Ok(())
}
