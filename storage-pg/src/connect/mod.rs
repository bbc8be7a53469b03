//! From a connection URL to a connection: [`Target`] reads the URL, [`Connector`] does the TLS, [`connect`] dials,
//! and [`Failure`] says which of the many reasons it was that there is no connection.
//!
//! tokio-postgres alone would not do: it does not know half of libpq's words, takes milliseconds for seconds, bounds only
//! the opening of the socket (a server that accepts and stays silent holds it for ever), reports only the last of several
//! hosts, and tells causes apart mostly by text.

mod dial;
mod failure;
#[cfg(test)]
mod fake;
mod hello;
mod target;
mod tls;
mod url;

pub(crate) use dial::{Link, connect};
#[cfg(test)]
pub(crate) use failure::Stage;
pub(crate) use failure::{Cause, Failure};
pub(crate) use hello::Hello;
pub(crate) use target::{Session, Target};
pub(crate) use tls::Connector;
