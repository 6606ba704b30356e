//! Planted bugs: small wrong versions of this engine, to see that a simulation would notice.
//!
//! Each bug is an `if` of a line or two where it would stand had somebody written it. They exist behind the feature
//! `planted-bugs` alone, which `cwn-sim` turns on and nobody else; without it every such `if` is `if false`. With it
//! a bug must still be planted, in the thread that shall have it.
//!
//! `cwn-sim mutants` shows which checker catches each. A new promise, or a new way to break an old one, has its line
//! here and its `if` in the code.

#![cfg_attr(
    not(feature = "planted-bugs"),
    allow(
        unreachable_pub,
        dead_code,
        reason = "only with the feature is this public, and the simulation's disk asked"
    )
)]

use crate::{engine::Engine, log::Decoded};

macro_rules! bugs {
    ($($(#[doc = $about:literal])+ $name:ident,)+) => {
        /// What can be planted, in the order of the promises that it breaks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[doc = $about])+ $name,)+
        }

        #[cfg(feature = "planted-bugs")]
        impl Bug {
            /// All of them, each with what is wrong.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, concat!($($about),+)),)+];
        }
    };
}

bugs! {
    // I1: only members read.
    /// A new epoch's key is wrapped to members whose certificates were revoked, too.
    WrapToRevoked,
    /// What is written is sealed to the newest epoch at hand, whoever has left since.
    SealToStaleEpoch,
    /// What was sealed is written though who belongs changed meanwhile.
    SealedForThoseBefore,
    /// Circles are handed to connected nodes that do not belong to them.
    WelcomeStrangers,
    /// Who was removed is spoken to about the circle as before.
    GoOnWithRemoved,
    /// Removals end nothing.
    IgnoreRemoval,
    /// The key of an epoch is handed to newcomers though the policy of its time did not let them in.
    GiveEveryKey,

    // I2: only the certified connect.
    /// A session with a revoked node goes on.
    SpeakToRevoked,
    /// Circles are shown and joined though nobody certified their founder.
    OfferUncertified,
    /// That somebody was certified as a node of one's own partner raises no alarm.
    QuietAboutOwnPartner,

    // I3: acknowledged is durable.
    /// The store says that writes are durable, and syncs them with later ones.
    SkipSync,
    /// Heights are announced as soon as entries arrive.
    AnnounceBeforeStored,
    /// Commands are answered as soon as they are understood.
    ReplyBeforeStored,
    /// Entries count as accepted here while they are on their way to the store.
    AcceptBeforeStored,
    /// An epoch is sealed to before its record is durable.
    UseEpochBeforeDurable,
    /// What expires is dropped by a clock that nobody else's agrees with.
    DropInDoubt,
    /// What expires is dropped half a day early.
    DropEarly,
    /// A retention that was shortened is acted on at once.
    ShortenAtOnce,
    /// An entry is taken without its payload, though it is not yet to be dropped.
    TakeWithoutPayload,

    // I4: members that can talk converge.
    /// Entries of revoked authors are not taken any more.
    RevocationInAcceptance,
    /// Entries from ahead of this node's clock are not taken.
    ClockInAcceptance,
    /// An `add` undoes a removal that has not seen it.
    AddUndoesConcurrentRemove,
    /// Whether an `add` undoes a removal goes by which of them arrived last.
    FoldByArrival,
    /// A removal ends a stewardship of better rank.
    WorseRankRemoves,
    /// Of concurrent policies the one that arrived last counts.
    PolicyByArrival,
    /// Dismissals end no stewardship.
    IgnoreDismissal,
    /// A later cut of the same rank does not replace an earlier one.
    CutNeverReplaced,
    /// Who is removed once more gets back what its first removal put aside, when its later logs cite that.
    CutTakesInAside,
    /// Whoever dismisses a steward voids one operation less than its cut says.
    VoidOneLess,
    /// Half of all logs are left out of tips, and so of digests.
    DigestLeavesLogsOut,
    /// Control logs are left out of tips when they are cited.
    CitedControlLeftOut,
    /// An operation that rot took, and that came again, counts once more.
    CountTwice,
    /// A forked log goes on where each member stands.
    ForkGoesOn,
    /// The proof of a fork is not handed on.
    ForkKeptQuiet,
    /// Whoever holds another branch than a cut names keeps that one.
    OtherBranchStays,
    /// Operations behind a fork are handed to nobody who lacks them.
    BranchesKeptQuiet,
    /// A circle whose charter rotted is not joined again.
    LostForGood,

    // I5: only what its author signed, within its cut.
    /// Signatures are not looked at.
    SkipSignature,
    /// The first signature of a run vouches for what follows it.
    TrustFirstSignature,
    /// A run stands when any of its signatures holds.
    OneSignatureForTheBatch,
    /// That an entry follows the one before it is not checked.
    SkipHashLink,
    /// Entries beyond a cut are accepted.
    AcceptBeyondCut,
    /// A cut reaches one entry too far.
    CutOneTooFar,
    /// An entry may be sealed to an epoch whose writers do not include its author.
    AnybodysEpoch,

    // I6: no resurrection.
    /// What was taken back is shown again after a start.
    ForgetRetractions,
    /// What was taken back is shown again where the note of it rotted.
    RotUnhides,
    /// What was taken back is shown again where a crash left the note of it out.
    TrustTheTail,
    /// What was taken back stays on the disk.
    NeverErase,
    /// What others took back stays on the disk, and what one took back oneself goes.
    KeepOfOthers,
    /// What was taken back is erased at once.
    EraseAtOnce,
    /// Lists are not told what was taken back.
    RetractUntold,
    /// Entries that take something back are dropped by time like any.
    DropRetractions,

    // Retention: what time lets go is gone some time after.
    /// What is older than its circle keeps it stays.
    KeepForEver,
    /// What expired stays.
    KeepExpired,

    // I7: bounded.
    /// Peers that do not keep to the protocol are never disconnected.
    ForgiveFaults,
    /// Every height that a peer says it holds is remembered.
    RememberEveryHeight,
    /// Every circle that a peer offers is remembered.
    RememberEveryOffer,
    /// However much there is of a member, it is taken.
    IgnoreQuota,
    /// Digests are said every second.
    DigestEverySecond,
    /// However often a peer says that it holds something else, all is compared.
    CompareWithoutEnd,
    /// A circle is offered while what names the newcomer is on its way to the store.
    WelcomeBeforeDurable,

    // I8: no single point.
    /// Nothing is done unless the issuer was heard within the hour.
    NeedTheIssuer,
    /// No circle is founded unless the issuer was heard within the hour, and all else is done.
    NeedTheIssuerToFound,

    // I9: what a node does not know it says.
    /// A node counts as current from its start.
    CurrentAtOnce,
    /// Statements say one entry more than is durably held.
    HeldClaimsMore,
    /// What does not open is forgotten at a start.
    ForgetUnopenable,
    /// Statements leave out what a listed log cites, held or not.
    CitedTakenForHeld,
    /// Statements are not said to peers that connect.
    HeldUnsaidOnConnect,

    // I10: no self-fork.
    /// A log's id is the same after every start.
    ReuseLogId,

    // I11: a marking never widens.
    /// What is for some partners is sealed to all members.
    SealNamedToAll,

    // Liveness: once all can talk, nobody lacks what others hold.
    /// What was asked of a peer that went away is asked of nobody else.
    WaitForTheGone,
    /// A run that stalls is waited for.
    WaitForStalled,
    /// Epoch records that rotted are asked of nobody.
    LostRecordsStay,
    /// Keys of older epochs are handed to nobody.
    KeepKeys,
    /// That frames to a peer were lost changes nothing.
    ForgetLosses,
    /// Damage that one write meets swallows what the others owe.
    DamageSwallowsReplies,
}

#[cfg(feature = "planted-bugs")]
mod thread {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in every engine of this thread, in place of the one before.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this thread has a bug.
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use thread::{plant, planted};

/// No bug is planted.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

impl Engine {
    /// Whether a planted bug keeps an entry from being taken for what only this node knows at this moment.
    pub(crate) fn shuns(&self, entry: &Decoded) -> bool {
        let header = entry.header();
        planted(Bug::ClockInAcceptance) && header.time > self.wall
            || planted(Bug::RevocationInAcceptance) && self.word().revocation(&header.author).is_some()
    }
}
