//! The kubelet processes that answered, told apart by their socket.

use std::path::Path;

use device::health::Moment;
use device::in_use::holders::Holders;

use super::wire::{self, ListError};
use crate::host::socket_id::SocketId;

/// The kubelet processes that answered so far.
#[derive(Debug, Default)]
pub(super) struct KubeletInstances {
    socket: Option<SocketId>,
    /// How many there were.
    count: u64,
}

impl KubeletInstances {
    /// Lists what pods hold; `None` if there is no socket.
    pub(super) async fn list(
        &mut self,
        path: &Path,
        asked: Moment,
    ) -> Result<Option<Holders>, ListError> {
        let Some(socket) = SocketId::of(path).map_err(ListError::Socket)? else { return Ok(None) };
        let list = wire::list(path).await?;
        if SocketId::of(path).map_err(ListError::Socket)? != Some(socket) {
            return Err(ListError::Replaced);
        }
        if self.socket.replace(socket) != Some(socket) {
            self.count += 1;
        }
        Ok(Some(Holders::new(asked, self.count, list.pods, list.assignments)))
    }
}
