//! Drafts: keeping what cannot be sealed yet, publishing it as soon as it may be, and what an operator decides about it.

use std::{collections::BTreeSet, time::Duration};

use cwn_crypto::{PublicKey, encoding::hex_decode};
use cwn_engine::{
    engine::Engine,
    input::{Audience, Command, Kept},
    log::Retracts,
    output::Reply,
};
use cwn_functions::{
    sharing::{Awaited, Report, awaited},
    text::is_one_line,
};
use zeroize::Zeroizing;

use super::{
    door::{Api, name_of},
    entries::{Prepared, audience, meant_for, reference, still_there, view_of},
    server::Caller,
    status::waited_for,
    types::{AudienceView, DraftDetail, DraftSummary, Id, Problem, PublishDraft, Published},
};
use crate::{
    clock,
    drafts::{Draft, DraftId, Drafts, Error, Outline, Override},
};

/// How often it is looked whether drafts may be published, while there are any.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Digits of a draft's name that a person must give.
const NAMED_LEAST: usize = 4;
/// Characters of a reason.
const REASON_CHARS: usize = 500;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Full => Self::refused(error),
            Error::Gone(_) => Self::not_found(error),
            Error::File(_) | Error::Damaged(_) => Self::broken(error),
        }
    }
}

/// How a draft stands now.
#[derive(Debug)]
struct Standing {
    circle_name: String,
    /// What it waits for, and will not wait for some day.
    awaited: Vec<Awaited>,
    /// For whom it is by now.
    meant: Audience,
    /// Who would be able to read it, and with which nodes; or why it cannot be published at all.
    audience: Result<(AudienceView, BTreeSet<PublicKey>), Problem>,
    /// Partners of nodes that could not have read it when it was written.
    added: Vec<String>,
    hears: Hears,
}

/// Whether word of members can come by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hears {
    Members,
    /// A node that is kept offline hears the issuer by files, and of a file nobody knows how old it is.
    NoMembers,
}

impl Standing {
    fn of(engine: &Engine, outline: &Outline, hears: Hears) -> Self {
        let Outline { circle, tlp, to, retracts, readers: written_for, .. } = outline;
        let (meant, audience) = if *retracts {
            let meant = still_there(engine, circle, to);
            let audience = view_of(engine, circle, *tlp, &meant);
            (meant, audience)
        } else {
            (meant_for(to), audience(engine, circle, *tlp, to))
        };
        let mut added = BTreeSet::new();
        if let (Ok((_, readers)), Some(replica)) = (&audience, engine.circle(circle)) {
            let member = |node| replica.fold().roster().member(node);
            let new = readers.difference(written_for).filter_map(member);
            added.extend(new.map(|member| member.partner.to_string()));
        }
        Self {
            circle_name: engine.circle(circle).and_then(name_of).unwrap_or_default(),
            awaited: awaited(*tlp, waited_for(engine, circle), engine.freshness()),
            meant,
            audience,
            added: added.into_iter().collect(),
            hears,
        }
    }

    /// Why it does not go on without a person.
    fn needs(&self) -> Option<String> {
        match &self.audience {
            Err(problem) => Some(problem.error.clone()),
            Ok(_) if !self.added.is_empty() => {
                Some(format!("{} can read it now and could not when it was written", self.added.join(", ")))
            }
            Ok(_)
                if self.hears == Hears::NoMembers
                    && self.awaited.iter().any(|one| matches!(one, Awaited::Members(_))) =>
            {
                Some(format!(
                    "{}, and none comes by itself to a node that is kept offline; `cwn drafts publish --anyway REASON` seals it now, and keeps on record whom it was not checked with",
                    in_words(&self.awaited).join(", and ")
                ))
            }
            Ok(_) => None,
        }
    }
}

fn in_words(awaited: &[Awaited]) -> Vec<String> {
    awaited.iter().map(ToString::to_string).collect()
}

fn summary(id: DraftId, outline: Option<&Outline>, standing: Option<&Standing>) -> DraftSummary {
    let (Some(outline), Some(standing)) = (outline, standing) else {
        return DraftSummary { needs: Some(Error::Damaged(id).to_string()), ..DraftSummary::unread(id.to_string()) };
    };
    DraftSummary {
        id: id.to_string(),
        circle: outline.circle.to_string(),
        circle_name: standing.circle_name.clone(),
        tlp: outline.tlp.to_string(),
        title: outline.title.clone(),
        written: outline.written.0,
        partners: outline.partners.iter().map(ToString::to_string).collect(),
        awaited: in_words(&standing.awaited),
        needs: standing.needs(),
    }
}

/// Does something with the drafts where waiting for the disk holds nobody up.
async fn on_disk<T: Send + 'static>(api: &Api, work: impl FnOnce(&Drafts) -> T + Send + 'static) -> Result<T, Problem> {
    let node = std::sync::Arc::clone(&api.node);
    tokio::task::spawn_blocking(move || work(&node.drafts)).await.map_err(Problem::broken)
}

impl Api {
    /// Keeps what was looked at whole and cannot be sealed yet.
    pub(super) async fn keep(
        &self,
        prepared: Prepared,
        audience: &AudienceView,
        readers: BTreeSet<PublicKey>,
        retracts: Option<Retracts>,
    ) -> Result<DraftSummary, Problem> {
        let partners = audience.partners.iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>();
        let draft = Draft {
            written: clock::now(),
            partners: partners.map_err(Problem::broken)?,
            readers,
            payload: prepared.payload,
            retracts,
            expiry: prepared.expiry,
        };
        let (circle, tlp) = (draft.payload.circle, draft.payload.tlp);
        let id = on_disk(self, move |drafts| drafts.keep(&draft)).await??;
        tracing::info!(draft = %id, %circle, %tlp, "kept as a draft, not yet sealed");
        self.summary(id).await
    }

    fn outline(&self, id: DraftId) -> Result<Option<Outline>, Error> {
        self.node.drafts.outline(id).ok_or(Error::Gone(id))
    }

    fn hears(&self) -> Hears {
        if self.node.config.network.offline { Hears::NoMembers } else { Hears::Members }
    }

    async fn standing(&self, outline: &Outline) -> Result<Standing, Problem> {
        let (outline, hears) = (outline.clone(), self.hears());
        Ok(self.node.driver.ask(move |engine, _| Standing::of(engine, &outline, hears)).await?)
    }

    async fn summary(&self, id: DraftId) -> Result<DraftSummary, Problem> {
        let outline = self.outline(id)?;
        let standing = match &outline {
            Some(outline) => Some(self.standing(outline).await?),
            None => None,
        };
        Ok(summary(id, outline.as_ref(), standing.as_ref()))
    }

    /// What waits, the oldest first.
    pub async fn drafts(&self) -> Result<Vec<DraftSummary>, Problem> {
        let (drafts, hears) = (self.node.drafts.list(), self.hears());
        let ask = move |engine: &Engine, _: &_| {
            let one = |(id, outline): &(DraftId, Option<Outline>)| {
                let standing = outline.as_ref().map(|outline| Standing::of(engine, outline, hears));
                summary(*id, outline.as_ref(), standing.as_ref())
            };
            drafts.iter().map(one).collect()
        };
        Ok(self.node.driver.ask(ask).await?)
    }

    fn find_draft(&self, named: &str) -> Result<DraftId, Problem> {
        let matches = |id: &DraftId| named.len() >= NAMED_LEAST && id.to_string().starts_with(named);
        let found: Vec<DraftId> = self.node.drafts.list().into_iter().map(|(id, _)| id).filter(matches).collect();
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(Problem::not_found(format!("there is no draft {named:?}; `cwn drafts` lists those there are"))),
            _ => Err(Problem::bad_request(format!("more than one draft starts with {named}; give more digits"))),
        }
    }

    /// One draft, opened, and who could read it if it were published now.
    pub async fn draft(&self, named: &str) -> Result<DraftDetail, Problem> {
        let id = self.find_draft(named)?;
        let draft = on_disk(self, move |drafts| drafts.read(id)).await??;
        let payload = &draft.payload;
        let report = Report::from_payload(payload).map_err(Problem::broken)?;
        let report =
            report.unwrap_or_else(|| Report { title: String::new(), body: String::new(), references: Vec::new() });
        let outline = self.outline(id)?.ok_or(Error::Damaged(id))?;
        let standing = self.standing(&outline).await?;
        let mut summary = summary(id, Some(&outline), Some(&standing));
        summary.title = Some(report.title);
        let (audience, readers) =
            standing.audience.map_or((None, BTreeSet::new()), |(view, readers)| (Some(view), readers));
        Ok(DraftDetail {
            summary,
            body: report.body,
            pap: payload.pap.map(|pap| pap.to_string()),
            references: report.references,
            to: payload.addressees.iter().map(ToString::to_string).collect(),
            attached: payload.attachments.iter().map(|attachment| attachment.name.clone()).collect(),
            audience,
            readers: readers.iter().map(ToString::to_string).collect(),
            added: standing.added,
        })
    }

    /// Publishes a draft for the readers that somebody confirmed; before it may be, only with a reason, on record.
    pub async fn publish_draft(&self, named: &str, ask: PublishDraft, caller: Caller) -> Result<Published, Problem> {
        let id = self.find_draft(named)?;
        let key = |text: &String| {
            let key = hex_decode(text).map(PublicKey);
            key.ok_or_else(|| Problem::bad_request(format!("{text:?} is not a node's key of 64 hexadecimal digits")))
        };
        let confirmed = ask.readers.iter().map(key).collect::<Result<BTreeSet<_>, _>>()?;
        let outline = self.outline(id)?.ok_or(Error::Damaged(id))?;
        let standing = self.standing(&outline).await?;
        let (view, readers) = standing.audience.clone()?;
        if standing.awaited.is_empty() {
            return self.seal_draft(id, confirmed, true).await;
        }
        let Some(reason) = ask.anyway else {
            let unsealed = summary(id, Some(&outline), Some(&standing));
            return Err(Problem::new("not_current", unsealed.not_yet_sealed()));
        };
        let awaited = in_words(&standing.awaited);
        if !(1..=REASON_CHARS).contains(&reason.chars().count()) || !is_one_line(&reason) || reason.trim().is_empty() {
            return Err(Problem::bad_request(format!(
                "a reason is one line of 1 to {REASON_CHARS} characters, for whoever looks at the record later"
            )));
        }
        if !readers.is_subset(&confirmed) {
            return Err(Problem::refused(
                "who can read it changed since it was shown; look at it again with `cwn drafts show`",
            ));
        }
        let line = Override {
            at: clock::now().0,
            uid: caller.uid,
            user: caller.name(),
            draft: id.to_string(),
            circle: outline.circle.to_string(),
            circle_name: standing.circle_name,
            tlp: outline.tlp.to_string(),
            reason,
            awaited,
            partners: view.partners,
            nodes: readers.iter().map(ToString::to_string).collect(),
            not_done: None,
        };
        tracing::warn!(
            uid = line.uid,
            user = line.user,
            draft = line.draft,
            circle = line.circle,
            tlp = line.tlp,
            reason = line.reason,
            awaited = line.awaited.join(", "),
            partners = line.partners.join(", "),
            nodes = line.nodes.len(),
            "a draft is sealed before it may be, by an operator's override"
        );
        let written = line.clone();
        on_disk(self, move |drafts| drafts.record(&written)).await?.map_err(Problem::broken)?;
        let sealed = self.seal_draft(id, readers, false).await;
        if let Err(problem) = &sealed {
            let line = Override { not_done: Some(problem.error.clone()), ..line };
            on_disk(self, move |drafts| drafts.record(&line)).await?.map_err(Problem::broken)?;
        }
        sealed
    }

    /// Removes a draft.
    pub async fn drop_draft(&self, named: &str) -> Result<Id, Problem> {
        let id = self.find_draft(named)?;
        let _one = self.node.drafts.busy.lock().await;
        // It may have been published while this waited.
        self.outline(id)?;
        on_disk(self, move |drafts| drafts.forget(id)).await?.map_err(Problem::broken)?;
        tracing::info!(draft = %id, "a draft was dropped");
        Ok(Id { id: id.to_string() })
    }

    /// What operators sealed before it could be published by itself.
    pub async fn overrides(&self) -> Result<Vec<Override>, Problem> {
        on_disk(self, Drafts::overrides).await?.map_err(Problem::broken)
    }

    /// Publishes every draft as soon as it may be, to those it was written for and to nobody else.
    pub async fn publish_drafts(self) {
        loop {
            let drafts = self.node.drafts.list();
            if drafts.is_empty() {
                self.node.drafts.more.notified().await;
                continue;
            }
            for (id, outline) in drafts {
                let Some(outline) = outline else { continue };
                // The daemon is ending.
                let Ok(standing) = self.standing(&outline).await else { return };
                if !standing.awaited.is_empty() || standing.needs().is_some() {
                    continue;
                }
                match self.seal_draft(id, outline.readers, true).await {
                    Ok(published) => {
                        tracing::info!(draft = %id, entry = published.hash, "a draft was published");
                    }
                    // Somebody was quicker, or what it waits for changed at this very moment: it is looked at again.
                    Err(problem) => tracing::debug!(draft = %id, problem = problem.error, "not published"),
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Seals and appends a draft to no others than these readers, and removes it. Once begun it goes on to its end,
    /// though whoever asked goes away: a draft that is published and kept would be published twice.
    async fn seal_draft(
        &self,
        id: DraftId,
        readers: BTreeSet<PublicKey>,
        only_when_current: bool,
    ) -> Result<Published, Problem> {
        let api = self.clone();
        let sealing = tokio::spawn(async move {
            let _one = api.node.drafts.busy.lock().await;
            let draft = on_disk(&api, move |drafts| drafts.read(id)).await??;
            let outline = api.outline(id)?.ok_or(Error::Damaged(id))?;
            let plaintext = Zeroizing::new(draft.payload.to_bytes().map_err(Problem::refused)?);
            let Standing { meant: audience, audience: view, .. } = api.standing(&outline).await?;
            let (view, _) = view?;
            let kept = Some(Kept { fact: id.fact(), readers });
            let circle = outline.circle;
            let only_when_current = only_when_current && api.engine_judges(circle).await?;
            let (expiry, retracts) = (draft.expiry, draft.retracts);
            let command = Command::Append { circle, audience, expiry, only_when_current, retracts, kept };
            let Reply::Appended { hash, .. } = api.node.driver.append(command, plaintext).await? else {
                return Err(Problem::broken("publishing a draft came to something else"));
            };
            match on_disk(&api, move |drafts| drafts.forget(id)).await? {
                Ok(()) => {
                    let forget = Command::Remember { key: id.fact(), value: Vec::new() };
                    api.node.driver.command(forget).await?;
                }
                // The fact stays, and the next start removes the file.
                Err(error) => tracing::error!(draft = %id, %error, "a draft that was published could not be removed"),
            }
            api.wait_until_listed(&hash).await;
            Ok(Published {
                reference: reference(&hash),
                hash: hash.to_string(),
                circle: circle.to_string(),
                audience: view,
            })
        });
        sealing.await.map_err(Problem::broken)?
    }
}
