//! The bytes of a backup, taken while the node runs.

use std::io;

use axum::body::Bytes;
use futures::Stream;

use super::{carry::frames, door::Api, types::Problem};
use crate::backup::{self, Plan};

impl Api {
    /// Everything this node's data directory must have, as it is durable now.
    pub async fn backup(&self) -> Result<impl Stream<Item = io::Result<Bytes>> + use<>, Problem> {
        let segments = self.node.driver.ask(|_, store| store.committed()).await?.map_err(Problem::broken)?;
        let (me, data) = (self.node.me, self.node.data.clone());
        let partner = self.node.certificate.get().partner.to_string();
        let plan = tokio::task::spawn_blocking(move || Plan::new(me, partner, &data, segments));
        let plan = plan.await.map_err(Problem::broken)?.map_err(Problem::broken)?;
        Ok(frames(backup::stream(plan)))
    }
}
