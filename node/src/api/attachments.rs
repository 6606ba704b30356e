//! Attachments: taking a file in, giving it out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::Bytes;
use cwn_crypto::{Hash, seal::EpochKey};
use cwn_engine::log::CircleId;
use cwn_functions::payload::{AttachmentRef, ChunkHash};
use futures::{Stream, StreamExt};

use super::{
    door::Api,
    types::{Problem, Uploaded},
};
use crate::{
    attachments::{CHUNK_BYTES, Error},
    driver::random,
};

/// Uploads that wait to be published.
const UPLOADS: usize = 64;

/// Files that were taken in and are not published yet.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<BTreeMap<String, (CircleId, AttachmentRef)>>);

impl Uploads {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, (CircleId, AttachmentRef)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: &str, circle: &CircleId) -> Result<AttachmentRef, Problem> {
        match self.waiting().get(id) {
            Some((of, attachment)) if of == circle => Ok(attachment.clone()),
            Some(_) => Err(Problem::bad_request("the file was uploaded for another circle; upload it for this one")),
            None => Err(Problem::not_found(format!("no upload {id:?} waits to be published; upload the file again"))),
        }
    }

    fn published(&self, id: &str) -> Option<(CircleId, AttachmentRef)> {
        self.waiting().remove(id)
    }
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Absent | Error::Damaged => Problem::new("incomplete", error),
        Error::File(_) | Error::Closed => Problem::broken(error),
    }
}

impl Api {
    /// An entry or a draft that is durable names these uploads now.
    pub(super) fn settle_uploads(&self, ids: &[String]) {
        for (circle, attachment) in ids.iter().filter_map(|id| self.uploads.published(id)) {
            self.node.chunks.settled(&circle, &attachment.chunks);
        }
    }

    /// Takes a file in: every megabyte is sealed and durable before the next is read.
    pub async fn upload<E: std::fmt::Display>(
        &self,
        circle: &str,
        name: String,
        media_type: String,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Uploaded, Problem> {
        let circle = self.find(circle).await?;
        AttachmentRef::check_name(&name).map_err(Problem::bad_request)?;
        if self.uploads.waiting().len() >= UPLOADS {
            return Err(Problem::refused("64 uploads wait to be published; publish them, or restart the daemon"));
        }
        let most = u64::try_from(AttachmentRef::CHUNKS_MOST * CHUNK_BYTES).unwrap_or(u64::MAX);
        let secret = random();
        let mut chunks: Vec<ChunkHash> = Vec::new();
        let mut gathered: Vec<u8> = Vec::with_capacity(CHUNK_BYTES);
        let mut size = 0;
        loop {
            let part = body.next().await.transpose().map_err(|error| {
                Problem::bad_request(format!("the file broke off after {size} bytes: {error}; upload it again"))
            })?;
            let last = part.is_none();
            let mut rest = part.unwrap_or_default();
            size += rest.len() as u64;
            if size > most {
                return Err(Problem::refused(format!("an attachment has at most {most} bytes; split the file")));
            }
            loop {
                let room = (CHUNK_BYTES - gathered.len()).min(rest.len());
                gathered.extend_from_slice(&rest.split_to(room));
                let due = gathered.len() == CHUNK_BYTES || (last && !gathered.is_empty());
                if !due {
                    break;
                }
                let plaintext = std::mem::replace(&mut gathered, Vec::with_capacity(CHUNK_BYTES));
                let store = self.node.chunks.clone();
                let seal = move || store.seal(&circle, &EpochKey::from_bytes(secret), &plaintext);
                chunks.push(tokio::task::spawn_blocking(seal).await.map_err(Problem::broken)?.map_err(problem)?);
            }
            if last {
                break;
            }
        }
        let attachment = AttachmentRef::new(name, media_type, size, secret, chunks).map_err(Problem::bad_request)?;
        let id = Hash(random()).to_string()[..24].to_owned();
        self.uploads.waiting().insert(id.clone(), (circle, attachment));
        Ok(Uploaded { id, size })
    }

    /// Gives an attachment out, opened, chunk by chunk. What is missing is asked for first.
    pub async fn attachment(
        &self,
        named: &str,
        index: usize,
    ) -> Result<(AttachmentRef, impl Stream<Item = Result<Bytes, std::io::Error>> + use<>), Problem> {
        let (key, seq, _) = self.locate(named).await?;
        let (_, payload) = self.opened(key, seq).await?;
        let payload = payload.map_err(Problem::refused)?;
        let attachment = payload.attachments.get(index).cloned().ok_or_else(|| {
            Problem::not_found(format!(
                "the entry has {} attachments; `cwn read {named}` lists them",
                payload.attachments.len()
            ))
        })?;
        let missing = attachment.chunks.iter().filter(|chunk| !self.node.chunks.holds(&key.circle, chunk)).count();
        if missing > 0 {
            self.node.fetches.asked(key.circle, attachment.clone());
            let remedy = match self.node.config.network.offline {
                false => {
                    "they are fetched from now on, while a partner that has them is connected (`cwn peers`): try again in a moment"
                }
                true => {
                    "this node is kept offline and fetches nothing: ask a member for a file of `cwn export --attachments`, and import it"
                }
            };
            let parts = attachment.chunks.len();
            return Err(Problem::new("incomplete", format!("{missing} of {parts} parts are not here yet; {remedy}")));
        }
        let chunks = attachment.chunks.clone();
        let store = self.node.chunks.clone();
        let (fetches, damaged) = (self.node.fetches.clone(), attachment.clone());
        let secret = Arc::new(EpochKey::from_bytes(attachment.key_bytes()));
        let stream = futures::stream::iter(chunks).then(move |chunk| {
            let (store, secret) = (store.clone(), Arc::clone(&secret));
            async move {
                let open = move || store.open(&key.circle, &chunk, &secret);
                tokio::task::spawn_blocking(open).await.map_err(std::io::Error::other)
            }
        });
        let stream = stream.map(move |opened| {
            let opened = opened?;
            if matches!(opened, Err(Error::Absent | Error::Damaged)) {
                fetches.asked(key.circle, damaged.clone());
            }
            opened.map(Bytes::from).map_err(std::io::Error::other)
        });
        Ok((attachment, stream))
    }
}
