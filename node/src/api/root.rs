//! The root document: going on to a later version that came as a file.

use cwn_crypto::{
    armour::{self, Label},
    root::{CHAIN_LIMIT, RootChain},
};
use cwn_engine::input::Command;

use super::{
    door::Api,
    types::{Problem, RootAdopted, RootText},
};

impl Api {
    /// Adopts the versions of the root document in a file, if the root keys that are trusted here signed them.
    pub async fn adopt_root(&self, root: &RootText) -> Result<RootAdopted, Problem> {
        let bytes = armour::dearmour(Label::RootDocument, &root.text, CHAIN_LIMIT).map_err(Problem::bad_request)?;
        let chain = RootChain::from_bytes(&bytes).map_err(Problem::bad_request)?;
        let here = self.node.network_id;
        match chain.network_id() {
            Some(found) if found == here => {}
            Some(found) => {
                return Err(Problem::refused(format!(
                    "this root document is of network {found}, and this node of {here}; ask your own coordinator for the file"
                )));
            }
            None => {
                return Err(Problem::bad_request(
                    "the file holds no version of a root document; ask the coordinator for it again",
                ));
            }
        }
        let held = || self.node.driver.ask(|engine, _| engine.root().version());
        let before = held().await?;
        self.node.driver.command(Command::AdoptRoot { versions: chain.0 }).await?;
        Ok(RootAdopted { before, version: held().await? })
    }
}
