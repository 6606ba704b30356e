//! What cannot be sealed yet: kept, published by itself when it may be, and sealed before that only on record.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use cwn_engine::engine::Engine;
use cwn_node::{
    api::{
        client::Error,
        types::{
            DraftDetail, DraftSummary, Id, Membership, NewEntry, Publication, PublishDraft, Published, Status,
        },
    },
    drafts::Override,
};
use cwn_tests::world::World;
