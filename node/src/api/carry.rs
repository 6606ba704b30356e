//! A circle in a file: what would go into one and who could open it, its bytes, and taking one in.

use std::{collections::BTreeMap, io};

use axum::body::Bytes;
use cwn_crypto::{PartnerId, Time};
use cwn_engine::log::CircleId;
use futures::Stream;
use tokio::sync::mpsc;

use super::{
    door::{Api, find_circle, name_of},
    types::{ExportView, Imported, LeftView, Problem},
};
use crate::{
    carry::{
        export::{self, Plan, Refusal, Wanted},
        import::{self, Account, Joined, Left, Stop},
    },
    node::partner_of,
};

/// Logs that an answer names; of more it is enough to know how many entries.
const LEFT_LOGS: usize = 100;

/// What somebody wants in a file, as it stands in a request.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// The partners it is for, with commas between; all of the circle when none is named.
    #[serde(default)]
    pub to: String,
    /// Only entries from then on.
    pub since: Option<u64>,
    /// Whether the parts of attachments come along.
    #[serde(default)]
    pub attachments: bool,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownCircle => Self::not_found(refusal),
            Refusal::NotMember(_) | Refusal::TooMany(_) | Refusal::Nobody => Self::refused(refusal),
        }
    }
}

impl Api {
    async fn plan(&self, named: &str, query: &ExportQuery) -> Result<(Plan, String), Problem> {
        let to = query.to.split(',').filter(|partner| !partner.is_empty()).map(str::parse);
        let to = to.collect::<Result<Vec<PartnerId>, _>>().map_err(Problem::bad_request)?;
        let (since, attachments, named) = (query.since.map(Time), query.attachments, named.to_owned());
        let looked = self.node.driver.ask(move |engine, _| {
            let circle = find_circle(engine, &named)?;
            let wanted = Wanted { circle, to, since, attachments };
            let plan = Plan::new(engine, &wanted)?;
            let nodes = engine.word().nodes();
            let partners: BTreeMap<_, _> =
                nodes.map(|own| (own.certificate.node, own.certificate.partner.clone())).collect();
            let name = engine.circle(&circle).and_then(name_of).unwrap_or_default();
            Ok::<_, Problem>((plan, wanted, partners, name))
        });
        let (mut plan, wanted, partners, name) = looked.await??;
        let (reader, inbox, chunks) = (self.node.reader.get(), self.node.inbox.clone(), self.node.chunks.clone());
        let plan = tokio::task::spawn_blocking(move || {
            plan.look_up(&wanted, &reader, &inbox, &chunks, &partners).map(|()| plan)
        });
        let plan = plan.await.map_err(Problem::broken)?.map_err(Problem::broken)?;
        Ok((plan, name))
    }

    /// What a file would hold, and who could open it. Does nothing.
    pub async fn export_plan(&self, circle: &str, query: &ExportQuery) -> Result<ExportView, Problem> {
        let (plan, name) = self.plan(circle, query).await?;
        let left_attachments = if query.attachments { 0 } else { self.attached(&plan, query).await? };
        let names = |partners: &std::collections::BTreeSet<PartnerId>| {
            partners.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        Ok(ExportView {
            circle: name,
            id: plan.circle.to_string(),
            partners: names(&plan.partners),
            nodes: plan.recipients.len(),
            left_out: names(&plan.left_out),
            entries: plan.entries(),
            parts: plan.chunks(),
            missing_parts: plan.missing,
            left_attachments,
        })
    }

    /// How many attachments the entries have that a file holds.
    async fn attached(&self, plan: &Plan, query: &ExportQuery) -> Result<u64, Problem> {
        let (inbox, circle, since) = (self.node.inbox.clone(), plan.circle, query.since.map(Time));
        let listed = tokio::task::spawn_blocking(move || inbox.newest(Some(circle), None, usize::MAX)).await;
        let listed = listed.map_err(Problem::broken)?.map_err(Problem::broken)?;
        let rows = listed.iter().map(|listed| &listed.row).filter(|row| since.is_none_or(|since| row.time >= since));
        Ok(rows.map(|row| u64::from(row.attachments)).sum())
    }

    /// The bytes of a file.
    pub async fn export(
        &self,
        circle: &str,
        query: &ExportQuery,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + use<>, Problem> {
        let (plan, _) = self.plan(circle, query).await?;
        let network = self.node.network_id;
        let bytes = export::stream(plan, network, self.node.reader.get(), self.node.chunks.clone());
        Ok(frames(bytes.map_err(Problem::refused)?))
    }

    /// Takes a file in. Whoever carried it, and whoever made it: what is in it proves itself.
    pub async fn import<E: std::fmt::Display>(
        &self,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Imported, Problem> {
        let account = import::take(&self.node, body).await.map_err(|stop| match stop {
            Stop::Failure(failure) => failure.into(),
            Stop::Broken(_) | Stop::Chunk(_) => Problem::broken(stop),
            _ => Problem::bad_request(stop),
        })?;
        let authors: Vec<_> = account.left.keys().map(|key| key.author).collect();
        let partners = self.node.driver.ask(move |engine, _| {
            authors.iter().map(|author| partner_of(engine.word(), author)).collect::<Vec<String>>()
        });
        Ok(imported(account, partners.await?))
    }
}

/// What a thread makes, as the body of an answer.
pub(super) fn frames(mut bytes: mpsc::Receiver<io::Result<Vec<u8>>>) -> impl Stream<Item = io::Result<Bytes>> {
    futures::stream::poll_fn(move |context| bytes.poll_recv(context).map_ok(Bytes::from))
}

fn imported(account: Account, authors: Vec<String>) -> Imported {
    let (circle, made) = account.start.map_or((None, 0), |(circle, made): (CircleId, Time)| (Some(circle), made.0));
    let left = account.left.values().zip(authors);
    let view = |(left, author): (&Left, String)| LeftView {
        author,
        entries: left.entries,
        why: left.why.clone(),
        refused: left.refused,
    };
    Imported {
        id: circle.map(|circle| circle.to_string()).unwrap_or_default(),
        circle: account.name,
        made,
        standing: account.joined.map(|joined| {
            let word = match joined {
                Joined::Before => "member",
                Joined::Now => "joined",
                Joined::Offered => "offered",
                Joined::Declined => "declined",
                Joined::NotNamed => "not_named",
                Joined::TooManyOffers => "too_many_offers",
            };
            word.to_owned()
        }),
        network_entries: account.network,
        operations: account.operations,
        entries: account.entries,
        known: account.known,
        parts: account.chunks,
        stray_parts: account.stray_chunks,
        passed_entries: account.passed,
        left_operations: account.left_operations,
        left_entries: account.left.values().map(|left| left.entries).sum(),
        left: left.map(view).take(LEFT_LOGS).collect(),
        stopped: account.stop,
    }
}
