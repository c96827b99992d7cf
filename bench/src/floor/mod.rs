//! Floors: the same work as Switchboard's, done bare. The difference to a floor is the cost of Switchboard's own code.

pub(crate) mod broker;
pub(crate) mod http;
pub(crate) mod pipeline;
pub(crate) mod sqlite;
