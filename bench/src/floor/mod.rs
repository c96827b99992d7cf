//! Floors: the same work, done bare. What Switchboard needs beyond them is its own doing.

pub(crate) mod broker;
pub(crate) mod http;
pub(crate) mod pipeline;
pub(crate) mod sqlite;
