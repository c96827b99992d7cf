//! Faults of one quorum queue of a node or cluster; the other queues are not affected. They are the same on 3.10 and on
//! 4.3.

use anyhow::Result;

use super::RabbitMqServer;

/// Each method is called on one node, and reaches the queue's members on every node.
impl RabbitMqServer {
    /// Stops every member of `queue`. The queue has no leader until [`RabbitMqServer::restart_queue`], or until the
    /// nodes restart.
    ///
    /// # Errors
    /// When the node is not running or has no such queue.
    pub fn stop_queue(&self, queue: &str) -> Result<()> {
        self.on_members(queue, "ok = ra:stop_server(quorum_queues, {Q, N})")
    }

    /// Starts the members of `queue` again.
    ///
    /// # Errors
    /// When the node is not running or one of them does not start.
    pub fn restart_queue(&self, queue: &str) -> Result<()> {
        self.on_members(queue, "ok = ra:restart_server(quorum_queues, {Q, N})")
    }

    /// Suspends the leader of `queue`. It remains the leader and answers nothing, so publishing and consuming hang.
    ///
    /// # Errors
    /// When the node is not running or the queue has no leader.
    pub fn suspend_queue(&self, queue: &str) -> Result<()> {
        let suspend = "{Q, Leader} = ra_leaderboard:lookup_leader(Q), ok = sys:suspend({Q, Leader})";
        self.eval(queue, suspend)
    }

    /// Resumes the leader of `queue`, whichever member it is.
    ///
    /// # Errors
    /// When the node is not running or the queue has no members.
    pub fn resume_queue(&self, queue: &str) -> Result<()> {
        self.on_members(queue, "ok = sys:resume({Q, N})")
    }

    /// Deletes `queue` with all its messages.
    ///
    /// # Errors
    /// When the node is not running or has no such queue.
    pub fn delete_queue(&self, queue: &str) -> Result<()> {
        self.ctl(&["delete_queue", queue]).map(drop)
    }

    fn on_members(&self, queue: &str, what: &str) -> Result<()> {
        self.eval(queue, &format!("[{what} || N <- [node() | nodes()]]"))
    }

    /// Evaluates `what` with `Q` bound to the name of `queue` in Raft.
    fn eval(&self, queue: &str, what: &str) -> Result<()> {
        self.ctl(&["eval", &format!("Q = '%2F_{queue}', {what}.")]).map(drop)
    }
}
