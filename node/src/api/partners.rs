//! The partners of the network and their keys.

use std::collections::BTreeMap;

use cwn_crypto::{PartnerId, PublicKey, Time, encoding, issuer_log::Certified, seal::Recipient};
use cwn_engine::{input::Input, store::known_facts};

use super::{
    door::Api,
    status::words_of,
    types::{Compared, Id, IssuerLog, NodeView, PartnerView, Problem, Taken},
};
use crate::{clock, membership::Membership};

const COMPARED_FACT: &[u8] = b"compared/";

/// The words that were compared stand for both keys: with another sealing key nothing was compared.
fn compared_fact(node: &PublicKey, recipient: &Recipient) -> Vec<u8> {
    [COMPARED_FACT, &node.0, &recipient.0].concat()
}

impl Api {
    /// Every partner that was ever certified, with its nodes.
    pub async fn partners(&self) -> Result<Vec<PartnerView>, Problem> {
        let compared = self.compared()?;
        let me = self.node.me;
        let nodes = self
            .node
            .driver
            .ask(|engine, _| {
                let word = engine.word();
                let revoked = |own: &Certified| {
                    let revoked = word.revocation(&own.certificate.node)?;
                    Some(format!("{} on {}", revoked.reason, revoked.at))
                };
                word.nodes().map(|own| (own.certificate.clone(), revoked(own))).collect::<Vec<_>>()
            })
            .await?;
        let mut partners: BTreeMap<PartnerId, PartnerView> = BTreeMap::new();
        for (certificate, revoked) in nodes {
            let node = certificate.node;
            let announced = self.node.inbox.directory().announced(&node);
            let view = NodeView {
                node: node.to_string(),
                fingerprint: words_of(&node, &certificate.recipient),
                certified_since: certificate.not_before.0,
                not_after: certificate.not_after.0,
                revoked,
                compared: compared.get(&(node, certificate.recipient)).map(|at| at.0),
                addresses: announced.as_ref().map(|announced| announced.addresses.clone()).unwrap_or_default(),
                anchor: announced.is_some_and(|announced| announced.anchor),
                connected: self.node.connections.connected(&node).is_some(),
                this: node == me,
            };
            let fresh = || PartnerView {
                partner: certificate.partner.to_string(),
                name: certificate.name.clone(),
                nodes: Vec::new(),
            };
            partners.entry(certificate.partner.clone()).or_insert_with(fresh).nodes.push(view);
        }
        Ok(partners.into_values().collect())
    }

    /// When fingerprints were compared by telephone.
    pub(super) fn compared(&self) -> Result<BTreeMap<(PublicKey, Recipient), Time>, Problem> {
        let facts = known_facts(&self.node.reader.get(), COMPARED_FACT).map_err(Problem::broken)?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let (node, recipient) = key.get(COMPARED_FACT.len()..)?.split_first_chunk::<32>()?;
            let recipient: [u8; 32] = recipient.try_into().ok()?;
            Some(((PublicKey(*node), Recipient(recipient)), encoding::from_bytes(&value, 16).ok()?))
        };
        Ok(facts.into_iter().filter_map(read).collect())
    }

    /// Takes in the issuer's log that was carried here as a file. Whoever carried it: its entries prove themselves.
    pub async fn take_issuer_log(&self, log: &IssuerLog) -> Result<Taken, Problem> {
        let entries = Membership::parse_issuer_log(&log.text).map_err(Problem::bad_request)?;
        let taken = Taken { entries: entries.len() };
        self.node.driver.input(Input::Import { entries }).await?;
        Ok(taken)
    }

    /// Somebody compared a node's fingerprint by telephone.
    pub async fn record_comparison(&self, partner: &str, compared: &Compared) -> Result<Id, Problem> {
        let partner: PartnerId = partner.parse().map_err(Problem::bad_request)?;
        let named = compared.node.clone();
        let nodes = {
            let partner = partner.clone();
            let ask = move |engine: &cwn_engine::engine::Engine, _: &_| crate::node::nodes_of(engine, &partner);
            self.node.driver.ask(ask).await?
        };
        let meant = nodes.iter().find(|(node, _)| node.to_string().starts_with(&named) && named.len() >= 6);
        let (node, recipient) = meant.ok_or_else(|| {
            Problem::not_found(format!("{partner} has no certified node {named:?}; `cwn partners` shows its nodes"))
        })?;
        let value = encoding::to_bytes(&clock::now());
        self.node
            .driver
            .command(cwn_engine::input::Command::Remember { key: compared_fact(node, recipient), value })
            .await?;
        Ok(Id { id: node.to_string() })
    }
}
