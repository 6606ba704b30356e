//! `cwn drafts`

use clap::{Args, Subcommand};

use super::{Face, confirm, partners::encode, print_json, publish::audience_page, show};
use crate::{
    api::types::{DraftDetail, DraftSummary, Id, PublishDraft, Published},
    drafts::Override,
};

/// Arguments of `cwn drafts`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "A draft is what was published while it could not be sealed yet. It is published by itself as soon as that may be, to those it was written for; when others could read it by then, it waits for you, and so it does on a node that is kept offline: no word comes to that by itself."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Show what was sealed before it could be published by itself: by whom, when, why and for whom.
    #[arg(long)]
    overrides: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to do with drafts.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the drafts of this node, and what each waits for.
    #[command(after_help = "Example:\n  cwn drafts list")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a draft, and who could read it if it were published now.
    #[command(after_help = "Example:\n  cwn drafts show 1f2e3d4c")]
    Show {
        /// The draft, by the start of its name.
        #[arg(value_parser = super::named)]
        draft: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Publish a draft now, for those who are shown.
    #[command(
        after_help = "Examples:\n  cwn drafts publish 1f2e3d4c\n  cwn drafts publish 1f2e3d4c --anyway \"the hospitals must know tonight\"\n\nBefore what it waits for has come, a partner that was removed or revoked meanwhile may be among those who are shown. So it takes a reason, which goes on record with your name: `cwn drafts --overrides` shows it."
    )]
    Publish {
        /// The draft, by the start of its name.
        #[arg(value_parser = super::named)]
        draft: String,
        /// Do not wait for what it waits for: why, in one line, for the record.
        #[arg(long, value_name = "REASON")]
        anyway: Option<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Remove a draft; nobody will read it.
    #[command(after_help = "Example:\n  cwn drafts drop 1f2e3d4c")]
    Drop {
        /// The draft, by the start of its name.
        #[arg(value_parser = super::named)]
        draft: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(face: &Face, arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { command, overrides, json } = arguments;
    match command {
        None if overrides => show_overrides(face, json).await,
        None => list(face, json).await,
        Some(Command::List { json }) => list(face, json).await,
        Some(Command::Show { draft, json }) => show_one(face, &draft, json).await,
        Some(Command::Publish { draft, anyway, yes }) => publish(face, &draft, anyway, yes).await,
        Some(Command::Drop { draft, yes }) => drop_one(face, &draft, yes).await,
    }
}

/// What a draft waits for, in one line.
pub(super) fn waits(draft: &DraftSummary) -> String {
    match &draft.needs {
        Some(needs) => format!("waits for you: {}", show::line(needs)),
        None if draft.awaited.is_empty() => "is being published".to_owned(),
        None => show::line(&draft.awaited.join(", and ")),
    }
}

async fn list(face: &Face, json: bool) -> anyhow::Result<()> {
    let drafts: Vec<DraftSummary> = face.client.get("/v1/drafts").await?;
    if json {
        return print_json(&drafts);
    }
    Ok(show::page(&list_page(&drafts))?)
}

fn list_page(drafts: &[DraftSummary]) -> String {
    if drafts.is_empty() {
        return "No drafts: all that was written is sealed.\n".to_owned();
    }
    let row = |draft: &DraftSummary| {
        vec![
            show::short(&draft.id).to_owned(),
            show::time(draft.written),
            draft.tlp.clone(),
            show::line(&draft.circle_name),
            show::line(draft.title.as_deref().unwrap_or("(not shown in lists)")),
        ]
    };
    let table = show::table(&drafts.iter().map(row).collect::<Vec<_>>());
    let lines = table.lines().zip(drafts).map(|(line, draft)| format!("{line}\n  {}\n", waits(draft)));
    lines.collect()
}

async fn detail(face: &Face, draft: &str) -> anyhow::Result<DraftDetail> {
    Ok(face.client.get(&format!("/v1/drafts/{}", encode(draft))).await?)
}

async fn show_one(face: &Face, draft: &str, json: bool) -> anyhow::Result<()> {
    let detail = detail(face, draft).await?;
    if json {
        return print_json(&detail);
    }
    Ok(show::page(&detail_page(&detail))?)
}

fn detail_page(detail: &DraftDetail) -> String {
    let draft = &detail.summary;
    let mut page = format!("{}\n", show::line(draft.title.as_deref().unwrap_or_default()));
    page += &format!("{} in {}, written {}\n", draft.tlp, show::line(&draft.circle_name), show::time(draft.written));
    if let Some(pap) = &detail.pap {
        page += &format!("{pap}\n");
    }
    page += &format!("not yet sealed: {}\n", waits(draft));
    page += &format!("written for {}\n", draft.partners.join(", "));
    page += &readers(detail);
    for reference in &detail.references {
        page += &format!("  {}\n", show::line(reference));
    }
    for attached in &detail.attached {
        page += &format!("attached: {}\n", show::line(attached));
    }
    page + &format!("\n{}\n", show::text(detail.body.trim_end()))
}

/// Who could read it now, and who of them could not when it was written.
fn readers(detail: &DraftDetail) -> String {
    let Some(audience) = &detail.audience else { return String::new() };
    let mut page = audience_page(audience);
    if !detail.added.is_empty() {
        page += &format!("  {} could NOT read it when it was written.\n", detail.added.join(", "));
    }
    page
}

async fn publish(face: &Face, draft: &str, anyway: Option<String>, yes: bool) -> anyhow::Result<()> {
    let detail = detail(face, draft).await?;
    let awaited = &detail.summary.awaited;
    // Said before anybody is asked anything; what can never be published the daemon says.
    anyhow::ensure!(
        anyway.is_some() || awaited.is_empty() || detail.audience.is_none(),
        "{}",
        show::line(&detail.summary.not_yet_sealed())
    );
    show::note(readers(&detail).trim_end());
    if !yes {
        let question = if awaited.is_empty() {
            "Publish it for these?".to_owned()
        } else {
            format!("Seal it for these at once, on record, though there is {}?", awaited.join(", and "))
        };
        confirm(&question)?;
    }
    let ask = PublishDraft { readers: detail.readers, anyway };
    let id = &detail.summary.id;
    let published: Published = face.client.post(&format!("/v1/drafts/{id}/publish"), &ask).await?;
    show::page(&format!("{}\n", published.reference))?;
    show::note(&format!("Published. `cwn who {}` shows who has received it.", published.reference));
    Ok(())
}

async fn drop_one(face: &Face, draft: &str, yes: bool) -> anyhow::Result<()> {
    if !yes {
        confirm(&format!("Remove draft {draft}? Nobody will read it."))?;
    }
    let id: Id = face.client.post(&format!("/v1/drafts/{}/drop", encode(draft)), &serde_json::json!({})).await?;
    Ok(show::page(&format!("Dropped: {}\n", show::short(&id.id)))?)
}

async fn show_overrides(face: &Face, json: bool) -> anyhow::Result<()> {
    let overrides: Vec<Override> = face.client.get("/v1/overrides").await?;
    if json {
        return print_json(&overrides);
    }
    Ok(show::page(&overrides_page(&overrides))?)
}

fn overrides_page(overrides: &[Override]) -> String {
    if overrides.is_empty() {
        return "No overrides: nothing was sealed before it could be published by itself.\n".to_owned();
    }
    let one = |line: &Override| {
        let uid = line.uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
        let user = line.user.as_deref().map_or_else(|| format!("user {uid}"), |user| format!("{user} (user {uid})"));
        let mut page = format!("{}  {}\n", show::time(line.at), show::line(&user));
        page += &format!("  {} in {}, draft {}\n", line.tlp, show::line(&line.circle_name), show::short(&line.draft));
        page += &format!("  why: {}\n", show::line(&line.reason));
        page += &format!("  though: {}\n", show::line(&line.awaited.join(", and ")));
        let nodes = show::count(line.nodes.len() as u64, "node", "nodes");
        page += &format!("  for {} ({nodes})\n", line.partners.join(", "));
        if let Some(why) = &line.not_done {
            page += &format!("  NOT DONE: {}\n", show::line(why));
        }
        page
    };
    overrides.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> DraftSummary {
        DraftSummary {
            id: "1f2e3d4c5b6a7988".to_owned(),
            circle: "aed0b435255200ff".to_owned(),
            circle_name: "zorg".to_owned(),
            tlp: "TLP:AMBER".to_owned(),
            title: Some("EdgeGate".to_owned()),
            written: 0,
            partners: vec!["ferm".to_owned(), "ncsc".to_owned()],
            awaited: vec!["no word yet from ncsc".to_owned()],
            needs: None,
        }
    }

    #[test]
    fn a_draft_says_what_it_waits_for_and_whether_that_is_a_person() {
        assert_eq!(waits(&draft()), "no word yet from ncsc");
        assert_eq!(waits(&DraftSummary { awaited: Vec::new(), ..draft() }), "is being published");
        let needs = Some("ibd can read it now and could not when it was written".to_owned());
        assert!(waits(&DraftSummary { needs, ..draft() }).starts_with("waits for you: ibd can read it now"));
    }

    #[test]
    fn a_list_shows_no_words_of_red_and_moves_no_cursor() {
        let red = DraftSummary { title: None, tlp: "TLP:RED".to_owned(), ..draft() };
        let odd = DraftSummary { title: Some("a\x1b[2J".to_owned()), ..draft() };
        let page = list_page(&[red, odd]);
        assert!(page.contains("TLP:RED") && page.contains("(not shown in lists)"), "{page}");
        assert!(!page.contains('\x1b') && page.lines().count() == 4, "{page}");
        assert!(list_page(&[]).starts_with("No drafts"));
    }

    #[test]
    fn an_override_that_came_to_nothing_says_so() {
        let line = Override {
            at: 0,
            uid: Some(1000),
            user: Some("anna".to_owned()),
            draft: "1f2e3d4c5b6a7988".to_owned(),
            circle: "aed0b435255200ff".to_owned(),
            circle_name: "zorg".to_owned(),
            tlp: "TLP:RED".to_owned(),
            reason: "tonight".to_owned(),
            awaited: vec!["no word yet from ncsc".to_owned()],
            partners: vec!["ferm".to_owned()],
            nodes: vec!["00".to_owned()],
            not_done: None,
        };
        let page = overrides_page(std::slice::from_ref(&line));
        assert!(page.contains("anna (user 1000)") && page.contains("why: tonight") && !page.contains("NOT DONE"));
        let page = overrides_page(&[Override { not_done: Some("the disk is full".to_owned()), user: None, ..line }]);
        assert!(page.contains("user 1000\n") && page.contains("NOT DONE: the disk is full"), "{page}");
    }
}
