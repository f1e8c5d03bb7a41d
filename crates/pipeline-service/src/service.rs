//! A service: what it consists of, how it starts, and what it can be asked to do.

mod driver;

use std::net::SocketAddr;
use std::sync::Arc;

use pipeline_core::Clock;
use pipeline_core::http::HttpService;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::driver::Driver;
use crate::alerts::send::Sender;
use crate::metrics::Metrics;
use crate::runner::Runner;
use crate::server;
use crate::settings::Settings;
use crate::store::{StateError, Store};
use crate::view::Shared;
use crate::wishes::Wishes;

/// A command to a running service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run a source now, or once more when it has ended.
    RunNow(String),
    /// Do not start a source when it is due.
    Pause(String),
    /// End the pause.
    Resume(String),
    /// Stop the run of a source with a commit.
    Stop(String),
    /// Read the configuration again.
    Reload,
    /// Stop all runs with a commit, and end.
    ShutDown,
}

/// Sends commands to a service.
#[derive(Clone, Debug)]
pub struct Handle(UnboundedSender<Command>);

impl Handle {
    #[cfg(test)]
    pub(crate) fn of(sender: UnboundedSender<Command>) -> Self {
        Self(sender)
    }

    /// Sends a command. A service that has ended ignores it.
    pub fn send(&self, command: Command) {
        let _ = self.0.send(command);
    }
}

/// Why a service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing can listen there.
    #[error("the address {address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs sources when they are due, until [`Command::ShutDown`].
#[derive(Debug)]
pub struct Service {
    settings: Settings,
    runner: Arc<dyn Runner>,
    clock: Arc<dyn Clock>,
    transport: Arc<dyn HttpService>,
    handle: Handle,
    commands: UnboundedReceiver<Command>,
}

impl Service {
    /// A service that has not started. `transport` sends alerts.
    pub fn new(
        settings: Settings,
        runner: Arc<dyn Runner>,
        clock: Arc<dyn Clock>,
        transport: Arc<dyn HttpService>,
    ) -> Self {
        let (sender, commands) = unbounded_channel();
        Self {
            settings,
            runner,
            clock,
            transport,
            handle: Handle(sender),
            commands,
        }
    }

    /// Returns a handle for commands.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts, and returns when [`Command::ShutDown`] has been carried out.
    ///
    /// # Errors
    /// When it cannot start. What fails later is logged, alerted and counted, and does not end it.
    pub async fn serve(self) -> Result<(), ServiceError> {
        let (store, memory) = Store::open(&self.settings.state)?;
        let shared = Arc::new(Shared::new(
            Arc::new(Metrics::new()),
            Wishes::open(&self.settings.state, self.clock.now()),
            self.handle.clone(),
            Arc::clone(&self.clock),
        ));
        let listener = match self.settings.listen {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.map_err(|source| ServiceError::Listen { address, source })?)
            }
            None => None,
        };
        let token = self.settings.token.clone();
        let mut driver = Driver::new(
            self.settings,
            self.runner,
            self.clock,
            Sender::new(self.transport),
            (store, memory),
            Arc::clone(&shared),
        );
        // The first request must find a picture to serve.
        driver.step();
        let server = listener.map(|listener| {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "listening");
            }
            tokio::spawn(server::serve(listener, shared, token))
        });
        driver.run(self.commands).await;
        if let Some(server) = server {
            server.abort();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
